"""Attack performance with intervals: ROC curve, AUC, true positive rate at a low false positive rate.

A score is one number per example; higher = more likely a member.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv, betaincinv, ndtri  # scipy.stats takes a second to load

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    lower: float
    upper: float


class AucInterval(NamedTuple):
    """An area under the ROC curve in [0, 1] with its confidence interval."""

    auc: float
    lower: float
    upper: float


class AucDifference(NamedTuple):
    """How much larger the first of two areas is, in [-1, 1], with its standard error and confidence
    interval.
    """

    difference: float
    error: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class Roc:
    """The ROC curve of "a member when score >= threshold", from (0, 0) to (1, 1).

    Examples with tied scores enter together, so a tie is one straight segment, diagonal when it holds both
    members and controls.
    """

    fpr: Floats  # (points,), non-decreasing
    tpr: Floats  # (points,), non-decreasing
    thresholds: Floats  # (points,), strictly decreasing, first +inf


@dataclass(frozen=True)
class TprAtFpr:
    """The true positive rate at a threshold that was fixed on controls of its own.

    `tpr_lower, tpr_upper` is the two-sided Clopper-Pearson interval over members; `fpr_measured` and its
    one-sided `fpr_upper` come from the controls that did not choose the threshold. Every rate is None where
    `measurable` is False: with fewer than 10 / fpr_target controls the rate cannot be told from zero.
    """

    measurable: bool
    fpr_target: float
    controls: int
    members: int
    tpr: float | None = None
    tpr_lower: float | None = None
    tpr_upper: float | None = None
    fpr_measured: float | None = None
    fpr_upper: float | None = None
    threshold: float | None = None  # a member when score > threshold


def roc_curve(scores: ArrayLike, members: ArrayLike) -> Roc:
    """Return the ROC curve, with one point per distinct score.

    `scores` has shape (examples,), higher = more likely a member; `members` has the same shape and is true
    for members. Infinite scores are ranked like any other; NaN, a length mismatch, or only one kind of
    example raises ValueError.
    """
    member_scores, control_scores = _split(scores, members)
    distinct = np.unique(np.concatenate([member_scores, control_scores]))[::-1]
    tpr = 1.0 - np.searchsorted(np.sort(member_scores), distinct) / member_scores.size
    fpr = 1.0 - np.searchsorted(np.sort(control_scores), distinct) / control_scores.size
    return Roc(
        fpr=np.concatenate([[0.0], fpr]),
        tpr=np.concatenate([[0.0], tpr]),
        thresholds=np.concatenate([[np.inf], distinct]),
    )


def auc_interval(scores: ArrayLike, members: ArrayLike, confidence: float) -> AucInterval:
    """Return (auc, lower, upper): the area under the ROC curve with a two-sided DeLong interval.

    `auc` is the chance that a random member scores above a random control, a tie counting one half. The
    interval is set on the logit scale, so it stays inside [0, 1]. Where the DeLong variance is zero or
    undefined (perfect separation, all scores tied, one member or one control), the interval is the
    Clopper-Pearson one for min(members, controls) disjoint member-control pairs, which are independent
    trials of success probability auc. Raises ValueError as `roc_curve` does.

    Source: DeLong, DeLong, Clarke-Pearson 1988, by placement values (Sun and Xu 2014, eq. 5-7).
    """
    _check_open_unit("confidence", confidence)
    member_scores, control_scores = _split(scores, members)
    placed, placed_controls = _placements(member_scores, control_scores)
    auc = float(np.mean(placed))
    pairs = min(placed.size, placed_controls.size)
    if pairs < 2 or np.ptp(placed) == np.ptp(placed_controls) == 0:
        return AucInterval(auc, *_beta_interval(auc * pairs, pairs, confidence))
    variance = np.var(placed, ddof=1) / placed.size + np.var(placed_controls, ddof=1) / placed_controls.size
    logit = math.log(auc / (1 - auc))
    margin = -float(ndtri((1 - confidence) / 2)) * math.sqrt(variance) / (auc * (1 - auc))
    return AucInterval(auc, _expit(logit - margin), _expit(logit + margin))


def auc_difference(
    first: ArrayLike, second: ArrayLike, members: ArrayLike, confidence: float
) -> AucDifference:
    """Return (difference, error, lower, upper) of two scores' areas on the same examples, first minus second.

    Paired: placement values of either score are subtracted example by example, so what both find easy drops
    out. The interval is DeLong's, a normal one. Raises ValueError as `roc_curve` does, and with fewer than
    two members or controls, where there is no variance.

    Source: DeLong, DeLong, Clarke-Pearson 1988, the contrast (1, -1).
    """
    _check_open_unit("confidence", confidence)
    placed, placed_controls = _placements(*_split(first, members))
    other, other_controls = _placements(*_split(second, members))
    if min(placed.size, placed_controls.size) < 2:
        raise ValueError("expected at least two members and two controls")
    variance = (
        np.var(placed - other, ddof=1) / placed.size
        + np.var(placed_controls - other_controls, ddof=1) / placed_controls.size
    )
    difference, error = float(np.mean(placed) - np.mean(other)), math.sqrt(variance)
    margin = -float(ndtri((1 - confidence) / 2)) * error
    return AucDifference(difference, error, difference - margin, difference + margin)


def tpr_at_fpr(scores: ArrayLike, members: ArrayLike, fpr: float, confidence: float, seed: int) -> TprAtFpr:
    """Return the true positive rate at a false positive rate of at most `fpr` in expectation.

    A random half of the controls, drawn from `seed`, sets the threshold; the other half measures the false
    positive rate that the threshold really has. An example is called a member when its score is strictly
    above the threshold, so ties count against the attack. `fpr` is in (0, 1). With fewer than 10 / fpr
    controls the result is marked `measurable=False`. Raises ValueError as `roc_curve` does.
    """
    _check_open_unit("fpr", fpr)
    _check_open_unit("confidence", confidence)
    member_scores, control_scores = _split(scores, members)
    if control_scores.size < math.ceil(10 / fpr - 1e-9):  # 10 / 0.1 must ask for 100, not 101
        return TprAtFpr(False, fpr, control_scores.size, member_scores.size)
    shuffled = np.random.default_rng(seed).permutation(control_scores)
    choosing, measuring = np.array_split(shuffled, 2)
    threshold = _threshold(choosing, fpr)
    caught = int(np.sum(member_scores > threshold))
    false_alarms = int(np.sum(measuring > threshold))
    lower, upper = proportion_interval(caught, member_scores.size, confidence)
    return TprAtFpr(
        measurable=True,
        fpr_target=fpr,
        controls=control_scores.size,
        members=member_scores.size,
        tpr=caught / member_scores.size,
        tpr_lower=lower,
        tpr_upper=upper,
        fpr_measured=false_alarms / measuring.size,
        fpr_upper=proportion_upper(false_alarms, measuring.size, confidence),
        threshold=threshold,
    )


def proportion_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Return the two-sided Clopper-Pearson interval of a proportion, in [0, 1].

    No trials give (0, 1). Raises ValueError unless 0 <= successes <= trials and confidence is in (0, 1).
    """
    _check_counts(successes, trials)
    _check_open_unit("confidence", confidence)
    return _beta_interval(successes, trials, confidence)


