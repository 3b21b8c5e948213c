"""Comparisons of two arms, or of a ladder of arms, on the same items."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm, page_trend_test, t

from dpaudit.stats.roc import proportion_upper

Floats = NDArray[np.float64]
Labels = Sequence[Hashable] | NDArray[np.generic]

_DRAWS_AT_ONCE = 1_000_000  # bounds the memory of the bootstrap's index matrix


@dataclass(frozen=True)
class PairedDifference:
    """Mean treatment minus control over items, with a two-sided interval; positive = treatment higher."""

    estimate: float
    lower: float
    upper: float
    items: int
    clusters: int


@dataclass(frozen=True)
class WinRate:
    """Mean outcome over comparisons in [0, 1], with a two-sided interval; 0.5 = neither side is better."""

    estimate: float
    lower: float
    upper: float
    comparisons: int
    clusters: int


def paired_difference(
    treatment: ArrayLike,
    control: ArrayLike,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> PairedDifference:
    """Return the mean paired difference treatment - control with its cluster bootstrap interval.

    `treatment` and `control` have shape (items,) and hold the two arms' scores of the same items. Items with
    one label in `clusters` (a passage, a patient) are drawn together; without labels each item is its own
    cluster. Where no cluster differs from another the bootstrap knows no spread; the interval is then
    estimate +- span * u, u being the Clopper-Pearson upper bound of 0 of `clusters`, and span the range of
    the scores but at least 1. No items, NaN, or a length mismatch raise ValueError.

    Source: percentile bootstrap over clusters, expanded for their number (Hesterberg 2015, section 4.2).
    """
    first, second = _finite_vector("treatment", treatment), _finite_vector("control", control)
    if first.size != second.size:
        raise ValueError(f"expected the same items in both arms, got {first.size} and {second.size}")
    span = max(1.0, float(np.ptp(np.concatenate([first, second]))))
    sums, sizes = _cluster_totals(first - second, clusters)
    lower, upper = _bootstrap_interval(sums, sizes, span, confidence, seed, resamples)
    return PairedDifference(float(np.mean(first - second)), lower, upper, first.size, sums.size)


def win_rate_interval(
    outcomes: ArrayLike,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> WinRate:
    """Return the win rate of one side with its bootstrap interval over prompts, inside [0, 1].

    `outcomes` has shape (comparisons,): 1 a win, 0.5 a tie, 0 a loss. `clusters` names the prompt of each
    comparison: the two orders of one prompt carry one label, since they are one draw and not two. Any other
    outcome, no outcomes, or a length mismatch raise ValueError. Method as in `paired_difference`.
    """
    outcome = _finite_vector("outcomes", outcomes)
    if not np.isin(outcome, [0.0, 0.5, 1.0]).all():
        raise ValueError(f"expected outcomes 1, 0.5 or 0, got {np.setdiff1d(outcome, [0.0, 0.5, 1.0])[:5]}")
    sums, sizes = _cluster_totals(outcome, clusters)
    lower, upper = _bootstrap_interval(sums, sizes, 1.0, confidence, seed, resamples)
    return WinRate(float(np.mean(outcome)), max(lower, 0.0), min(upper, 1.0), outcome.size, sums.size)


def mcnemar(a_correct: ArrayLike, b_correct: ArrayLike) -> float:
    """Return the exact two-sided p-value of "a and b are equally often correct"; small = they differ.

    Both have shape (items,) and are true where the answer to that item was correct. Only the items on which
    the two disagree count; with none the p-value is 1. Items must be independent. Raises ValueError for no
    items, a length mismatch, or values other than true and false.

    Source: McNemar 1947, in its exact binomial form.
    """
    first, second = _finite_vector("a_correct", a_correct), _finite_vector("b_correct", b_correct)
    if first.size != second.size:
        raise ValueError(f"expected the same items for a and b, got {first.size} and {second.size}")
    if not np.isin(np.concatenate([first, second]), [0.0, 1.0]).all():
        raise ValueError("expected correctness to be true or false, got other values")
    only_first = int(np.sum(first > second))
    disagreements = int(np.sum(first != second))
    return float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def page_trend(matrix: ArrayLike, direction: Literal["rising", "falling"] = "rising") -> float:
    """Return the p-value of "the columns have no order"; small = they rise (or fall) from left to right.

    `matrix` has shape (items, arms): the score of each item under each arm, arms in their order, at least 2
    items and 3 arms. Rows must be independent: average the items of one cluster first. Ties take mid-ranks,
    which makes the test conservative. NaN or too few rows or columns raise ValueError.

    Source: Page 1963, the L statistic.
    """
    scores = np.asarray(matrix, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 2 or scores.shape[1] < 3:
        raise ValueError(f"expected at least 2 items by 3 arms, got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("expected finite scores, got NaN or infinity")
    if direction not in ("rising", "falling"):
        raise ValueError(f"expected direction rising or falling, got {direction}")
    ordered = scores if direction == "rising" else scores[:, ::-1]
    return float(page_trend_test(ordered).pvalue)


def _cluster_totals(values: Floats, clusters: Labels | None) -> tuple[Floats, Floats]:
    """Return per cluster the sum and the number of its values."""
    if clusters is None:
        return values, np.ones_like(values)
    if len(clusters) != values.size:
        raise ValueError(f"expected one cluster label per item, got {len(clusters)} for {values.size}")
    index_of: dict[Hashable, int] = {}
    index = np.array([index_of.setdefault(label, len(index_of)) for label in clusters])
    sums, sizes = np.zeros(len(index_of)), np.zeros(len(index_of))
    np.add.at(sums, index, values)
    np.add.at(sizes, index, 1.0)
    return sums, sizes


def _bootstrap_interval(
    sums: Floats, sizes: Floats, span: float, confidence: float, seed: int, resamples: int
) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence in (0, 1), got {confidence}")
    if resamples < 100:
        raise ValueError(f"expected at least 100 resamples, got {resamples}")
    means = sums / sizes
    if np.ptp(means) == 0:
        margin = span * proportion_upper(0, means.size, (1 + confidence) / 2)
        return float(means[0]) - margin, float(means[0]) + margin
    drawn = _bootstrap_means(sums, sizes, seed, resamples)
    tail = _expanded_tail(means.size, confidence)
    lower, upper = np.quantile(drawn, [tail, 1 - tail])
    return float(lower), float(upper)


def _bootstrap_means(sums: Floats, sizes: Floats, seed: int, resamples: int) -> Floats:
    """Return (resamples,) means over items of as many clusters as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // sums.size)
    means = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(sums.size, size=(min(rows, resamples - start), sums.size))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def _expanded_tail(clusters: int, confidence: float) -> float:
    """Return the tail probability at which to cut, so that few clusters give a t-sized interval."""
    quantile = t.isf((1 - confidence) / 2, clusters - 1)
    return float(norm.sf(math.sqrt(clusters / (clusters - 1)) * quantile))


def _finite_vector(name: str, values: ArrayLike) -> Floats:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(
            f"expected {name} of shape (items,) with at least one item, got shape {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"expected finite {name}, got {int((~np.isfinite(vector)).sum())} NaN or infinite")
    return vector
