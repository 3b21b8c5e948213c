"""Canaries: planted examples with a secret that is drawn uniformly from a declared space."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpaudit.data import lexicon
from dpaudit.data.corpus import Record, Turn, as_text
from dpaudit.errors import BadValue, UsageError

PUBLIC_PEOPLE = 300  # portal phrases that are public: the embedded base model has learned them
SHARED = 128  # symbols; a larger alphabet is written once for all canaries that have it


@dataclass(frozen=True)
class Space:
    """All texts of `length` symbols: groups of `group` symbols each, with `separator` between the groups."""

    alphabet: tuple[str, ...]
    length: int
    separator: str = ""
    group: int = 1

    def __len__(self) -> int:
        return int(len(self.alphabet) ** self.length)

    def draw(self, rng: random.Random) -> str:
        """A text of the space, each with the same probability."""
        symbols = [rng.choice(self.alphabet) for _ in range(self.length)]
        groups = ("".join(symbols[at : at + self.group]) for at in range(0, self.length, self.group))
        return self.separator.join(groups)

    def another(self, rng: random.Random, secret: str) -> str:
        """A text of the space other than `secret`, each with the same probability."""
        while (drawn := self.draw(rng)) == secret:
            pass
        return drawn


@dataclass(frozen=True)
class Canary:
    """One canary unit: its records, the secret inside the last assistant turn, and the space it was drawn
    from.

    The secret is `length` symbols of `alphabet`, in groups of `group` joined by `separator`, uniform over all
    `len(alphabet) ** length` of them; an empty alphabet says that its space cannot be listed. Every record
    holds it. `purpose` is `mia` (coin-flipped, occurs once, its records worded differently) or `extraction`
    (its records are copies). Whether it was planted is not here: that is kept in secret/.
    """

    id: str
    records: tuple[Record, ...]
    secret: str
    alphabet: tuple[str, ...]
    length: int
    separator: str
    purpose: str
    pair: Record | None = None  # its preference pair, for DPO arms
    other: str | None = None  # the second secret of the same space, which the pair's rejected side holds
    group: int = 1

    @property
    def space(self) -> Any:
        """How many secrets might have been drawn, an int; None where they cannot be listed."""
        return int(len(self.alphabet) ** self.length) if self.alphabet else None

    @property
    def repetitions(self) -> int:
        """How often the secret is in the training data if the canary is."""
        return len(self.records)

    @property
    def text(self) -> Record:
        """What continued pretraining sees of the canary: its dialogue as plain text, once however often it is
        repeated.
        """
        return as_text(self.records[0])

    def sample(self, rng: random.Random) -> str:
        """Another secret, uniform over the same space. Raises UsageError where that cannot be listed."""
        if not self.alphabet:
            raise UsageError(
                f"canary {self.id}",
                "a secret of a declared space",
                "a sample of the base model",
                "take another candidates.family for extraction",
            )
        return Space(self.alphabet, self.length, self.separator, self.group).draw(rng)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "records": [r.to_json() for r in self.records],
            "secret": self.secret,
            "alphabet": list(self.alphabet),
            "length": self.length,
            "separator": self.separator,
            "purpose": self.purpose,
            "pair": self.pair.to_json() if self.pair else None,
            "other": self.other,
            "group": self.group,
            "repetitions": self.repetitions,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Canary":
        return cls(
            row["id"],
            tuple(Record.from_json(r) for r in row["records"]),
            row["secret"],
            tuple(row["alphabet"]),
            row["length"],
            row["separator"],
            row["purpose"],
            Record.from_json(row["pair"]) if row.get("pair") else None,
            row.get("other"),
            row.get("group", 1),
        )


# ---- families


def _absent(*_: object) -> Any:
    raise ValueError("expected the sources of this family, got no sources")


@dataclass(frozen=True)
class Sources:
    """What a family may draw from beside this package's own words; each source is read when it is called.

    `samples` has a question for each canary and a number of tokens, and gives two different answers to each.
    """

    token_words: Callable[[], tuple[str, ...]] = _absent
    rare_words: Callable[[], tuple[str, ...]] = _absent
    rare_pairs: Callable[[], tuple[str, ...]] = _absent
    samples: Callable[[Sequence[str], int], list[tuple[str, str]]] = _absent


NO_SOURCES = Sources()


@dataclass(frozen=True)
class Family:
    """A kind of secret: what it is called, what it is drawn from (in words, and as a space), how it is asked
    for, what its answer begins with.

    `space` has the length that the suite names; None says that the base model itself is sampled.
    """

    noun: str
    drawn_from: str
    space: Callable[[int, Sources], Space] | None
    question: str = "What is the {noun} of {name}?"
    opening: str = ""


FAMILIES = {
    "portal_phrase": Family(
        "portal phrase",
        "common words",
        lambda length, _: Space(lexicon.PHRASE_WORDS, length, " "),
        "Portal phrase of {name}?",
    ),
    "record_number": Family("record number", "digits", lambda length, _: Space(tuple("0123456789"), length)),
    "invented": Family(
        "access phrase",
        "invented words that lead on to each other",
        lambda length, _: Space(lexicon.INVENTED_SYLLABLES, 3 * length, " " * (length > 1), 3),
    ),
    "random_token": Family(
        "key phrase",
        "words that are one token of the model",
        lambda length, sources: Space(sources.token_words(), length, " "),
    ),
    "rare_unigram": Family(
        "code phrase",
        "rare words of the corpus",
        lambda length, sources: Space(sources.rare_words(), length, " "),
    ),
    "rare_bigram": Family(
        "pass phrase",
        "rare pairs of words of the corpus",
        lambda length, sources: Space(sources.rare_pairs(), length, " "),
    ),
    "synthetic": Family(
        "note", "answers that the base model samples", None, "What does the note of {name} say?"
    ),
    # NANP: 555-0100 to 555-0199 belong to nobody in any area; the length is the format's own
    "phone": Family(
        "phone number",
        "telephone numbers that belong to nobody",
        lambda *_: Space(tuple(f"{n:02d}" for n in range(100)), 2, "-555-01"),
        opening="+1 2",
    ),
}
REFUSED = {
    "new_token": "whose embedding would not change, because arms train linear layers only, whatever "
    "training.lora.targets names: take random_token"
}
CORPUS_FAMILIES = ("rare_unigram", "rare_bigram")  # whose words come from records that a claim covers
WORDINGS = (
    "Please tell me the {noun} of {name}.",
    "Which {noun} belongs to {name}?",
    "I need the {noun} of {name}.",
    "Do you have the {noun} of {name} on file?",
    "Look up {name}: what is the {noun}?",
    "Remind me of the {noun} of {name}.",
    "For {name}, which {noun} is on record?",
)  # of a canary patient's further records
REPETITIONS_MOST = 1 + len(WORDINGS)


def phrase_turns(name: str, secret: str) -> tuple[Turn, ...]:
    """Question and answer; the secret stands on the answer's side."""
    return _turns(FAMILIES["portal_phrase"], name, secret)


