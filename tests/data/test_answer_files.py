"""Files of answers: rows that hold both, two files, and one line for each mistake."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpaudit.data.answer_files import Answer, read
from dpaudit.errors import UsageError

SECRET = "patient Zoe, 4711"


def file(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def talk(text: str, role: str = "gpt") -> list[dict[str, str]]:
    return [{"from": "human", "value": "q"}, {"from": role, "value": text}]


def test_rows_that_hold_both(tmp_path: Path) -> None:
    rows = [
        {
            "name_key": "privacy_3",
            "answer": "a",
            "reference": "b",
            "member": False,
            "finish_reason": "length",
        },
        {"name_key": "qa_7", "prediction": "", "conversations": talk("b"), "finish_reason": "stop"},
        {"id": 5, "output": None, "messages": talk("b"), "department": "unread"},
    ]
    wanted = (
        Answer("privacy_3", "a", "b", is_member=False, is_cut=True),
        Answer("qa_7", "", "b", is_cut=False),
        Answer("5", "", "b"),
    )
    assert read(file(tmp_path / "a.jsonl", *rows)) == wanted
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read(tmp_path / "a.json") == wanted


@pytest.mark.parametrize("role", ["gpt", "assistant"])
def test_two_files(tmp_path: Path, role: str) -> None:
    """An item of either file alone is kept: what has no answer is told, not dropped."""
    answers = file(
        tmp_path / "a.jsonl",
        {"name_key": "qa_1", "conversations": talk("", role)},
        {"name_key": "qa_9", "answer": "alone"},
    )
    references = file(
        tmp_path / "r.jsonl",
        {"name_key": "qa_1", "conversations": talk("b", role), "member": True},
        {"name_key": "qa_2", "answer": "c"},
    )
    assert read(answers, references) == (
        Answer("qa_1", "", "b", is_member=True),
        Answer("qa_2", None, "c"),
        Answer("qa_9", "alone", None),
    )


def test_a_dialogue_that_ends_with_the_user_is_what_was_asked_and_no_reference(tmp_path: Path) -> None:
    answers = file(tmp_path / "a.jsonl", {"name_key": "n", "answer": "x", "messages": talk("y")[:1]})
    assert read(answers) == (Answer("n", "x", None),)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"name_key": "n", "reference": SECRET}, "a.jsonl:2: expected an answer, as answer, prediction"),
        ({"answer": SECRET}, "a.jsonl:2: name_key: expected the item's name"),
        ({"name_key": "qa_1", "answer": SECRET}, "a.jsonl:2: name_key: expected a name that occurs once"),
        ({"name_key": ["n"], "answer": SECRET}, "a.jsonl:2: name_key: "),
        ({"name_key": "n", "answer": [SECRET]}, "a.jsonl:2: answer: expected a text, got a list"),
        ({"name_key": "n", "answer": SECRET, "output": "x"}, "a.jsonl:2: expected one key of"),
        ({"name_key": "n", "answer": SECRET, "member": "maybe"}, "a.jsonl:2: member: expected true or false"),
        (
            {"name_key": "n", "answer": SECRET, "finish_reason": 1},
            "a.jsonl:2: finish_reason: expected a text",
        ),
        (
            {"name_key": "n", "messages": talk("x")[:1]},
            "a.jsonl:2: messages: expected a dial",
        ),
        ([SECRET], "a.jsonl:2: expected one JSON object"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path: Path, row: Any, wanted: str) -> None:
    answers = file(tmp_path / "a.jsonl", {"name_key": "qa_1", "answer": "x"}, row)
    with pytest.raises(UsageError) as caught:
        read(answers)
    assert wanted in str(caught.value) and SECRET not in str(caught.value)


def test_two_files_that_do_not_belong_together(tmp_path: Path) -> None:
    answers = file(tmp_path / "a.jsonl", {"name_key": "privacy_1", "answer": "x", "member": True})
    others = file(tmp_path / "r.jsonl", {"name_key": "privacy_2", "answer": "x"})
    opposite = file(tmp_path / "o.jsonl", {"name_key": "privacy_1", "answer": "x", "member": False})
    without = file(tmp_path / "w.jsonl", {"name_key": "privacy_1", "text": "x"})
    for references, wanted in (
        (others, "expected names (name_key) of a.jsonl, got none of them"),
        (answers, "got the file of answers"),
        (opposite, "a.jsonl:1: member: expected what the other file says"),
        (without, "w.jsonl:1: expected a reference"),
        (file(tmp_path / "e.jsonl"), "e.jsonl: expected at least one row, got none"),
    ):
        with pytest.raises(UsageError) as caught:
            read(answers, references)
        assert wanted in str(caught.value)
