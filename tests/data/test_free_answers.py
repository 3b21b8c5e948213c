"""Questions with free answers, from files of any shape."""

import json
from pathlib import Path

import pytest

from dpaudit.data.free_answers import FreeItem, items
from dpaudit.errors import UsageError

HARMFUL = Path(__file__).parents[3] / "shared/data/dialogue_medsafety_en_dev.jsonl"  # beside the checkout


def file_of(folder: Path, *rows: dict) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_the_first_exchange_counts_and_text_of_the_system_stands_before_it(tmp_path: Path) -> None:
    said = [
        ("system", "Be brief."),
        ("user", "Which dose?"),
        ("assistant", "500 mg."),
        ("user", "And"),
        ("assistant", "No."),
    ]
    turns = [{"role": role, "content": text} for role, text in said]
    file = file_of(tmp_path, {"id": "a", "messages": turns, "patient": "p"})
    assert list(items(file)) == [FreeItem("a", "Be brief.\n\nWhich dose?", "500 mg.", "p", {"patient": "p"})]


def test_rows_of_question_and_answer_are_read_without_a_patient(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"id": "a", "question": "Which?", "answer": "This."})
    assert list(items(file)) == [FreeItem("a", "Which?", "This.", "a")]


def test_a_row_of_another_kind_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"text": "Only text."})
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: expected a question with its answer") as caught:
        list(items(file))
    assert "Only" not in str(caught.value)


@pytest.mark.skipif(not HARMFUL.is_file(), reason="the data of MedSafetyBench are not here")
def test_medsafetybench_is_read_as_it_is() -> None:
    found = list(items(str(HARMFUL)))
    assert len({item.id for item in found}) == 1341 and all(item.question and item.answer for item in found)
