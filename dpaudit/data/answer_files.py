"""Files of answers by name, with their references in the same rows or in a second file: the form of the first
origin system.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.data import identity, json_rows, messages, rows
from dpaudit.data.columns import Fields, is_unicode
from dpaudit.errors import UsageError, kind_of

NAMES = ("name_key", "id", "prompt_id")
ANSWERS = ("answer", "prediction", "response", "output")
TURNS = ("conversations", "messages")
CUT = ("length", "max_tokens", "max_length")  # the finish_reason of an answer that met its limit
DOCS = "docs/scorecard.md shows the form"


@dataclass(frozen=True)
class Answer:
    """One item: what a model answered, and what it is compared with.

    `answer` is None where the file has no row of this name, `reference` where there is none. `is_member`:
    whether the reference was trained on; `is_cut`: whether generation ended at its limit; None where nobody
    said.
    """

    name: str
    answer: str | None
    reference: str | None
    is_member: bool | None = None
    is_cut: bool | None = None


@dataclass(frozen=True)
class _Row:
    """A row as it stands in a file."""

    where: str
    answer: str | None  # under a key of ANSWERS
    spoken: str | None  # the assistant's last turn
    reference: str | None
    is_member: bool | None
    is_cut: bool | None


def read(answers: Path, references: Path | None = None) -> tuple[Answer, ...]:
    """The items of a file whose rows hold answer and reference, or of two files with the same names.

    Raises UsageError that names file, line and key, and quotes nothing.
    """
    given = _rows(answers)
    if references is None:
        return tuple(_alone(name, row) for name, row in given.items())
    if references.resolve() == answers.resolve():
        raise UsageError(str(references), "a second file, of references", "the file of answers", DOCS)
    wanted = _rows(references)
    if not given.keys() & wanted.keys():
        raise UsageError(
            str(references),
            f"names (name_key) of {answers.name}",
            "none of them",
            "name both files' rows alike",
        )
    return tuple(
        _joined(name, given.get(name), wanted.get(name)) for name in dict.fromkeys([*wanted, *given])
    )


def _alone(name: str, row: _Row) -> Answer:
    """The item of a row that holds both. The last turn of a dialogue is its reference."""
    if row.answer is None:
        raise UsageError(
            row.where,
            f"an answer, as {', '.join(ANSWERS)}",
            "a row without one",
            f"name the file of references with --reference, or add the key: {DOCS}",
        )
    reference = row.spoken if row.reference is None else row.reference
    return Answer(name, row.answer, reference, row.is_member, row.is_cut)


def _joined(name: str, given: _Row | None, wanted: _Row | None) -> Answer:
    """The item of a row in each file."""
    answer = reference = None
    if given:
        answer = _first(given.where, "an answer", given.answer, given.spoken)
    if wanted:
        reference = _first(wanted.where, "a reference", wanted.reference, wanted.spoken, wanted.answer)
    said = {row.is_member for row in (given, wanted) if row and row.is_member is not None}
    if given and len(said) > 1:
        raise UsageError(
            f"{given.where}: member", "what the other file says", "the opposite", "correct one of them"
        )
    return Answer(name, answer, reference, next(iter(said), None), given.is_cut if given else None)


def _first(where: str, what: str, *texts: str | None) -> str:
    found = next((text for text in texts if text is not None), None)
    if found is None:
        raise UsageError(where, what, "a row without one", DOCS)
    return found


def _rows(file: Path) -> dict[str, _Row]:
    """Name -> row of a file. Names occur once."""
    found: dict[str, _Row] = {}
    for where, fields in fields_of(file):
        key = next((key for key in NAMES if fields.get(key) not in (None, "")), NAMES[0])
        name = identity.of(fields.get(key), f"{where}: {key}")
        if name is None:
            raise UsageError(
                f"{where}: name_key", "the item's name, such as noun_definition_12", "no name", DOCS
            )
        if name in found:
            first = found[name].where.rpartition(":")[2]
            raise UsageError(
                f"{where}: {key}",
                "a name that occurs once",
                f"the name of row {first} again",
                "leave one out",
            )
        found[name] = _row(fields, where)
    if not found:
        raise UsageError(str(file), "at least one row", "none", DOCS)
    return found


def fields_of(file: Path) -> Iterator[tuple[str, Fields]]:
    """Each row of a file as it is written, with its place; one that is no JSON, or no valid Unicode,
    raises UsageError.
    """
    for number, row in rows.of_file(file):
        where = f"{file}:{number}"
        fields = json_rows.parsed(row, where) if isinstance(row, str) else row
        has_none = isinstance(row, str) and "\\ud" not in row.lower()
        if not has_none and not is_unicode(json.dumps(fields, ensure_ascii=False, default=str)):
            raise UsageError(
                where, "text that is valid Unicode", "half of a surrogate pair", "write it again"
            )
        yield where, fields


def _row(fields: Fields, where: str) -> _Row:
    answers = [key for key in ANSWERS if key in fields]
    if len(answers) > 1:
        raise UsageError(
            where, f"one key of {', '.join(ANSWERS)}", f"{' and '.join(answers)}", "leave the others out"
        )
    return _Row(
        where,
        answer=_text(fields, answers[0], where) if answers else None,
        spoken=next(
            (_spoken(fields[key], f"{where}: {key}", bool(answers)) for key in TURNS if fields.get(key)), None
        ),
        reference=_text(fields, "reference", where) if "reference" in fields else None,
        is_member=_truth(fields, where),
        is_cut=cut_of(fields, where),
    )


def _text(fields: Fields, key: str, where: str) -> str:
    """The text under a key. No value is an empty answer: a model that says nothing is an outcome."""
    value = fields[key]
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where}: {key}", "a text", kind_of(value), "write one answer as text")
    return value or ""


def _spoken(value: Any, where: str, is_answered: bool) -> str | None:
    """The assistant's last turn, which may be empty; None where the user speaks last and the row has its
    answer elsewhere.
    """
    turns = messages.unspelled(value, where)
    last = turns[-1] if isinstance(turns, list) and turns else None
    if isinstance(last, dict) and any(last.get(key) == "" for key in ("value", "content")):
        return ""
    read = messages.turns_of(turns, where)
    if is_answered and read[-1].role == "user":
        return None
    messages.require_last(read, "assistant", where)
    return read[-1].text


def _truth(fields: Fields, where: str) -> bool | None:
    if (value := fields.get("member")) in (None, ""):
        return None
    truth = messages.truth(value)
    if truth is None:
        raise UsageError(f"{where}: member", "true or false", "another value", "write true or false")
    return truth


def cut_of(fields: Fields, where: str) -> bool | None:
    """Whether an answer met its limit, by its finish_reason; None where the row does not say."""
    if (reason := fields.get("finish_reason")) in (None, ""):
        return None
    if not isinstance(reason, str):
        raise UsageError(f"{where}: finish_reason", "a text, such as stop or length", kind_of(reason))
    return reason.casefold() in CUT