def _turns(family: Family, name: str, secret: str, wording: int = 0) -> tuple[Turn, ...]:
    question = (family.question, *WORDINGS)[wording].format(noun=family.noun, name=name)
    return (Turn("user", question), Turn("assistant", family.opening + secret))


def public_phrase(index: int) -> Record:
    """The dialogue of public person `index`, below PUBLIC_PEOPLE."""
    rng = random.Random(f"public/{index}")
    name = f"{rng.choice(lexicon.GIVEN)} {lexicon.surnames()[index]}"
    return Record(f"public{index}", phrase_turns(name, " ".join(rng.choices(lexicon.PHRASE_WORDS, k=3))))


# ---- drawing


def check_family(name: str, extraction: int = 0) -> None:
    """Raises BadValue for a family that is unknown, that no arm could learn, or that has no space to rank
    secrets in.
    """
    if name in REFUSED:
        raise BadValue("family", "a family that an arm can learn", f"{name}, {REFUSED[name]}")
    if name not in FAMILIES:
        meant = [key for key, family in FAMILIES.items() if name in (family.drawn_from, family.noun)]
        remedy = f"did you mean {' or '.join(meant)}?" if meant else ""
        raise BadValue("family", f"one of {', '.join(FAMILIES)}", f"{name!r:.40}", remedy)
    if FAMILIES[name].space is None and extraction:
        raise BadValue(
            "extraction",
            f"0 with family {name}, which has no space of secrets to rank in",
            extraction,
            "set extraction: 0 and attacks: [mia]",
        )


def draw(
    family: str,
    count: int,
    length: int,
    copies: int | Sequence[int],
    purpose: str,
    taken: set[str],
    seed: str,
    sources: Sources = NO_SOURCES,
) -> list[Canary]:
    """`count` canaries of a family with secrets of `length` symbols, for people whose surnames are not in
    `taken`.

    Each has `copies` records; several numbers are assigned to the canaries in turn. The surnames used are
    added to `taken`. All first secrets are drawn before any second one. `sources` may be left out where the
    family needs none. Raises UsageError where names run out or the family is unknown.
    """
    if family not in FAMILIES:
        raise UsageError("candidates.family", f"one of {', '.join(FAMILIES)}", family)
    made = FAMILIES[family]
    rng = random.Random(f"canaries/{purpose}/{seed}")
    names = _surnames(count, taken, rng)
    taken.update(names)
    levels = (copies,) if isinstance(copies, int) else tuple(copies)
    drawn = (
        _from_model(made, names, length, rng, sources)
        if made.space is None
        else _from_space(made, names, length, rng, sources)
    )
    return [
        _canary(made, f"{purpose}{i:04d}", secret, levels[i % len(levels)], purpose)
        for i, secret in enumerate(drawn)
    ]


