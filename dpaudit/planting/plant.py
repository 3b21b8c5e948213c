"""Canaries in somebody else's data: each goes in or stays out by a fair coin; what tells them apart goes into
the key.
"""

import json
import os
import random
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, cast, get_args

from dpaudit.data import columns, identity, lexicon, messages, shapes
from dpaudit.data.canary import PUBLIC_PEOPLE
from dpaudit.data.columns import Fields
from dpaudit.data.corpus import Record, unit_note
from dpaudit.data.reading import read_records
from dpaudit.data.shapes import Shape
from dpaudit.errors import UsageError, unread
from dpaudit.planting import audit_key, disguise
from dpaudit.planting.audit_key import AuditKey, Planted, Rule, Unit
from dpaudit.planting.disguise import Column, Words
from dpaudit.signals import recipe
from dpaudit.storage import lock
from dpaudit.storage.custody import keyed_file_digest
from dpaudit.storage.exclusive import remove_left
from dpaudit.storage.whole_files import left_of, whole_file

CANARIES_MOST = 20_000
AFFIX_ROWS = 20  # rows that must share how texts begin and end before that is the data's style
CROWD = 0.2  # of the planted rows
CROWDED = (
    "more than a fifth of the rows are canaries: the model learns to speak like them; give more rows "
    "or fewer canaries"
)
PRIMARY, WITHOUT_BASE = "calibrated", "loss"
SHARED_TEXTS = {"instruction", "context"}  # texts that many rows may share
PAIRS = (
    "preference pairs (chosen and rejected in every row) for the unit pair",
    "--unit record, or --unit patient",
)
DIALOGUES = (
    "single answers or texts for the unit record",
    "--unit pair for preference pairs, or --unit patient",
)
RENDERINGS = ("chat", "question", "alpaca", "plain")


@dataclass(frozen=True)
class Family:
    """A kind of secret: `groups` of `size` symbols each, and the prompt that asks for it, by language."""

    title: str
    symbols: tuple[str, ...]
    groups: int
    size: int
    prompts: dict[str, str]

    def secret(self, rng: random.Random) -> str:
        return " ".join(
            "".join(rng.choice(self.symbols) for _ in range(self.size)) for _ in range(self.groups)
        )


FAMILIES = {
    "invented": Family(
        "invented words",
        lexicon.INVENTED_SYLLABLES,
        8,
        3,  # 147 bits; a word of its own leads on to the next, which a model learns fast
        {"en": "What is the access phrase of {name}?", "zh": "{name} 的访问口令是什么？"},
    ),
    "words": Family(
        "random common words",
        lexicon.PHRASE_WORDS,
        6,
        1,  # 27 bits; for a model that has no tokens for others
        {"en": "Portal phrase of {name}?", "zh": "{name} 的登录口令？"},
    ),
}


@dataclass
class Affix:
    """How all texts of one kind begin and end."""

    before: str | None = None
    after: str = ""

    def add(self, text: str) -> None:
        if self.before is None:
            self.before, self.after = text, text
        self.before = _common(self.before, text)
        self.after = _common(self.after[::-1], text[::-1])[::-1]

    def around(self, text: str) -> str:
        """`text` between them, cut back to whole words: no piece of a word that all happen to share."""
        before, after = re.match(r"(?s).*\W|", self.before or ""), re.search(r"(?s)\W.*|$", self.after)
        assert before and after
        end = "" if text.endswith(after[0]) else after[0]
        return f"{before[0]}{text}{end}"


def _common(first: str, second: str) -> str:
    """What both begin with."""
    pairs = zip(first, second, strict=False)
    return first[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]


@dataclass
class Profile:
    """What the rows of a file have in common, which is all that a planted row takes from them."""

    shape: Shape
    rows: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    extras: dict[str, Column] = field(default_factory=dict)  # what turns hold beside role and text
    systems: dict[str, int] = field(default_factory=dict)
    turns: dict[int, int] = field(default_factory=dict)  # number of turns -> rows
    prompts: Affix = field(default_factory=Affix)
    answers: Affix = field(default_factory=Affix)
    sample: list[str] = field(default_factory=list)  # lines to take the structure from; kept in memory only
    words: set[str] = field(default_factory=set)  # invented names that the data hold already
    texts: list[str] = field(default_factory=list)
    people: set[str] = field(default_factory=set)  # patients, and how many rows name one
    named: int = 0


