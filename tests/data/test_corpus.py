"""Records: as JSON and back, as plain text, and the unit that each belongs to."""

import pytest

from dpaudit.data.corpus import Record, Turn, as_text, unit_of
from dpaudit.errors import UsageError

DIALOGUE = Record("a/0", (Turn("user", "q?"), Turn("assistant", "r.")), "a")


@pytest.mark.parametrize(
    ("record", "part"),
    [
        (DIALOGUE, "records"),
        (Record("b", (Turn("user", "q"),), None, "good", "bad"), "pairs"),
        (Record("c", (), "p", text="x y"), "texts"),
    ],
)
def test_json_and_back(record: Record, part: str) -> None:
    assert Record.from_json(record.to_json()) == record
    assert record.part == part


def test_a_dialogue_as_plain_text() -> None:
    assert as_text(DIALOGUE) == Record("a/0", (), "a", text="q? r.")


def test_units() -> None:
    assert unit_of(DIALOGUE, "patient") == "a"
    assert unit_of(DIALOGUE, "record") == unit_of(DIALOGUE, "pair") == "a/0"
    with pytest.raises(UsageError, match="patient_id: expected a patient for every record"):
        unit_of(Record("x", ()), "patient")
