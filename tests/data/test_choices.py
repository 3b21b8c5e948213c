"""Every item of a benchmark's file is looked at: what cannot be asked or counted is told by row before any
training.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from dpaudit import content
from dpaudit.data import choices
from dpaudit.errors import Mistakes, UsageError

ITEM = {"question": "Which dose?", "choices": ["one", "two", "three"], "answer": 2}
YES_OR_NO = {"context": "An abstract.", "question": "Does it?", "answer": "maybe"}


def config(name: str = "medmcqa_file") -> dict[str, Any]:
    return content.load_yaml(content.listing("suites/tasks")[name])


def file_of(folder: Path, *items: Any) -> Path:
    file = folder / "bench.jsonl"
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in items))
    return file


def test_items_that_fit_pass(tmp_path: Path) -> None:
    choices.check(file_of(tmp_path, ITEM, ITEM | {"id": "a"}, ITEM | {"id": 3, "answer": 0}), config())
    choices.check(file_of(tmp_path, ITEM | {"choices": ["one"] * 2 + ["two"]}), config("cmexam_file"))
    choices.check(file_of(tmp_path, YES_OR_NO, YES_OR_NO | {"answer": "no"}), config("pubmedqa_file"))
    choices.check(
        file_of(tmp_path, ITEM | {"condition": "c"}, ITEM | {"condition": "c"}), config("clinic_choice")
    )


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"answer": 7}, "answer: expected the index of a choice, from 0 to 2, got 7"),
        ({"answer": -1}, "answer: expected the index of a choice, from 0 to 2, got -1"),
        ({"answer": 1.0}, "got 1.0"),
        ({"answer": True}, "got true or false"),
        ({"answer": None}, "answer: expected a value in every row"),
        ({"answer": "four"}, "got a text that is not a choice"),
        ({"choices": []}, "choices: expected a value"),
        ({"choices": ["one"]}, "choices: expected a list of two or more texts"),
        ({"choices": ["one", " ", "three"]}, "none of them empty"),
        ({"choices": ["one", "two", "one "]}, "a right choice that differs from the others, got the same"),
        ({"choices": "one or two"}, "choices: expected a list"),
        ({"choices": list("abcdefghi")}, "at most 8 choices, which the task has letters for, got 9"),
        ({"question": " "}, "question: expected a value"),
        ({"id": "a"}, "id: expected an id that occurs once, got the id of item 1 again"),
        ("{", "expected one JSON object on the line"),
    ],
)
def test_an_item_that_does_not_fit_is_named_by_row(wrong: Any, complaint: str, tmp_path: Path) -> None:
    row = wrong if isinstance(wrong, str) else ITEM | wrong
    file = file_of(tmp_path, ITEM | {"id": "a"}, ITEM, row)
    with pytest.raises(UsageError) as caught:
        choices.check(file, config())
    assert str(caught.value).startswith(f"{file}:3: ") and complaint in str(caught.value)
    assert "three" not in str(caught.value) and "four" not in str(caught.value)


def test_mistakes_of_one_kind_are_counted_and_kinds_told_together(tmp_path: Path) -> None:
    wrong = [ITEM | {"answer": 9}, ITEM | {"answer": -4}, ITEM, ITEM | {"choices": ["one"]}]
    with pytest.raises(Mistakes) as caught:
        choices.check(file_of(tmp_path, *wrong), config())
    first, second = caught.value.errors
    assert "bench.jsonl:1: answer" in str(first) and "got 9, in 2 rows (1, 2)" in str(first)
    assert "bench.jsonl:4: choices" in str(second)


@pytest.mark.parametrize(
    ("task", "keys"),
    [("medqa_us_file", "answer, choices and question"), ("pubmedqa_file", "answer, context and question")],
)
def test_columns_of_other_names_are_told_with_those_that_are_wanted(
    task: str, keys: str, tmp_path: Path
) -> None:
    row = {"query": "Which dose?", "options": ["one", "two"], "label": 0}
    with pytest.raises(UsageError) as caught:
        choices.check(file_of(tmp_path, row, row), config(task))
    assert f"bench.jsonl:1: {keys}: expected rows with the keys {keys}" in str(caught.value)
    assert "in 2 rows" in str(caught.value) and "docs/content.md" in str(caught.value)


def test_the_docs_tell_each_tasks_keys() -> None:
    text = (Path(__file__).parents[2] / "docs" / "content.md").read_text(encoding="utf-8")
    for name in content.listing("suites/tasks"):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert choices.keys(config(name)) and all(f"`{key}`" in line for key in choices.keys(config(name)))


def test_answers_are_all_numbers_or_all_texts(tmp_path: Path) -> None:
    spelt = config("clinic_choice")  # whose choices are the texts themselves
    rows = [ITEM | {"condition": "c"}, ITEM | {"condition": "c", "answer": "one"}]
    with pytest.raises(
        UsageError, match="a number in every row, or a text in every row, got numbers and texts"
    ):
        choices.check(file_of(tmp_path, *rows), spelt)


def test_a_table_or_an_empty_file_is_no_benchmark(tmp_path: Path) -> None:
    table = tmp_path / "bench.csv"
    table.write_text("question,choices,answer\n")
    with pytest.raises(UsageError, match="items in JSON lines, got a csv file"):
        choices.check(table, config())
    with pytest.raises(UsageError, match="at least one item, got no item"):
        choices.check(file_of(tmp_path, ""), config())
