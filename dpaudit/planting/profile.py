"""The shared features of a data file's rows, which are all that a planted row takes from them."""

import json
import random
import re
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from dpaudit.data import columns, identity, lexicon, messages, shapes
from dpaudit.data.columns import Fields
from dpaudit.data.corpus import Record
from dpaudit.data.reading import read_records
from dpaudit.data.shapes import Shape
from dpaudit.errors import UsageError
from dpaudit.planting import disguise
from dpaudit.planting.disguise import Column
from dpaudit.planting.formats import lines_of

SAMPLE = 5000  # rows that are kept, to make others like them
SHARED_TEXTS = {"instruction", "context"}  # texts that many rows may share
PAIRS = (
    "preference pairs (chosen and rejected in every row) for the unit pair",
    "--unit record, or --unit patient",
)
DIALOGUES = (
    "single answers or texts for the unit record",
    "--unit pair for preference pairs, or --unit patient",
)


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
        """`text` between them, cut back to whole words, so that no shared piece of a word is copied."""
        before, after = re.match(r"(?s).*\W|", self.before or ""), re.search(r"(?s)\W.*|$", self.after)
        assert before and after
        end = "" if text.endswith(after[0]) else after[0]
        return f"{before[0]}{text}{end}"


def _common(first: str, second: str) -> str:
    """The common beginning of both."""
    pairs = zip(first, second, strict=False)
    return first[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]


@dataclass(frozen=True)
class Sampled:
    """A line of the file, and the record that it holds."""

    line: str
    record: Record


@dataclass
class Profile:
    """The shared features of a file's rows, which are all that a planted row takes from them."""

    shape: Shape
    rows: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    extras: dict[str, Column] = field(default_factory=dict)  # what turns hold beside role and text
    systems: dict[str, int] = field(default_factory=dict)
    turns: dict[int, int] = field(default_factory=dict)  # number of turns -> rows
    prompts: Affix = field(default_factory=Affix)
    answers: Affix = field(default_factory=Affix)
    sample: list[Sampled] = field(default_factory=list)  # to take the structure from; kept in memory only
    words: set[str] = field(default_factory=set)  # invented names that the data hold already
    texts: list[str] = field(default_factory=list)
    people: set[str] = field(default_factory=set)  # patients, and how many rows name one
    named: int = 0


def profile_of(source: Path, unit: str) -> Profile:
    """One pass over the data, checked by the reader that training uses."""
    records, lines = read_records(str(source)), lines_of(source)
    profile: Profile | None = None
    names = frozenset(lexicon.surnames(lexicon.SURNAMES_MOST))
    for line, (number, record) in zip(lines, records, strict=True):
        where = f"{source}:{number}"
        row = json.loads(line)
        if "\\ud" in line.lower() and not columns.is_unicode(json.dumps(row, ensure_ascii=False)):
            raise UsageError(where, "text that is valid Unicode", "half of a surrogate pair")
        if profile is None:
            profile = Profile(shapes.shape_of(row, where))
            _check_unit(profile.shape, unit, where)
        if unit == "patient" and record.patient is None:
            raise UsageError(
                where, "a patient_id in every row under --unit patient", "a row without one", "--unit record"
            )
        _check_row(row, record, profile.shape, where)
        _count(profile, row, line, record)
        profile.prompts.add(record.text or next(t.text for t in reversed(record.turns) if t.role == "user"))
        profile.answers.add(record.text or record.chosen or record.turns[-1].text)
        profile.words |= names.intersection(re.findall(r"[A-Z][a-z]+", line))
    assert profile is not None  # the reader refuses an empty file
    for key, column in profile.columns.items():
        # only a column that is in every row and holds no text can number the rows
        column.rising &= column.rows == profile.rows and key not in SHARED_TEXTS
    return profile


def _check_unit(shape: Shape, unit: str, where: str) -> None:
    if (shape.letter == "p") != (unit == "pair") and unit != "patient":
        wanted, way = PAIRS if unit == "pair" else DIALOGUES
        raise UsageError(where, wanted, f"{shape.name} under --unit {unit}", way)


def _check_row(row: Fields, record: Record, shape: Shape, where: str) -> None:
    """Raises UsageError for a row that no planted row could resemble."""
    if row.get("choices"):
        raise UsageError(
            f"{where}: choices",
            "answers in free text",
            "multiple choice",
            "plant into the part of the data that has free answers",
        )
    if record.turns and all(turn.role != "user" for turn in record.turns):
        raise UsageError(
            where,
            "a turn of the user in every row",
            "a row without one",
            "leave such rows out: a canary needs a question",
        )
    for key in disguise.text_columns(row, shape):
        if messages.unspelled(row[key], where) is not row[key] or (
            key == "history" and isinstance(row[key], str) and row[key]
        ):
            raise UsageError(
                f"{where}: {key}",
                "a list of messages",
                "JSON text of a list",
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
    _keep(profile.sample, Sampled(line, record), profile.rows)
    if len(profile.texts) < 200:
        profile.texts.append((record.turns[-1].text if record.turns else record.text or "")[:500])


def _keep(sample: list[Sampled], row: Sampled, seen: int, most: int = SAMPLE) -> None:
    """Reservoir sampling: every row is kept with the same chance."""
    if len(sample) < most:
        sample.append(row)
    elif (place := random.randrange(seen)) < most:
        sample[place] = row
