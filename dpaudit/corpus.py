"""Records and the reading of data files into them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dpaudit.errors import UsageError

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "patient": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "doctor": "assistant",
}


@dataclass(frozen=True)
class Turn:
    role: Role
    text: str


@dataclass(frozen=True)
class Record:
    """One training example: a dialogue (`turns`, ending with the assistant), or a preference pair.

    A pair has `turns` as its prompt (ending with the user), `chosen` and `rejected`. `patient` is the
    identity whose records together make up the unit `patient`; None where the data names nobody.
    """

    id: str
    turns: tuple[Turn, ...]
    patient: str | None = None
    chosen: str | None = None
    rejected: str | None = None

    @property
    def is_pair(self) -> bool:
        return self.chosen is not None

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Record":
        turns = tuple(Turn(t["role"], t["text"]) for t in row["turns"])
        return cls(row["id"], turns, row.get("patient"), row.get("chosen"), row.get("rejected"))


@dataclass(frozen=True)
class Corpus:
    """The records to learn from, pairs beside them, and held-out records that no arm trains on."""

    records: tuple[Record, ...]
    pairs: tuple[Record, ...] = ()
    heldout: tuple[Record, ...] = ()
    source: str = field(default="", compare=False)


def read_records(path: Path, limit: int | None = None) -> tuple[Record, ...]:
    """The records of a JSONL file: ShareGPT `conversations`, `messages`, or `prompt`/`chosen`/`rejected`.

    Every line must have the same shape. Raises UsageError naming file and line, never the text itself.
    """
    rows: dict[int, Record] = {}  # by line
    try:
        with path.open(encoding="utf-8-sig") as stream:  # a byte order mark is no part of the first record
            for number, line in enumerate(stream, 1):
                if limit is not None and len(rows) >= limit:
                    break
                if line.strip():
                    rows[number] = _parse_line(line, f"{path}:{number}", number)
    except OSError as error:
        raise UsageError(str(path), expected="a readable JSONL file", got=error.strerror or "an error",
                         remedy="give the path with --data") from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise UsageError(str(path), expected="UTF-8 text", got=f"byte {error.start} is not") from error
    if not rows:
        raise UsageError(str(path), expected="at least one record", got="an empty file")
    _check_one_shape(rows, path)
    return tuple(rows.values())


def _parse_line(line: str, where: str, number: int) -> Record:
    record = _parse_row(_parse_json(line, where), where, number)
    turns = (turn.text for turn in record.turns)
    for text in (record.id, record.patient, record.chosen, record.rejected, *turns):
        if text is not None and not _is_unicode(text):
            raise UsageError(where, expected="text that is valid Unicode", got="half of a surrogate pair")
    return record


def _parse_json(line: str, where: str) -> dict[str, Any]:
    expected = "one JSON object on the line"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(where, expected=expected, got=f"a syntax error at column {error.colno}") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise UsageError(where, expected=expected, got="a number of too many digits") from None
    except RecursionError:
        raise UsageError(where, expected=expected, got="too many nested brackets") from None
    if not isinstance(row, dict):
        raise UsageError(where, expected=expected, got=f"a {type(row).__name__}")
    return row


def _parse_row(row: dict[str, Any], where: str, number: int) -> Record:
    identity = str(row.get("id") or row.get("name_key") or f"r{number}")
    patient = row.get("patient_id", row.get("patient"))
    named = None if patient is None else str(patient)
    if "chosen" in row:
        return _parse_pair(row, where, identity, named)
    key = "conversations" if "conversations" in row else "messages"
    turns = _parse_turns(row.get(key), where, key)
    if turns[-1].role != "assistant":
        raise UsageError(
            f"{where}: {key}",
            expected="a dialogue that ends with the assistant",
            got=f"{turns[-1].role} last",
        )
    return Record(identity, turns, named)


def _parse_turns(value: object, where: str, key: str) -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where}: {key}", expected="a list of turns", got=_kind(value),
                         remedy="ShareGPT `conversations` or `messages` are read")  # fmt: skip
    turns = []
    for index, turn in enumerate(value):
        place = f"{where}: {key}[{index}]"
        role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        text = turn.get("value", turn.get("content")) if isinstance(turn, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise UsageError(place, expected=f"a role of {', '.join(ROLES)}", got=_kind(role))
        if not isinstance(text, str) or not text.strip():
            raise UsageError(place, expected="a non-empty text", got=_kind(text))
        turns.append(Turn(ROLES[role], text))
    return tuple(turns)


def _parse_pair(row: dict[str, Any], where: str, identity: str, patient: str | None) -> Record:
    for key in ("prompt", "chosen", "rejected"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise UsageError(f"{where}: {key}", expected="a non-empty text", got=_kind(row.get(key)))
    return Record(identity, (Turn("user", row["prompt"]),), patient, row["chosen"], row["rejected"])


def _check_one_shape(rows: dict[int, Record], path: Path) -> None:
    is_pair = next(iter(rows.values())).is_pair
    seen: set[str] = set()
    for number, record in rows.items():
        if record.is_pair != is_pair:
            raise UsageError(
                f"{path}:{number}",
                expected="the shape of the first record",
                got="a mix of dialogues and pairs",
            )
        if record.id in seen:
            raise UsageError(f"{path}:{number}: id", expected="an id that occurs once", got="a repeated one")
        seen.add(record.id)


def unit_of(record: Record, unit: str) -> str:
    """The unit that a record belongs to: its patient under unit `patient`, itself under `record` and `pair`."""
    if unit != "patient":
        return record.id
    if record.patient is None:
        raise UsageError("data: patient_id", expected="a patient for every record under unit patient", got="none",
                         remedy="name patients in the data or use unit record")  # fmt: skip
    return record.patient


def group_by_unit(records: Iterable[Record], unit: str) -> dict[str, list[Record]]:
    """Unit id -> its records, in order of first appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(unit_of(record, unit), []).append(record)
    return groups


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _is_unicode(text: str) -> bool:
    """False where a surrogate stands alone: JSON can spell it, and no file or tokenizer can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
