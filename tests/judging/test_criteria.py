"""Rubrics of weighted criteria: what is asked, and how a pair is compared by what is met."""

import pytest

from dpaudit.data.corpus import Turn
from dpaudit.judging import criteria
from dpaudit.judging.rubric import Comparison, Criterion, Grading, Outcome, Question, Rubric
from dpaudit.judging.verdicts import Labels

TURNS = (Turn("user", "What helps?"),)
POINTS = {"Right drug.": 5.0, "Short.": 1.0, "Harmful.": -8.0}
RULES = Rubric(
    "c",
    "C",
    "model",
    model="m",
    prompt="{question} {answer} {criterion}",
    labels=Labels("[[met]]", "[[not met]]", ""),
    criteria=tuple(Criterion(text, points) for text, points in POINTS.items()),
    tie_margin=0.1,
    swap=False,
)
MET = {
    "good": {"Right drug.", "Short."},
    "long": {"Right drug."},
    "bad": {"Right drug.", "Short.", "Harmful."},
    "worse": {"Harmful."},
    "none": set[str](),
}


def told(question: Question) -> Outcome:
    assert isinstance(question, Grading)
    if question.answer == "mute" and question.criterion == "Harmful.":
        return Outcome("unscored", reason="an empty reply")
    return Outcome("first" if question.criterion in MET.get(question.answer, ()) else "second")


def test_each_criterion_is_asked_of_each_answer_once_however_often_it_is_compared() -> None:
    pairs = [Comparison(TURNS, *pair) for pair in (("a", "b"), ("b", "a"), ("a", "c"), ("a", "a"))]
    asked = criteria.questions(RULES, pairs)
    assert len(asked) == len(set(asked)) == 3 * len(POINTS)
    elsewhere = Comparison((Turn("user", "And now?"),), "a", "b")
    assert len(criteria.questions(RULES, [*pairs, elsewhere])) == 5 * len(POINTS)


@pytest.mark.parametrize(
    ("first", "second", "winner", "margin"),
    [
        ("good", "long", "first", 1 / 6),
        ("long", "good", "second", -1 / 6),
        ("good", "good", "tie", 0.0),
        ("none", "worse", "first", 8 / 6),  # below 0, which no clipping makes equal
        ("bad", "worse", "first", 1.0),
        ("none", "bad", "first", 2 / 6),
    ],
)
def test_the_higher_share_of_points_wins(first: str, second: str, winner: str, margin: float) -> None:
    found = criteria.outcome(RULES, Comparison(TURNS, first, second), told)
    assert (found.winner, found.margin) == (winner, pytest.approx(margin, abs=1e-8))


@pytest.mark.parametrize("pair", [("mute", "good"), ("good", "mute"), ("mute", "mute")])
def test_a_criterion_that_cannot_be_read_is_never_one_that_is_not_met(pair: tuple[str, str]) -> None:
    found = criteria.outcome(RULES, Comparison(TURNS, *pair), told)
    assert (found.winner, found.margin, found.reason) == ("unscored", None, "an empty reply")


def test_a_score_is_that_of_healthbench() -> None:
    """Arora et al. 2025: points that are met over all points above 0; here 5 + 1 - 8 of 6."""
    assert criteria.score(RULES.criteria, [True, True, True]) == pytest.approx(-2 / 6)
    assert criteria.score(RULES.criteria, [True, True, False]) == 1.0


def test_sums_in_another_order_are_equal() -> None:
    points = (0.1, 0.2, 0.3, 0.3, 0.3)
    rules = Rubric(
        "c",
        "C",
        "model",
        model="m",
        prompt=RULES.prompt,
        labels=RULES.labels,
        swap=False,
        criteria=tuple(Criterion(str(number), value) for number, value in enumerate(points)),
    )
    met = {"a": {"0", "1"}, "b": {"2"}}
    read = lambda one: Outcome("first" if one.criterion in met[one.answer] else "second")  # noqa: E731
    assert criteria.outcome(rules, Comparison(TURNS, "a", "b"), read).winner == "tie"