def proportion_lower(successes: int, trials: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson lower bound of a proportion; 0.0 where nothing succeeded."""
    _check_counts(successes, trials)
    _check_open_unit("confidence", confidence)
    return _beta_lower(successes, trials, 1 - confidence)


def proportion_upper(successes: int, trials: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a proportion, in [0, 1].

    This is the figure to print beside "0 of n": at 95 % it is about 3 / n. No trials give 1.0.
    """
    _check_counts(successes, trials)
    _check_open_unit("confidence", confidence)
    return _beta_upper(successes, trials, 1 - confidence)


def _threshold(controls: Floats, fpr: float) -> float:
    """Return the least control score that a new control exceeds with probability at most `fpr`.

    A new control is equally likely to take any of the n + 1 ranks, so it lies above the k-th highest of n
    with probability at most k / (n + 1).
    """
    rank = math.floor(fpr * (controls.size + 1))
    return float(np.sort(controls)[controls.size - rank])


def _placements(member_scores: Floats, control_scores: Floats) -> tuple[Floats, Floats]:
    """Return per member the share of controls below it, per control the share of members above it."""
    below = _ranked_below(member_scores, control_scores) / control_scores.size
    above = 1.0 - _ranked_below(control_scores, member_scores) / member_scores.size
    return below, above


def _ranked_below(scores: Floats, others: Floats) -> Floats:
    """For each score how many of the others are below it; a tie counts one half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2


def _split(scores: ArrayLike, members: ArrayLike) -> tuple[Floats, Floats]:
    score = np.asarray(scores, dtype=np.float64)
    member = np.asarray(members)
    if score.ndim != 1 or score.shape != member.shape:
        raise ValueError(f"expected one score per example, got scores {score.shape}, members {member.shape}")
    if np.isnan(score).any():
        raise ValueError(f"expected scores without NaN, got {int(np.isnan(score).sum())} of {score.size}")
    if not np.isin(member, [0, 1]).all():
        raise ValueError(f"expected members to be true or false, got {sorted(set(member.tolist()))[:5]}")
    is_member = member.astype(bool)
    if not is_member.any() or is_member.all():
        raise ValueError(
            f"expected members and controls, got {int(is_member.sum())} and {int((~is_member).sum())}"
        )
    return score[is_member], score[~is_member]


def _beta_interval(successes: float, trials: float, confidence: float) -> Interval:
    error = (1 - confidence) / 2
    return Interval(_beta_lower(successes, trials, error), _beta_upper(successes, trials, error))


def _beta_lower(successes: float, trials: float, error: float) -> float:
    return float(betaincinv(successes, trials - successes + 1, error)) if successes > 0 else 0.0


def _beta_upper(successes: float, trials: float, error: float) -> float:
    return float(betainccinv(successes + 1, trials - successes, error)) if successes < trials else 1.0


def _expit(logit: float) -> float:
    return 0.5 * (1.0 + math.tanh(logit / 2))  # no overflow at either end


def _check_counts(successes: int, trials: int) -> None:
    whole = float(successes).is_integer() and float(trials).is_integer()
    if not (whole and 0 <= successes <= trials):
        raise ValueError(f"expected whole 0 <= successes <= trials, got {successes} of {trials}")


def _check_open_unit(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"expected {name} in (0, 1), got {value}")