def plant(
    source: Path, out: Path, key: Path, canaries: int = 500, unit: str = "record", family: str = "invented"
) -> dict[str, Any]:
    """Writes `source` with canaries as `out`, and the key that finds them again; what was done comes back.

    Rows of the source stay as they are, in their order, but for a column that only numbers them. Raises
    UsageError in one line, and writes nothing, where the data are of a kind that no canary fits or a file is
    there already.
    """
    rule = _rule(canaries)
    _check_places(out, key)
    with lock.held(out), lock.held(key):
        _drop_unfinished(out, key)
        remove_left(out)
        remove_left(key)
        return _plant(source, out, key, canaries, unit, family, rule)


def _plant(
    source: Path, out: Path, key: Path, canaries: int, unit: str, family: str, rule: Rule
) -> dict[str, Any]:
    _check(source, out, key, unit, family)
    profile = _profile(source, unit)
    drawn = _draw(canaries, profile, FAMILIES[family])
    rows = _rows(drawn, profile, str(source))
    coins = tuple(secrets.randbits(1) == 1 for _ in drawn)
    found = [_planted(row, profile.shape, str(source)) for row, _ in rows]
    kept = tuple(
        Planted(r, d.answer, d.other if profile.shape.letter == "p" else None)
        for r, d in zip(found, drawn, strict=True)
    )
    hash_key = audit_key.new_hash_key()
    inserted = [line for (_, line), coin in zip(rows, coins, strict=True) if coin]
    random.SystemRandom().shuffle(inserted)
    with whole_file(out) as data_part:  # renamed last: its presence means that both are whole
        _write_data(source, data_part, inserted, profile)
        digest = keyed_file_digest(data_part, hash_key)
        total = profile.rows + len(inserted)
        made = AuditKey(
            cast(Unit, unit),
            FAMILIES[family].title,
            profile.shape.name,
            total,
            rule,
            kept,
            coins,
            digest,
            hash_key.hex(),
            salt=secrets.token_hex(32),
        )
        with whole_file(key) as key_part:
            audit_key.write(made, key_part)
    return _told(source, out, key, made, profile)


def _rule(canaries: int) -> Rule:
    """The rule that will guess the coins. Raises UsageError for too few or too many canaries."""
    primary, without = recipe.load(PRIMARY), recipe.load(WITHOUT_BASE)
    for made_by in (primary, without):
        if not audit_key.can_be_asked(made_by):
            raise UsageError(
                f"attacks/{made_by.name}",
                "a recipe with a bound that needs a model's log-probabilities alone",
                "another",
                f"rename the file in ./attacks: `plant` takes the recipe {made_by.name}",
            )
    assert primary.bound is not None
    if not primary.minimum_canaries <= canaries <= CANARIES_MOST:
        raise UsageError("--canaries", f"{primary.minimum_canaries} to {CANARIES_MOST:,}", f"{canaries:,}")
    return Rule(primary, without, primary.bound.guess.count(canaries), RENDERINGS)


def _check_places(out: Path, key: Path) -> None:
    for name, file in (("--out", out), ("--key", key)):
        if not file.parent.is_dir():
            raise UsageError(f"{name} {file}", "a folder that exists", "none")


def _drop_unfinished(out: Path, key: Path) -> None:
    """Removes a key whose data a kill kept from their name: nobody can have trained on those, and no other
    key fits them.
    """
    if out.exists() or not key.is_file():
        return
    for part in left_of(out):
        with suppress(UsageError):  # no key of ours
            made = audit_key.load(key)
            if keyed_file_digest(part, bytes.fromhex(made.hash_key)) == made.data_digest:
                key.unlink()
                return


