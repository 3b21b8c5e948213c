"""Two files of answers to the same prompts, by anybody, and what is known of the prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.data import identity, messages, reading, shapes
from dpaudit.data.answer_files import ANSWERS, NAMES, TURNS, cut_of, fields_of
from dpaudit.data.columns import Fields, present
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError, kind_of

PROMPTS = ("prompt", "question")
DOCS = "docs/judges.md shows the form"
Key = str | tuple[Turn, ...]  # what both files name a row by: its id, else its prompt


@dataclass(frozen=True)
class Judged:
    """One prompt, two answers to it, and the right one where somebody gave it."""

    id: str
    turns: tuple[Turn, ...]  # ends with the user
    answer: str
    against: str
    reference: str | None
    answer_cut: bool | None = None  # whether it met a limit of tokens; None where its row does not say
    against_cut: bool | None = None


@dataclass(frozen=True)
class _Row:
    """A row as it stands in a file."""

    where: str
    id: str | None
    turns: tuple[Turn, ...] | None
    answer: str | None
    reference: str | None
    is_cut: bool | None

    @property
    def name(self) -> str:
        return self.id or f"row {self.where.rpartition(':')[2]}"


def read(answers: Path, against: Path, questions: Path | None = None) -> tuple[Judged, ...]:
    """The prompts of two files that hold the same ids, or, without ids, the same prompts.

    `questions` may hold the prompts of the ids, and right answers. Raises UsageError that names file, line
    and key, and quotes no text.
    """
    if answers.resolve() == against.resolve():
        raise UsageError(f"--against {against}", "a second file", "the file of --answers", "name another")
    ours, theirs = _rows(answers), _rows(against)
    has_ids = all(row.id is not None for row in (*ours, *theirs))
    known = _keyed(_rows(questions, are_questions=True), True) if questions else {}
    mine, others = _keyed(ours, has_ids), _keyed(theirs, has_ids)
    _require_same(mine, others, against)
    _require_same(others, mine, answers)
    return tuple(_joined(row, others[key], known.get(row.id or "")) for key, row in mine.items())


def right_answers(source: str) -> list[Record]:
    """Dialogues that end with a right answer. They have the form of `questions`, where the first row has a
    `reference`, else that of data to train on; pairs are left out. Raises UsageError as `read` does.
    """
    path = Path(source)
    is_of_questions = path.is_file() and "reference" in present(next(fields_of(path), ("", {}))[1])
    if not is_of_questions:
        return [record for _, record in reading.read_records(source) if not record.is_pair]
    rows = _rows(path, are_questions=True)
    return [
        Record(row.name, (*row.turns, Turn("assistant", row.reference)))
        for row in rows
        if row.turns and row.reference
    ]


def _rows(file: Path, are_questions: bool = False) -> list[_Row]:
    found = [_row(fields, where, are_questions) for where, fields in fields_of(file)]
    if not found:
        raise UsageError(str(file), "at least one row", "none", DOCS)
    return found


def _row(fields: Fields, where: str, is_question: bool) -> _Row:
    key = next((key for key in NAMES if fields.get(key) not in (None, "")), None)
    given = [name for name in ANSWERS if fields.get(name) is not None]
    if len(given) > 1:
        raise UsageError(where, f"one key of {', '.join(ANSWERS)}", " and ".join(given), "leave others out")
    answer = _text(fields, given[0], where) if given else None
    reference = _text(fields, "reference", where) if fields.get("reference") is not None else None
    turns, spoken = asked(fields, where)
    if is_question:
        answer, reference = None, reference or answer or spoken
        if turns is None or reference is None:
            turns, reference = _as_trained_on(fields, where) or (turns, reference)
    elif answer is None:
        answer = spoken
    else:
        reference = reference or spoken
    if not is_question and answer is None:
        raise UsageError(where, f"an answer, as {', '.join(ANSWERS)}", "a row without one", DOCS)
    name = identity.of(fields[key], f"{where}: {key}") if key else None
    return _Row(where, name, turns, answer, reference, cut_of(fields, where))


def _as_trained_on(fields: Fields, where: str) -> tuple[tuple[Turn, ...], str] | None:
    """Question and right answer of a row that has another form of data to train on, such as instruction and
    output; None for one that has none.
    """
    try:
        record = shapes.record(shapes.shape_of(fields, where), fields, where, 1)
    except UsageError:
        return None
    if record.is_pair or not record.turns or record.turns[-1].role != "assistant":
        return None
    return record.turns[:-1], record.turns[-1].text


def asked(fields: Fields, where: str) -> tuple[tuple[Turn, ...] | None, str | None]:
    """The turns before the answer, and the assistant's turn behind them, where a row has them."""
    key = next((key for key in (*TURNS, *PROMPTS) if fields.get(key)), None)
    if key is None:
        return None, None
    value: Any = fields[key]
    if isinstance(value, str) and key in PROMPTS:
        turns: tuple[Turn, ...] = (Turn("user", _text(fields, key, where)),)
    else:
        turns = messages.turns_of(value, f"{where}: {key}")
    spoken = turns[-1].text if turns[-1].role == "assistant" else None
    turns = turns if spoken is None else turns[:-1]
    if not turns or turns[-1].role != "user":
        raise UsageError(f"{where}: {key}", "a dialogue whose last question is the user's", "none", DOCS)
    return turns, spoken


