"""Questions with a free answer each, from a file of dialogues or of questions and answers: the items of a
benchmark whose answers are compared with a reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dpaudit.data import reading, shared_keys
from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError


@dataclass(frozen=True)
class FreeItem:
    """The first question of a dialogue, and its answer; `shared` holds what makes it one draw with others."""

    id: str
    question: str
    answer: str
    patient: str
    shared: dict[str, str] = field(default_factory=dict)


def items(source: str) -> Iterator[FreeItem]:
    """The items of a file of any format and shape that `reading` knows.

    Text of the system stands before the question; later turns are not read. Raises UsageError that names file
    and row for a row that is no dialogue, and for an id that occurs twice.
    """
    seen: dict[str, int] = {}
    both = zip(reading.read_records(source), reading.fields_of(source), strict=False)
    for (number, record), fields in both:
        where = f"{source}:{number}"
        if record.id in seen:
            raise UsageError(
                f"{where}: id",
                "an id that occurs once",
                f"the id of row {seen[record.id]} again",
                "change it",
            )
        seen[record.id] = number
        yield _item(record, where, shared_keys.shared_of(fields))


def _item(record: Record, where: str, shared: dict[str, str]) -> FreeItem:
    roles = [turn.role for turn in record.turns]
    if record.is_pair or "user" not in roles or "assistant" not in roles[roles.index("user") :]:
        raise UsageError(
            where,
            "a question with its answer, or a dialogue",
            "a preference pair" if record.is_pair else "a row without question and answer",
            "write rows of question and answer",
        )
    end = roles.index("assistant", roles.index("user"))
    question = "\n\n".join(turn.text for turn in record.turns[:end])
    patient = record.patient or record.id
    return FreeItem(record.id, question, record.turns[end].text, patient, shared)