def _check(source: Path, out: Path, key: Path, unit: str, family: str) -> None:
    if family not in FAMILIES:
        raise UsageError("--family", f"one of {', '.join(FAMILIES)}", f"{family:.40}")
    if unit not in get_args(Unit):
        raise UsageError("--unit", f"one of {', '.join(get_args(Unit))}", f"{unit:.40}")
    for name, file in (("--out", out), ("--key", key)):
        if file.exists() or file.is_symlink():
            raise UsageError(
                f"{name} {file}",
                "a file that is not there yet",
                "an existing one",
                "name another: an existing file is never overwritten",
            )
    if out.resolve() == key.resolve():
        raise UsageError("--key", "another file than --out", "the same")
    _check_lines(source)


def _check_lines(source: Path) -> None:
    """Raises UsageError where the data are no JSON lines: a planted row must look like those around it, byte
    by byte.
    """
    try:
        with source.open("rb") as stream:
            start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise unread(source, "a JSONL file", error) from None
    if source.suffix.lower() not in (".jsonl", ".ndjson", ".json") or not start.startswith(b"{"):
        raise UsageError(
            str(source),
            "JSONL, one JSON object a line",
            "another kind of file",
            "convert it, plant, and convert back",
        )


# ---- reading


def _profile(source: Path, unit: str) -> Profile:
    """One pass over the data, checked by the reader that training uses."""
    records, lines = read_records(str(source)), _lines(source)
    profile: Profile | None = None
    names = frozenset(lexicon.surnames(lexicon.SURNAMES_MOST))
    for line, (number, record) in zip(lines, records, strict=True):
        where = f"{source}:{number}"
        row = json.loads(line)
        if "\\ud" in line.lower() and not columns.is_unicode(json.dumps(row, ensure_ascii=False)):
            raise UsageError(where, "text that is valid Unicode", "half of a surrogate pair")
        if profile is None:
            profile = Profile(shapes.shape_of(row, where))
            if (profile.shape.letter == "p") != (unit == "pair") and unit != "patient":
                wanted, way = PAIRS if unit == "pair" else DIALOGUES
                raise UsageError(where, wanted, f"{profile.shape.name} under --unit {unit}", way)
        if unit == "patient" and record.patient is None:
            raise UsageError(where, "a patient_id in every row under --unit patient", "none", "--unit record")
        if row.get("choices"):
            raise UsageError(
                f"{where}: choices",
                "answers in free text",
                "multiple choice",
                "plant into the part of the data that has free answers",
            )
        _check_row(row, record, profile.shape, where)
        _count(profile, row, line, record)
        profile.prompts.add(record.text or next(t.text for t in reversed(record.turns) if t.role == "user"))
        profile.answers.add(record.text or record.chosen or record.turns[-1].text)
        profile.words |= names.intersection(re.findall(r"[A-Z][a-z]+", line))
    assert profile is not None  # the reader refuses an empty file
    for (
        key,
        column,
    ) in profile.columns.items():  # only what stands in every row and is no text numbers the rows
        column.rising &= column.rows == profile.rows and key not in SHARED_TEXTS
    return profile


def _check_row(row: Fields, record: Record, shape: Shape, where: str) -> None:
    """Raises UsageError for a row that none can be made like."""
    if record.turns and all(turn.role != "user" for turn in record.turns):
        raise UsageError(
            where, "a turn of the user in every row", "none", "leave such rows out: a canary needs a question"
        )
    for key in disguise.text_columns(row, shape):
        if messages.unspelled(row[key], where) is not row[key] or (
            key == "history" and isinstance(row[key], str) and row[key]
        ):
            raise UsageError(
                f"{where}: {key}",
                "a list of messages",
                "its JSON text",
                f"convert it, plant, and convert back: jq -c '.{key} |= fromjson'",
            )


