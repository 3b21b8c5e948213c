"""Records, and the unit that each belongs to."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dpaudit.errors import UsageError

Role = Literal["system", "user", "assistant"]
Part = Literal["records", "pairs", "texts"]


@dataclass(frozen=True)
class Turn:
    role: Role
    text: str


@dataclass(frozen=True)
class Record:
    """One training example: a dialogue (`turns`, ending with the assistant), a preference pair, or plain
    text.

    A pair has `turns` as its prompt (ending with the user), `chosen` and `rejected`; plain text has `text`
    and no turns. `patient` is the identity whose records together make up the unit `patient`; None where the
    data names nobody.
    """

    id: str
    turns: tuple[Turn, ...]
    patient: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    text: str | None = None

    @property
    def is_pair(self) -> bool:
        return self.chosen is not None

    @property
    def part(self) -> Part:
        """Which part of a unit the record belongs to: its dialogues, its preference pairs or its plain
        texts.
        """
        return "pairs" if self.is_pair else "records" if self.text is None else "texts"

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def whole_text(self) -> str:
        """All that it says, a line for each turn or answer."""
        parts = (*(turn.text for turn in self.turns), self.text, self.chosen, self.rejected)
        return "\n".join(part for part in parts if part)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Record":
        turns = tuple(Turn(t["role"], t["text"]) for t in row["turns"])
        kept = (row.get(key) for key in ("patient", "chosen", "rejected", "text"))
        return cls(row["id"], turns, *kept)


@dataclass(frozen=True)
class Corpus:
    """The records to learn from, pairs beside them, and held-out records that no arm trains on."""

    records: tuple[Record, ...]
    pairs: tuple[Record, ...] = ()
    heldout: tuple[Record, ...] = ()
    source: str = field(default="", compare=False)


def as_text(dialogue: Record) -> Record:
    """The dialogue as plain text of the same id and patient: its turns one after another, roles left out."""
    text = " ".join(turn.text for turn in dialogue.turns)
    return Record(dialogue.id, (), dialogue.patient, text=text)


def unit_of(record: Record, unit: str) -> str:
    """The unit that a record belongs to: its patient under unit `patient`, itself under `record` and
    `pair`.
    """
    if unit != "patient":
        return record.id
    if record.patient is None:
        raise UsageError(
            "data: patient_id",
            "a patient for every record under unit patient",
            "a record without a patient",
            "name patients in the data or use unit record",
        )
    return record.patient


def unit_note(unit: str, patients: int, records: int) -> str:
    """How many patients the data name and what that means for the unit; empty where each has one record, or
    none is named.
    """
    if unit == "patient":
        return (
            f"unit patient: {patients:,} patients in {records:,} records, all records of a patient are "
            "hidden together"
        )
    if records <= patients:
        return ""
    return (
        f"the data name {patients:,} patients in {records:,} records: unit {unit} hides one {unit}, "
        "--unit patient hides all records of a person"
    )
