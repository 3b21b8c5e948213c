"""How often one of two answers is preferred: with an interval that behaves at 0 and 1, and corrected for a
judge that errs.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom, norm

from dpaudit.stats.paired import Labels, cluster_totals

Floats = NDArray[np.float64]

INDEPENDENT = 0.5  # weight of "clusters are all won or all lost", in as many wins and losses
GRID = 4000  # true rates that the corrected interval looks at
STEPS = 1000  # rates between which an exact limit is searched, twice


@dataclass(frozen=True)
class WinRate:
    """Mean outcome over comparisons in [0, 1], with a two-sided interval; 0.5 = neither side is better.

    `effective` is the number of independent comparisons without ties that would tell as much.
    """

    estimate: float
    lower: float
    upper: float
    comparisons: int
    clusters: int
    effective: float


@dataclass(frozen=True)
class CorrectedRate:
    """The win rate that a judge without errors would have found, with a two-sided interval; or why there is
    none.
    """

    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    absent: Literal["judge at chance", "judged beyond its errors"] | None = None


def win_rate(outcomes: ArrayLike, clusters: Labels | None = None, confidence: float = 0.95) -> WinRate:
    """Return the mean of `outcomes`, of shape (comparisons,): 1 a win, 0.5 a tie, 0 a loss.

    Comparisons with one label in `clusters` (the two orders of a prompt, the prompts about one fact) are one
    draw; without labels each is its own. Where every cluster is of one size and won or lost as a whole, the
    interval is exact (`exact_limits`). Else it is Wilson's at the number of independent comparisons whose
    mean would vary as much. Where few are won, or few are lost, the outcomes tell little of their own
    spread, and clusters count as all won or all lost. Any other outcome, no outcomes, or a length mismatch
    raise ValueError.

    Source: Wilson 1927; Dean and Pagano 2015 (doi 10.1093/jssam/smv024), effective sample size in Wilson's
    interval. Coverage: benchmarks/judge_size.py.
    """
    outcome = _outcomes(outcomes)
    quantile = _quantile(confidence)
    sums, sizes = cluster_totals(outcome, clusters)
    estimate, number = float(outcome.mean()), sums.size
    if (sizes == sizes[0]).all() and np.isin(sums, (0, sizes[0])).all():
        exact = exact_limits(int((sums > 0).sum()), number, confidence)
        return WinRate(estimate, *exact, outcome.size, number, float(number))
    effective = _effective(sums, sizes)
    width = 1 + quantile**2 / effective
    centre = (estimate + quantile**2 / (2 * effective)) / width
    spread = estimate * (1 - estimate) / effective + quantile**2 / (4 * effective**2)
    reach = quantile * math.sqrt(spread) / width
    limits = max(centre - reach, 0.0), min(centre + reach, 1.0)
    return WinRate(estimate, *limits, outcome.size, number, effective)


@functools.cache
def exact_limits(wins: int, draws: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided limits of the rate of which `draws` independent draws show `wins`, to a millionth:
    every rate under which results at least as far out in either tail have more probability than
    1 - confidence. They miss no rate oftener than stated, whatever it is and however few the draws.

    Source: Blaker 2000 (doi 10.2307/3315916), which lies within Clopper and Pearson's.
    """
    alpha = 1 - confidence
    return _least_rate(wins, draws, alpha), 1 - _least_rate(draws - wins, draws, alpha)


def _least_rate(wins: int, draws: int, alpha: float) -> float:
    """The least rate that is not refuted: from Clopper and Pearson's limit upward."""
    if not wins:
        return 0.0
    begin, end = float(beta.ppf(alpha / 2, wins, draws - wins + 1)), wins / draws
    for _ in range(2):  # the second time within one step of the first
        rates = np.linspace(begin, end, STEPS)
        tail = np.minimum(binom.sf(wins - 1, draws, rates) * (1 + 1e-9), 1.0)  # one as likely counts
        other = np.asarray(binom.ppf(tail, draws, rates))
        other = other - (binom.cdf(other, draws, rates) > tail)  # up to it no more likely than the tail
        kept = int(np.argmax(tail + binom.cdf(other, draws, rates) > alpha))
        begin, end = float(rates[max(kept - 1, 0)]), float(rates[kept])
    return begin