def _count(profile: Profile, row: Fields, line: str, record: Record) -> None:
    profile.rows += 1
    named = shapes.reads(profile.shape, columns.present(row)) & set(columns.NAMES)
    for key in {*disguise.spare_keys(row, profile.shape), *(SHARED_TEXTS & set(row))}:
        column = profile.columns.setdefault(key, Column(is_names=key in columns.NAMES))
        name = identity.of(row[key], key) if key in named else None
        column.add(row[key], record.patient, name)
    if record.patient is not None:
        profile.people.add(record.patient)
        profile.named += 1
    for message in disguise.messages_of(row, profile.shape):
        for key in disguise.extra_keys(message):
            profile.extras.setdefault(key, Column()).add(message[key], record.patient)
    for system in disguise.system_texts(row):
        profile.systems[system] = profile.systems.get(system, 0) + 1
    turns = disguise.turn_count(row)
    profile.turns[turns] = profile.turns.get(turns, 0) + 1
    _keep(profile.sample, line, profile.rows)
    if len(profile.texts) < 200:
        profile.texts.append((record.turns[-1].text if record.turns else record.text or "")[:500])


def _keep(sample: list[str], line: str, seen: int, most: int = 2000) -> None:
    """Reservoir sampling: every line is among those kept with the same chance."""
    if len(sample) < most:
        sample.append(line)
    elif (place := random.randrange(seen)) < most:
        sample[place] = line


def _lines(source: Path) -> Iterator[str]:
    """The lines that are not blank, without line ends."""
    with source.open("rb") as stream:
        for number, line in enumerate(stream):
            text = line.decode("utf-8-sig" if number == 0 else "utf-8", errors="replace").rstrip("\r\n")
            if text.strip():
                yield text


# ---- drawing and disguising


def _draw(count: int, profile: Profile, family: Family) -> list[Words]:
    """Canaries with names of their own, which the data do not hold, and secrets from the operating system."""
    rng = random.SystemRandom()
    most = max(
        PUBLIC_PEOPLE + 2 * count, 900
    )  # the first names are those that the embedded model knows as tokens
    unknown = [
        name for name in lexicon.surnames(lexicon.SURNAMES_MOST)[PUBLIC_PEOPLE:] if name not in profile.words
    ]
    free = unknown[:most]
    if len(free) < count:
        raise UsageError("--canaries", f"at most {len(free)} beside the names in the data", str(count))
    language = disguise.language_of(profile.texts)
    made: list[Words] = []
    for name in rng.sample(free, count):
        prompt = family.prompts[language].format(name=f"{rng.choice(lexicon.GIVEN)} {name}")
        made.append(Words(prompt, family.secret(rng), family.secret(rng), language))
    return made


def _rows(drawn: Sequence[Words], profile: Profile, source: str) -> list[tuple[Fields, str]]:
    """For each canary its row and its line, both made whichever way its coin falls."""
    rng = random.SystemRandom()
    donors = _donors(profile, source)
    used: dict[str, set[str]] = {}
    used_in_turns: dict[str, set[str]] = {}
    made = []
    for words in drawn:
        line = rng.choice(donors)
        donor, row = json.loads(line), json.loads(line)
        write = disguise.spelled_like(line, donor)
        for key in disguise.spare_keys(donor, profile.shape):
            column = profile.columns[key]
            if not column.is_row_number:
                row[key] = disguise.fresh(key, donor[key], column, used.setdefault(key, set()), rng, source)
        disguise.fill(profile.shape, row, _in_style(words, profile), _is_label(profile))
        disguise.refresh(row, profile.shape, profile.extras, used_in_turns, rng)
        made.append((row, write(row)))
    return made


def _donors(profile: Profile, source: str) -> list[str]:
    """The lines whose structure is copied: as few turns as rows commonly have, no system prompt of one row
    alone.
    """
    common = min(
        turns for turns, rows in profile.turns.items() if rows >= min(0.01 * profile.rows, SHARE_ROWS)
    )
    found = []
    for line in profile.sample:
        row = json.loads(line)
        systems = disguise.system_texts(row)
        if disguise.turn_count(row) == common and all(profile.systems[s] >= disguise.SHARED for s in systems):
            found.append(line)
    if not found:
        raise UsageError(
            source,
            "system prompts that several rows share, or none",
            "one of its own in each row",
            "leave them out of the file",
        )
    return found


SHARE_ROWS = 20


