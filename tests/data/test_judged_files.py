"""Two files of answers: what they may say of prompts, and every mistake with its file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpaudit.data import judged_files
from dpaudit.data.corpus import Turn
from dpaudit.data.judged_files import Judged
from dpaudit.errors import UsageError

Q = "What helps?"


def written(folder: Path, name: str, *rows: dict[str, Any] | str) -> Path:
    file = folder / name
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def messages(*texts: str) -> list[dict[str, str]]:
    return [
        {"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts, strict=False)
    ]


EXPECTED = Judged("1", (Turn("user", Q),), "Rest.", "Tea.", None)


@pytest.mark.parametrize(
    ("ours", "theirs", "questions"),
    [
        ({"id": 1, "prompt": Q, "answer": "Rest."}, {"name_key": "1", "response": "Tea."}, None),
        ({"id": "1", "answer": "Rest."}, {"id": 1.0, "question": Q, "output": "Tea."}, None),
        ({"id": 1, "messages": messages(Q, "Rest.")}, {"id": 1, "prediction": "Tea."}, None),
        ({"id": 1, "answer": "Rest."}, {"id": 1, "answer": "Tea."}, {"id": 1, "question": Q}),
        ({"id": 1, "prompt": messages(Q), "answer": "Rest."}, {"id": 1, "answer": "Tea."}, None),
    ],
)
def test_rows_are_joined_by_id(
    ours: dict[str, Any], theirs: dict[str, Any], questions: dict[str, Any] | None, tmp_path: Path
) -> None:
    files = written(tmp_path, "a.jsonl", ours), written(tmp_path, "b.jsonl", theirs)
    more = written(tmp_path, "q.jsonl", questions) if questions else None
    assert judged_files.read(*files, more) == (EXPECTED,)


def test_rows_without_ids_are_joined_by_prompt(tmp_path: Path) -> None:
    ours = written(tmp_path, "a.jsonl", {"prompt": "Why?", "answer": "So."}, {"prompt": Q, "answer": "Rest."})
    theirs = written(
        tmp_path, "b.jsonl", {"prompt": Q, "answer": "Tea."}, {"prompt": "Why?", "answer": "No."}
    )
    found = judged_files.read(ours, theirs)
    assert [(one.id, one.answer, one.against) for one in found] == [
        ("row 1", "So.", "No."),
        ("row 2", "Rest.", "Tea."),
    ]
    twice = written(tmp_path, "c.jsonl", {"prompt": Q, "answer": "x"}, {"prompt": Q, "answer": "y"})
    with pytest.raises(UsageError, match=r"c.jsonl:2: .* got the prompt of row 1 again"):
        judged_files.read(twice, theirs)


def test_right_answers_come_from_any_file(tmp_path: Path) -> None:
    ours = {"id": 1, "messages": messages(Q, "Paracetamol."), "answer": "Rest."}
    theirs = {"id": 1, "answer": "Tea."}
    known = {"id": 1, "question": Q, "answer": "Paracetamol."}
    for rows in ((ours, theirs, None), (ours | {"messages": messages(Q)}, theirs, known)):
        files = [
            written(tmp_path, f"{name}.jsonl", row) for name, row in zip("abq", rows, strict=True) if row
        ]
        (found,) = judged_files.read(*files)
        assert (found.answer, found.reference) == ("Rest.", "Paracetamol.")


A, B = {"id": 1, "prompt": Q, "answer": "Rest."}, {"id": 1, "answer": "Tea."}
MISTAKES = {
    "a.jsonl:2: expected what .*b.jsonl answers too, got the id 2, which is not there": (
        [A, A | {"id": 2}],
        [B],
    ),
    "b.jsonl:2: expected what .*a.jsonl answers too, got the id 2, which is not there": (
        [A],
        [B, B | {"id": 2}],
    ),
    "a.jsonl:2: expected each once in a file, got the id 1 of row 1 again": ([A, A], [B]),
    "a.jsonl:1: answer: expected a text with words, got an empty one": ([A | {"answer": " "}], [B]),
    "b.jsonl:1: expected the prompt of .*a.jsonl:1, got another prompt under the id 1": (
        [A],
        [B | {"prompt": "Why?"}],
    ),
    "b.jsonl:2: expected one JSON object on the line, got a syntax error at column": ([A], [B, '{"id": 2,']),
    "b.jsonl:1: expected an answer, as answer": ([A], [{"id": 1}]),
    "a.jsonl:1: expected a prompt, as prompt, question or messages": ([{"id": 1, "answer": "x"}], [B]),
    "b.jsonl:1: expected an id or a prompt, got neither": ([A], [{"answer": "x"}]),
    "a.jsonl:1: answer: expected a text, got a whole number": ([A | {"answer": 3}], [B]),
    "a.jsonl:1: expected one key of answer": ([A | {"output": "x"}], [B]),
    "b.jsonl:1: reference: expected that of .*a.jsonl:1": (
        [A | {"reference": "x"}],
        [B | {"reference": "y"}],
    ),
    "b.jsonl: expected at least one row": ([A], []),
    "a.jsonl:1: expected text that is valid Unicode": ([A | {"answer": "\ud800"}], [B]),
}


@pytest.mark.parametrize("told", MISTAKES)
def test_every_mistake_is_one_line_with_file_and_number(told: str, tmp_path: Path) -> None:
    ours, theirs = MISTAKES[told]
    with pytest.raises(UsageError, match=told) as raised:
        judged_files.read(written(tmp_path, "a.jsonl", *ours), written(tmp_path, "b.jsonl", *theirs))
    assert (
        "Rest" not in str(raised.value) and "Tea" not in str(raised.value) and "\n" not in str(raised.value)
    )


def test_a_file_is_not_compared_with_itself(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", A)
    with pytest.raises(UsageError, match=r"--against .*: expected a second file"):
        judged_files.read(file, tmp_path / "." / "a.jsonl")
