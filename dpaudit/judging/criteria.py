"""Rubrics of weighted criteria: each is asked of one answer alone, and the higher score wins.

The form is that of HealthBench (Arora et al. 2025, arXiv 2505.08775): the points of criteria that are met,
over all points above 0. A pair is compared by these shares as they are, below 0 and above 1 too.
"""

from collections.abc import Callable, Iterable, Sequence

from dpaudit.data.corpus import Turn
from dpaudit.judging.rubric import Comparison, Criterion, Grading, Outcome, Question, Rubric

DIGITS = 9  # of a score: sums of the same points in another order are equal


def questions(rules: Rubric, comparisons: Iterable[Comparison]) -> list[Question]:
    """What has to be asked for these comparisons, each once: themselves, or each criterion of each answer."""
    if not rules.criteria:
        return list(dict.fromkeys(comparisons))
    answers = dict.fromkeys((one.turns, text) for one in comparisons for text in (one.first, one.second))
    return [Grading(turns, text, each.criterion) for turns, text in answers for each in rules.criteria]


def outcome(rules: Rubric, comparison: Comparison, told: Callable[[Question], Outcome]) -> Outcome:
    """The outcome of a comparison, from what was `told` to its questions.

    Where no verdict was read on one criterion of either answer, it is unscored with the reason.
    """
    if not rules.criteria:
        return told(comparison)
    scores = []
    for text in (comparison.first, comparison.second):
        graded = _graded(rules.criteria, comparison.turns, text, told)
        unread = next((one for one in graded if one.winner not in ("first", "second")), None)
        if unread is not None:
            return Outcome("unscored", reason=unread.reason or "neither met nor not met")
        scores.append(score(rules.criteria, [one.winner == "first" for one in graded]))
    margin = round(scores[0] - scores[1], DIGITS)
    if abs(margin) <= rules.tie_margin:
        return Outcome("tie", margin, form="criteria")
    return Outcome("first" if margin > 0 else "second", margin, form="criteria")


def score(criteria: Sequence[Criterion], met: Sequence[bool]) -> float:
    """The points of the criteria that are met, as a share of all points above 0; higher = better."""
    points = sum(one.points for one, is_met in zip(criteria, met, strict=True) if is_met)
    return points / sum(one.points for one in criteria if one.points > 0)


def _graded(
    criteria: Sequence[Criterion], turns: tuple[Turn, ...], text: str, told: Callable[[Question], Outcome]
) -> list[Outcome]:
    return [told(Grading(turns, text, one.criterion)) for one in criteria]
