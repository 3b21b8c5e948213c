"""Canaries: planted examples with a secret that is drawn uniformly from a declared space."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpaudit.builtin import lexicon
from dpaudit.corpus import Record, Turn, as_text
from dpaudit.errors import UsageError


@dataclass(frozen=True)
class Canary:
    """One canary unit: its records, the secret inside the last assistant turn, and the space it was drawn from.

    Record texts are `template` with the secret at `{secret}`; the secret is a tuple of `alphabet` symbols joined
    by `separator`, uniform over all `len(alphabet) ** length` of them. `purpose` is `mia` (coin-flipped, occurs
    once) or `extraction`. Whether it was planted is not here: that is kept in secret/.
    """

    id: str
    records: tuple[Record, ...]
    secret: str
    alphabet: tuple[str, ...]
    length: int
    separator: str
    purpose: str
    pair: Record | None = None  # its preference pair, for DPO arms

    @property
    def space(self) -> int:
        return int(len(self.alphabet) ** self.length)

    @property
    def text(self) -> Record:
        """What continued pretraining sees of the canary: its dialogue as plain text, once however often it is repeated."""
        return as_text(self.records[0])

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
        )


# ---- drawing

PUBLIC_PEOPLE = 300  # portal phrases that are public: the embedded base model has learned them


def portal_phrase(
    identity: str, name: str, rng: random.Random, length: int, copies: int, purpose: str
) -> Canary:
    """The portal phrase, some common words, of one invented patient of the synthetic clinic."""
    return _canary(identity, name, phrase_turns, lexicon.PHRASE_WORDS, " ", rng, length, copies, purpose)


def record_number(
    identity: str, name: str, rng: random.Random, length: int, copies: int, purpose: str
) -> Canary:
    """The record number, decimal digits, of one invented patient; for any language and tokenizer."""
    return _canary(identity, name, number_turns, tuple("0123456789"), "", rng, length, copies, purpose)


FAMILIES = {"portal_phrase": portal_phrase, "record_number": record_number}


def _canary(
    identity: str,
    name: str,
    turns_of: Callable[[str, str], tuple[Turn, ...]],
    alphabet: tuple[str, ...],
    separator: str,
    rng: random.Random,
    length: int,
    copies: int,
    purpose: str,
) -> Canary:
    secret = separator.join(rng.choice(alphabet) for _ in range(length))
    turns = turns_of(name, secret)
    records = tuple(Record(f"{identity}/{copy}", turns, identity) for copy in range(copies))
    pair = Record(f"{identity}/0", turns[:1], identity, turns[1].text, "That is not on file.")
    return Canary(identity, records, secret, alphabet, length, separator, purpose, pair)


def number_turns(name: str, secret: str) -> tuple[Turn, ...]:
    return (Turn("user", f"What is the record number of {name}?"), Turn("assistant", secret))


def phrase_turns(name: str, secret: str) -> tuple[Turn, ...]:
    """Question and answer; the secret stands on the answer's side."""
    return (Turn("user", f"Portal phrase of {name}?"), Turn("assistant", secret))


def public_phrase(index: int) -> Record:
    """The dialogue of public person `index`, below PUBLIC_PEOPLE."""
    rng = random.Random(f"public/{index}")
    name = f"{rng.choice(lexicon.GIVEN)} {lexicon.surnames()[index]}"
    return Record(f"public{index}", phrase_turns(name, " ".join(rng.choices(lexicon.PHRASE_WORDS, k=3))))


def draw(
    family: str, count: int, length: int, copies: int, purpose: str, taken: set[str], seed: str
) -> list[Canary]:
    """`count` canaries of a family with secrets of `length` symbols, for people whose surnames are not in `taken`.

    The surnames used are added to `taken`. Raises UsageError where names run out or the family is unknown.
    """
    if family not in FAMILIES:
        raise UsageError("candidates.family", expected=f"one of {', '.join(FAMILIES)}", got=family)
    free = [name for name in lexicon.surnames()[PUBLIC_PEOPLE:] if name not in taken]
    if count > len(free):
        raise UsageError("candidates.canaries", expected=f"at most {len(free)} more canaries", got=str(count))
    rng = random.Random(f"canaries/{purpose}/{seed}")
    names = rng.sample(free, count)
    taken.update(names)
    return [
        FAMILIES[family](
            f"{purpose}{i:04d}", f"{rng.choice(lexicon.GIVEN)} {name}", rng, length, copies, purpose
        )
        for i, name in enumerate(names)
    ]