def _text(fields: Fields, key: str, where: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key}", "a text", kind_of(value), "write it as text")
    if not value.strip():
        raise UsageError(
            f"{where}: {key}",
            "a text with words",
            "an empty one",
            "write (no answer) where a model said nothing, or leave the row out of both files",
        )
    return value


def _keyed(found: list[_Row], has_ids: bool) -> dict[Key, _Row]:
    """The rows by id, else by prompt; each occurs once."""
    keyed: dict[Key, _Row] = {}
    for row in found:
        key: Key | None = row.id if has_ids else row.turns
        if key is None:
            raise UsageError(row.where, "an id or a prompt", "neither", DOCS)
        if key in keyed:
            first = keyed[key].where.rpartition(":")[2]
            what = f"the id {key:.60}" if isinstance(key, str) else "the prompt"
            raise UsageError(
                row.where, "each once in a file", f"{what} of row {first} again", "leave one of them out"
            )
        keyed[key] = row
    return keyed


def _require_same(these: Mapping[Key, _Row], those: Mapping[Key, _Row], other: Path) -> None:
    lone = [row for key, row in these.items() if key not in those]
    if lone:
        what = f"the id {lone[0].id:.60}" if lone[0].id else "a prompt"
        raise UsageError(
            lone[0].where,
            f"what {other} answers too",
            f"{what}, which is not there ({len(lone)} in all)",
            "leave it out, or add the other answer",
        )


def _joined(ours: _Row, theirs: _Row, known: _Row | None) -> Judged:
    given = [row for row in (ours, theirs, known) if row is not None]
    prompted = [row for row in given if row.turns is not None]
    if not prompted:
        raise UsageError(
            ours.where, "a prompt, as prompt, question or messages", "none", f"name --questions FILE: {DOCS}"
        )
    if other := next((row for row in prompted if row.turns != prompted[0].turns), None):
        raise UsageError(
            other.where,
            f"the prompt of {prompted[0].where}",
            f"another prompt under the id {ours.name:.60}",
            "correct one of them",
        )
    right = [row for row in given if row.reference is not None]
    if other := next((row for row in right if row.reference != right[0].reference), None):
        raise UsageError(
            f"{other.where}: reference", f"that of {right[0].where}", "another one", "correct one of them"
        )
    assert prompted[0].turns is not None and ours.answer is not None and theirs.answer is not None
    reference = right[0].reference if right else None
    cut = ours.is_cut, theirs.is_cut
    return Judged(ours.name, prompted[0].turns, ours.answer, theirs.answer, reference, *cut)