def share_lower(results: Sequence[bool], clusters: Labels, confidence: float) -> float:
    """Return the one-sided lower limit of how often `results` are true, each cluster one draw: the exact one
    at the number of independent results whose share would vary as much, which is never more than there are.

    Source: Korn and Graubard 1998, Clopper-Pearson's limit at the effective sample size.
    """
    found = win_rate([float(result) for result in results], clusters)
    effective = min(found.effective, float(found.comparisons))
    right = found.estimate * effective
    return float(beta.ppf(1 - confidence, right, effective - right + 1)) if right > 0 else 0.0


def corrected(judged: WinRate, controls: WinRate, confidence: float = 0.95) -> CorrectedRate:
    """Return the win rate less what the judge's errors do to it: `controls` is the mean outcome of the better
    answer where it is known. There is none where the lower limit of `controls` does not exceed a half, and
    where no true rate can explain the judged one: then the judge errs otherwise here than on its controls.

    With accuracy a, a true rate w is judged (2a - 1) w + 1 - a, ties included, if real differences are judged
    as rightly as those of the controls, whichever side is better. The interval holds every w that the judged
    rate does not refute, both spreads counted.

    Source: Rogan and Gladen 1978; the score interval as Lang and Reiczigel 2014 invert it.
    """
    accuracy = controls.estimate
    if controls.lower <= 0.5:
        return CorrectedRate(absent="judge at chance")
    shrunk = (accuracy * controls.effective + 1) / (controls.effective + 2)  # no judge is known to be perfect
    rates = np.linspace(0, 1, GRID + 1)
    expected = (2 * accuracy - 1) * rates + 1 - accuracy
    variance = expected * (1 - expected) / judged.effective
    variance += (1 - 2 * rates) ** 2 * shrunk * (1 - shrunk) / controls.effective
    kept = rates[np.abs(judged.estimate - expected) <= _quantile(confidence) * np.sqrt(variance)]
    if not kept.size:
        return CorrectedRate(absent="judged beyond its errors")
    estimate = min(max((judged.estimate - 1 + accuracy) / (2 * accuracy - 1), 0.0), 1.0)
    return CorrectedRate(estimate, float(min(kept[0], estimate)), float(max(kept[-1], estimate)))


def _effective(sums: Floats, sizes: Floats) -> float:
    """The number of independent comparisons without ties whose mean varies as that of these clusters."""
    clusters, items = sums.size, float(sizes.sum())
    whole = items**2 / float((sizes**2).sum())  # were every cluster all won or all lost
    mean = float(sums.sum()) / items
    alone = mean * (1 - mean) / whole
    if clusters < 2 or alone <= 0:
        return whole
    spread = float(((sums - mean * sizes) ** 2).sum()) * clusters / (clusters - 1) / items**2
    seen = clusters * mean * (1 - mean)
    inflation = (spread / alone * seen + INDEPENDENT) / (seen + INDEPENDENT)
    return whole / inflation


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence in (0, 1), got {confidence}")
    return float(norm.isf((1 - confidence) / 2))


def _outcomes(values: ArrayLike) -> Floats:
    outcome = np.asarray(values, dtype=np.float64)
    if outcome.ndim != 1 or not outcome.size:
        raise ValueError(f"expected outcomes of shape (comparisons,), at least one, got {outcome.shape}")
    if not np.isin(outcome, [0.0, 0.5, 1.0]).all():
        raise ValueError(f"expected outcomes 1, 0.5 or 0, got {np.setdiff1d(outcome, [0.0, 0.5, 1.0])[:5]}")
    return outcome
