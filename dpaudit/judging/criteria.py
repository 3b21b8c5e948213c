"""Rubrics of weighted criteria: each is asked of one answer alone, and the higher score wins.

The form is that of HealthBench (Arora et al. 2025, arXiv 2505.08775): the points of criteria that are met,
over all points above 0. A pair is compared by these shares as they are, below 0 too. A prompt may have
criteria of its own in place of the rubric's.
"""

from collections.abc import Callable, Iterable, Sequence

from dpaudit.judging.rubric import Comparison, Criterion, Grading, Outcome, Question, Rubric, Score
from dpaudit.judging.verdicts import Winner

DIGITS = 9  # of a score: sums of the same points in another order are equal
READ = {"first": True, "second": False}  # a verdict on a criterion -> whether it is met
UNREAD = "neither met nor not met"


def questions(rules: Rubric, comparisons: Iterable[Comparison]) -> list[Question]:
    """What has to be asked for these comparisons, each once: themselves, or each criterion of each answer."""
    if not rules.criteria:
        return list(dict.fromkeys(comparisons))
    asked = (
        Grading(one.turns, text, each.criterion)
        for one in comparisons
        for text in (one.first, one.second)
        for each in _of(rules, one)
    )
    return list(dict.fromkeys(asked))


def outcome(rules: Rubric, comparison: Comparison, told: Callable[[Question], Outcome]) -> Outcome:
    """The outcome of a comparison, from what was `told` to its questions.

    Where no verdict was read on one criterion of either answer, it is unscored with the reason.
    """
    if not rules.criteria:
        return told(comparison)
    own, reasons = _of(rules, comparison), []
    scores: list[Score] = []
    for text in (comparison.first, comparison.second):
        graded = [told(Grading(comparison.turns, text, one.criterion)) for one in own]
        met = [READ.get(one.winner) for one in graded]
        reasons += [one.reason or UNREAD for one, is_met in zip(graded, met, strict=True) if is_met is None]
        scores.append(_limits(own, met))
    both = scores[0], scores[1]
    if reasons:
        return Outcome("unscored", reason=reasons[0], scores=both)
    margin = round(scores[0][0] - scores[1][0], DIGITS)
    winner: Winner = "tie" if abs(margin) <= rules.tie_margin else "first" if margin > 0 else "second"
    return Outcome(winner, margin, form="criteria", scores=both)


def score(criteria: Sequence[Criterion], met: Sequence[bool]) -> float:
    """The points of the criteria that are met, as a share of all points above 0; higher = better."""
    points = sum(one.points for one, is_met in zip(criteria, met, strict=True) if is_met)
    return points / sum(one.points for one in criteria if one.points > 0)


def _limits(criteria: Sequence[Criterion], met: Sequence[bool | None]) -> Score:
    """The least and the most that a score may be, where it is not known (None) of some criteria."""
    least = [one.points < 0 if is_met is None else is_met for one, is_met in zip(criteria, met, strict=True)]
    most = [one.points > 0 if is_met is None else is_met for one, is_met in zip(criteria, met, strict=True)]
    return score(criteria, least), score(criteria, most)


def _of(rules: Rubric, comparison: Comparison) -> tuple[Criterion, ...]:
    """The criteria of a comparison: its prompt's own, else the rubric's."""
    return comparison.criteria or rules.criteria
