"""Reading data files: both role spellings, pairs, and one line for a fault that never quotes the text."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpaudit.corpus import Record, Turn, group_by_unit, read_records
from dpaudit.errors import UsageError

SECRET = "my rash began in Zürich"


def dialogue(**changed: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": SECRET}, {"from": "gpt", "value": "Rest."}]
    return {"conversations": turns} | changed


def write(path: Path, *rows: Any) -> Path:
    text = "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows
    )
    path.write_text(text, encoding="utf-8")
    return path


def test_both_spellings_of_roles_and_shapes(tmp_path: Path) -> None:
    other = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                          {"role": "assistant", "content": "a"}], "name_key": "qa_12", "patient_id": 7}  # fmt: skip
    first, second = read_records(write(tmp_path / "d.jsonl", dialogue(), "", other))
    assert first == Record("r1", (Turn("user", SECRET), Turn("assistant", "Rest.")))
    assert (second.id, second.patient, second.turns[0].role) == ("qa_12", "7", "system")
    assert Record.from_json(second.to_json()) == second


def test_pairs(tmp_path: Path) -> None:
    (pair,) = read_records(write(tmp_path / "p.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b"}))
    assert pair.is_pair and pair.turns == (Turn("user", "q"),) and (pair.chosen, pair.rejected) == ("a", "b")
    assert Record.from_json(pair.to_json()) == pair


def test_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", dialogue(), dialogue(), "{broken")
    assert len(read_records(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (["{oops"], "d.jsonl:1: expected one JSON object on the line, got a syntax error at column 2"),
        ([dialogue(), [1]], "d.jsonl:2: expected one JSON object on the line, got a list"),
        ([{"text": SECRET}], "d.jsonl:1: messages: expected a list of turns, got nothing"),
        ([{"conversations": []}], "conversations: expected a list of turns"),
        (
            [{"conversations": [{"from": SECRET, "value": "x"}]}],
            "conversations[0]: expected a role of system",
        ),
        ([{"conversations": [{"from": "human", "value": " "}]}], "expected a non-empty text"),
        ([{"conversations": [{"from": "human", "value": SECRET}]}], "ends with the assistant, got user last"),
        ([{"chosen": "a", "rejected": "b"}], "d.jsonl:1: prompt: expected a non-empty text, got nothing"),
        ([dialogue(), {"prompt": "q", "chosen": "a", "rejected": "b"}], "d.jsonl:2: expected the shape"),
        ([dialogue(id="x"), "", dialogue(id="x")], "d.jsonl:3: id: expected an id that occurs once"),
        ([{"messages": [{"from": ["x"], "value": SECRET}]}], "messages[0]: expected a role of system"),
        ([dialogue(), '{"n": ' + "7" * 5000 + "}"], "d.jsonl:2: expected one JSON object"),
        (["[" * 100_000], "d.jsonl:1: expected one JSON object on the line, got too many nested brackets"),
        (
            [json.dumps({"prompt": "q", "chosen": "\ud800", "rejected": SECRET})],
            "d.jsonl:1: expected text that",
        ),
        (
            [dialogue(), json.dumps(dialogue(patient="\ud800"))],
            "d.jsonl:2: expected text that is valid Unicode",
        ),
        ([], "d.jsonl: expected at least one record, got an empty file"),
    ],
)
def test_a_fault_is_one_line_without_the_text(tmp_path: Path, rows: list[Any], wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_records(write(tmp_path / "d.jsonl", *rows))
    line = str(caught.value)
    assert wanted in line and "\n" not in line and SECRET not in line


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a readable JSONL file, got No such file"):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="expected a readable JSONL file"):
        read_records(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(UsageError, match="UTF-8"):
        read_records(tmp_path / "latin.jsonl")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(dialogue()), encoding="utf-8-sig")
    assert read_records(path) == read_records(write(tmp_path / "plain.jsonl", dialogue()))


def test_units() -> None:
    records = [Record("a", (), "p"), Record("b", (), "q"), Record("c", (), "p")]
    assert {unit: [r.id for r in rows] for unit, rows in group_by_unit(records, "patient").items()} == {
        "p": ["a", "c"],
        "q": ["b"],
    }
    assert list(group_by_unit(records, "record")) == ["a", "b", "c"]
    with pytest.raises(UsageError, match="patient_id: expected a patient for every record"):
        group_by_unit([Record("a", ())], "patient")
