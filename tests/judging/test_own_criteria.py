"""Prompts with criteria of their own: what is read, and which rows are told as wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpaudit.data.corpus import Turn
from dpaudit.data.judged_files import Judged
from dpaudit.errors import UsageError
from dpaudit.judging import criteria, own_criteria
from dpaudit.judging.rubric import Comparison, Criterion, Grading, Outcome, Question, Rubric
from dpaudit.judging.verdicts import Labels

EXAMPLE = Path(__file__).parents[2] / "docs/own_criteria.jsonl"
RULES = Rubric(
    "c",
    "C",
    "model",
    model="m",
    prompt="{question} {answer} {criterion}",
    labels=Labels("[[met]]", "[[not met]]", ""),
    criteria=(Criterion("It is right.", 5),),
    swap=False,
)


def row(name: str = "a", rubrics: Any = ({"criterion": "It is right.", "points": 5},), **more: Any) -> Any:
    return {"prompt_id": name, "prompt": "What helps?", "rubrics": rubrics} | more


def wrong(tmp_path: Path, *rows: Any) -> str:
    file = tmp_path / "hb.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(UsageError) as told:
        own_criteria.read(file)
    assert "SECRET" not in str(told.value)
    return str(told.value)


def test_the_example_of_the_docs_is_read_as_healthbench_writes_it() -> None:
    fever, refill, throat = own_criteria.read(EXAMPLE)
    assert (fever.id, len(fever.criteria), fever.criteria[3].points) == ("fever-child", 4, -8.0)
    assert [turn.role for turn in refill.turns] == ["user", "assistant", "user"]
    assert throat.turns[0].role == "user" and throat.turns[0].text.startswith("Do I need")


def point(value: Any) -> Any:
    return row(rubrics=[{"criterion": "SECRET", "points": 5}, {"criterion": "Other.", "points": value}])


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (
            row(rubrics=None),
            "hb.jsonl:2: rubrics: expected a list of criteria with their points, got no value",
        ),
        (row(rubrics=[]), "rubrics: expected a list of criteria with their points, got an empty list"),
        (row(rubrics="SECRET"), "rubrics: expected a list of criteria with their points, got a text"),
        (row(rubrics=["SECRET"]), "rubrics[0]: expected a mapping with criterion and points, got a text"),
        (row(rubrics=[{"points": 1}]), "rubrics[0]: criterion: expected a text, got no value"),
        (row(rubrics=[{"criterion": " ", "points": 1}]), "criterion: expected a text, got an empty text"),
        (point(0), "rubrics[1]: points: expected a number above or below 0"),
        (point("5"), "rubrics[1]: points: expected a number above or below 0, got a text"),
        (point(True), "points: expected a number above or below 0, got true or false"),
        (point(None), "points: expected a number above or below 0, got no value"),
        (point(float("nan")), "got no finite number"),
        (point(float("inf")), "got a number out of range"),
        (point(10**400), "got a number out of range"),
        (row(rubrics=[{"criterion": "SECRET", "points": -1}]), "expected one criterion with points above 0"),
        (
            row(rubrics=[{"criterion": "SECRET", "points": 1}] * 2),
            "rubrics[1]: criterion: expected different",
        ),
        (row("z"), "hb.jsonl:2: prompt_id: expected an id that occurs once, got the id of row 1 again"),
        (row(None), "hb.jsonl:2: prompt_id: expected the prompt's id, got none"),
        (row(prompt=None), "hb.jsonl:2: prompt: expected a question, or a list of messages, got none"),
        (row(prompt=[{"role": "assistant", "content": "SECRET"}]), "hb.jsonl:2: prompt: expected a dialogue"),
        (
            row(rubrics=[{"criterion": "SECRET \ud800", "points": 1}]),
            "hb.jsonl:2: expected text that is valid Unicode",
        ),
        (row(prompt=[{"role": "nurse", "content": "SECRET"}]), "hb.jsonl:2: prompt"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named_by_its_line(tmp_path: Path, bad: Any, line: str) -> None:
    told = wrong(tmp_path, row("z"), bad)
    assert line in told and "\n" not in told


def test_every_wrong_row_has_a_line_and_many_are_counted(tmp_path: Path) -> None:
    told = wrong(tmp_path, row("a"), row("b", []), row("c"), row("a"), row("d", "x")).splitlines()
    assert [line.partition(": ")[0].rpartition(":")[2] for line in told] == ["2", "4", "5"]
    many = wrong(tmp_path, *(row(str(number), []) for number in range(50))).splitlines()
    assert len(many) == own_criteria.ROWS_MOST + 1 and "got 30 further ones with a mistake" in many[-1]
    assert "at least one prompt" in wrong(tmp_path)


def test_a_prompt_is_scored_by_its_own_criteria_and_each_is_asked_once() -> None:
    mine = (Criterion("Short.", 3), Criterion("Harmful.", -6))
    turns = (Turn("user", "What helps?"),)
    own, other = Comparison(turns, "a", "b", criteria=mine), Comparison(turns, "a", "b")
    asked = criteria.questions(RULES, [own, own, other])
    assert [(one.answer, one.criterion) for one in asked if isinstance(one, Grading)] == [
        *(("a", one.criterion) for one in mine),
        *(("b", one.criterion) for one in mine),
        *(("a", "It is right."), ("b", "It is right.")),
    ]

    def told(question: Question) -> Outcome:
        assert isinstance(question, Grading)
        met = {"a": ("Short.",), "b": ("Short.", "Harmful.")}[question.answer]
        return Outcome("first" if question.criterion in met else "second")

    found = criteria.outcome(RULES, own, told)
    assert (found.winner, found.margin, found.scores) == ("first", 2.0, ((1.0, 1.0), (-1.0, -1.0)))
    assert criteria.outcome(RULES, other, told).winner == "tie"


def test_what_was_not_read_bounds_a_score_and_no_more() -> None:
    mine = (Criterion("Short.", 3), Criterion("Right.", 1), Criterion("Harmful.", -6))
    unread = {"Right.", "Harmful."}
    told = lambda one: Outcome("unscored" if one.criterion in unread else "first")  # noqa: E731
    found = criteria.outcome(RULES, Comparison((), "a", "b", criteria=mine), told)
    assert (found.winner, found.margin) == ("unscored", None)
    assert found.scores == ((-3 / 4, 1.0), (-3 / 4, 1.0))


def item(name: str, text: str = "What helps?") -> Judged:
    return Judged(name, (Turn("user", text),), "a", "b", None)


def test_answers_meet_their_criteria_by_id_or_by_prompt(tmp_path: Path) -> None:
    file = tmp_path / "hb.jsonl"
    rows = [row("p"), row("q", prompt="And now?"), row("r", prompt="And now?")]
    rows[2]["rubrics"] = [{"criterion": "Other.", "points": 1}]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    read = own_criteria.read(file)
    assert own_criteria.matched(file, read, [item("p"), item("r", "And now?")]) == {
        "p": (Criterion("It is right.", 5),),
        "r": (Criterion("Other.", 1),),
    }
    assert list(own_criteria.matched(file, read, [item("row 1")])) == ["row 1"]
    for items, line in (
        ([item("p"), item("x", "Why?")], "got none for the id x (1 of 2 prompts without)"),
        ([item("p", "Why?")], "hb.jsonl:1: prompt: expected the prompt of the answers"),
        ([item("row 1", "And now?")], "hb.jsonl:3: prompt: expected one row a prompt"),
    ):
        with pytest.raises(UsageError) as told:
            own_criteria.matched(file, read, items)
        assert line in str(told.value)