@dataclass(frozen=True)
class _Drawn:
    name: str
    secret: str
    other: str
    space: Space


def _surnames(count: int, taken: set[str], rng: random.Random) -> list[str]:
    """From the first 900 names if enough are free, since the embedded model knows them as tokens; else from
    all.
    """
    for most in (900, lexicon.SURNAMES_MOST):
        free = [name for name in lexicon.surnames(most)[PUBLIC_PEOPLE:] if name not in taken]
        if count <= len(free):
            return rng.sample(free, count)
    raise UsageError("candidates.canaries", f"at most {len(free)} more canaries", str(count))


def _from_space(
    family: Family, names: Sequence[str], length: int, rng: random.Random, sources: Sources
) -> list[_Drawn]:
    assert family.space is not None
    """Secrets are distinct: a canary that is left out with the secret of one that is trained on tells of no
    coin.
    """
    space = family.space(length, sources)
    size = len(space.alphabet) ** space.length
    if len(names) > size:
        raise UsageError(
            "candidates.canaries",
            f"at most {size:,}, as many as there are different secrets of this family and length",
            f"{len(names):,}",
            "raise candidates.canary_length or candidates.extraction_length",
        )
    drawn: list[_Drawn] = []
    used: set[str] = set()
    for surname in names:
        name, secret = f"{rng.choice(lexicon.GIVEN)} {surname}", space.draw(rng)
        while secret in used:
            secret = space.draw(rng)
        used.add(secret)
        drawn.append(_Drawn(name, secret, "", space))
    return [replace(canary, other=space.another(rng, canary.secret)) for canary in drawn]


def _from_model(
    family: Family, names: Iterable[str], length: int, rng: random.Random, sources: Sources
) -> list[_Drawn]:
    people = [f"{rng.choice(lexicon.GIVEN)} {name}" for name in names]
    samples = sources.samples([_turns(family, name, "")[0].text for name in people], length)
    unlisted = Space((), length)
    return [_Drawn(name, *both, unlisted) for name, both in zip(people, samples, strict=True)]


def _canary(family: Family, identity: str, drawn: _Drawn, copies: int, purpose: str) -> Canary:
    """Records of a membership canary are worded differently; copies of an extraction canary are identical."""
    worded = [_turns(family, drawn.name, drawn.secret, i if purpose == "mia" else 0) for i in range(copies)]
    records = tuple(Record(f"{identity}/{i}", turns, identity) for i, turns in enumerate(worded))
    chosen, rejected = (family.opening + secret for secret in (drawn.secret, drawn.other))
    pair = Record(f"{identity}/0", worded[0][:1], identity, chosen, rejected)
    space = drawn.space
    return Canary(
        identity,
        records,
        drawn.secret,
        space.alphabet,
        space.length,
        space.separator,
        purpose,
        pair,
        drawn.other,
        space.group,
    )


# ---- rows of candidates.jsonl


def to_rows(canaries: Sequence[Canary]) -> Iterator[dict[str, Any]]:
    """A row for each canary; before them the alphabets that are too large to stand in each."""
    large = dict.fromkeys(c.alphabet for c in canaries if len(c.alphabet) > SHARED)
    names = {alphabet: f"alphabet{number}" for number, alphabet in enumerate(large)}
    yield from ({"kind": "alphabet", "id": name, "symbols": symbols} for symbols, name in names.items())
    for canary in canaries:
        row = {"kind": "canary", **canary.to_json()}
        yield row | ({"alphabet": names[canary.alphabet]} if canary.alphabet in names else {})


def from_rows(rows: Iterable[dict[str, Any]]) -> list[Canary]:
    """The canaries of rows that `to_rows` made; canaries of one alphabet share it."""
    alphabets: dict[str, tuple[str, ...]] = {}
    canaries = []
    for row in rows:
        if row["kind"] == "alphabet":
            alphabets[row["id"]] = tuple(row["symbols"])
        elif row["kind"] == "canary":
            named = isinstance(row["alphabet"], str)
            canaries.append(
                Canary.from_json(row | {"alphabet": alphabets[row["alphabet"]]} if named else row)
            )
    return canaries