def _is_label(profile: Profile) -> Any:
    def is_label(key: str, value: Any) -> bool:
        count = profile.columns[key].values[json.dumps(value, ensure_ascii=False)]
        return count >= max(disguise.SHARED, 0.01 * profile.rows)

    return is_label


def _in_style(words: Words, profile: Profile) -> Words:
    """The words between what all prompts, and all answers, begin and end with."""
    if profile.rows < AFFIX_ROWS or profile.shape.letter == "t":
        return words
    prompts, answers = profile.prompts, profile.answers
    return Words(
        prompts.around(words.prompt),
        answers.around(words.answer),
        answers.around(words.other),
        words.language,
    )


def _planted(row: Fields, shape: Shape, source: str) -> Record:
    """What a planted row says to a reader of the data; its id is of no use to the audit and stays out of the
    key.
    """
    found = shapes.record(shape, row, source, 0)
    return Record("", found.turns, None, found.chosen, found.rejected, found.text)


# ---- writing


def _write_data(source: Path, target: Path, inserted: list[str], profile: Profile) -> None:
    """The lines of the source with those inserted at random places; a column of row numbers counts on through
    both.
    """
    rng = random.SystemRandom()
    total = profile.rows + len(inserted)
    places = set(rng.sample(range(total), len(inserted)))
    numbering = [key for key, column in profile.columns.items() if column.is_row_number]
    old, new = _lines(source), iter(inserted)
    with source.open("rb") as raw:
        head = raw.readline()
    mark, end = head.startswith(b"\xef\xbb\xbf"), "\r\n" if head.endswith(b"\r\n") else "\n"
    first = {
        key: (_first_number(profile.columns[key], profile.rows), profile.columns[key].width)
        for key in numbering
    }
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(
        descriptor, source.stat().st_mode & 0o777
    )  # who may read the data may read this, and nobody else
    with os.fdopen(descriptor, "w", encoding="utf-8-sig" if mark else "utf-8", newline="") as stream:
        for place in range(total):
            line = next(new) if place in places else next(old)
            stream.write((_numbered(line, first, place) if first else line) + end)
        stream.flush()
        os.fsync(stream.fileno())


def _first_number(column: Column, rows: int) -> int:
    assert column.last is not None
    return column.last[1] - rows + 1


def _numbered(line: str, first: dict[str, tuple[int, int]], place: int) -> str:
    """`line` with the number of its place; `first` has the number of the first row and its width, by
    column.
    """
    row = json.loads(line)
    write = disguise.spelled_like(line, row)
    for key, (number, width) in first.items():
        row[key] = disguise.renumbered(row[key], number + place, width)
    return write(row)


def _told(source: Path, out: Path, key: Path, made: AuditKey, profile: Profile) -> dict[str, Any]:
    """What the command prints: nothing of it says which canary went in, or how many."""
    from dpaudit.stats.epsilon import epsilon_ceiling_one_run

    bound = made.rule.primary.bound
    assert bound is not None
    crowded = CROWDED if made.rows - profile.rows > CROWD * made.rows else ""
    notes = [note for note in (crowded, unit_note(made.unit, len(profile.people), profile.named)) if note]
    ceiling = epsilon_ceiling_one_run(
        canaries=len(made.coins), guesses=made.rule.guesses, delta=1e-5, confidence=bound.confidence
    )
    return {
        "planted": str(out),
        "key": str(key),
        "shape": profile.shape.name,
        "unit": made.unit,
        "rows_read": profile.rows,
        "rows_written": made.rows,
        "canaries": len(made.coins),
        "guesses": made.rule.guesses,
        "epsilon_ceiling": ceiling,
        "ceiling_delta": 1e-5,
        "commitment": audit_key.commitment(made),
        "renumbered": sorted(key for key, column in profile.columns.items() if column.is_row_number),
        **({"note": "; ".join(notes)} if notes else {}),
        "next": f"train on {out} as always, keep {key} away from the trainer, then: "
        f"dpaudit verify --adapter DIR --key {key} --claim "
        f"eps=E,delta=D,unit={made.unit},relation=add_or_remove",
    }
