"""Comparisons of two arms, or of a ladder of arms, on the same items."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, t

from dpaudit.stats.roc import proportion_upper

Floats = NDArray[np.float64]
Labels = Sequence[Hashable] | NDArray[np.generic]

ARMS_MOST = 8  # of a ladder: every order of a row is looked at
_ROUNDING = 1e-12  # of sums over a whole distribution
_DRAWS_AT_ONCE = 1_000_000  # bounds the memory of the bootstrap's index matrix


@dataclass(frozen=True)
class PairedDifference:
    """Mean treatment minus control over items; positive = treatment higher.

    `lower, upper` is the two-sided interval and `p_value` that of "no difference", both from one test.
    """

    estimate: float
    lower: float
    upper: float
    p_value: float
    items: int
    clusters: int


@dataclass(frozen=True)
class Mean:
    """Mean of the items, or a ratio of two sums over them, with a two-sided interval."""

    estimate: float
    lower: float
    upper: float
    items: int
    clusters: int


def paired_difference(
    treatment: ArrayLike,
    control: ArrayLike,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    seed: int = 0,
    flips: int = 9999,
) -> PairedDifference:
    """Return the mean paired difference treatment - control with the interval and p-value of one sign-flip
    test.

    `treatment` and `control` have shape (items,) and hold the two arms' scores of the same items. Items with
    one label in `clusters` (a passage, a patient) turn their sign together; without labels each item is its
    own cluster. Under "the
    difference is d" the clusters' residuals are taken to be symmetric about zero; the p-value of d is the
    share of sign flips whose sum of residuals is at least as far from zero. The interval holds every d whose
    p-value is above 1 - `confidence`, so that it excludes 0 exactly where `p_value` is at most that. All
    flips are counted where there are at most `flips` + 1 of them; else `flips` are drawn from `seed`, and the
    p-value is at least 1 / (flips + 1). With so few clusters that no flip is rare enough (below 6 at 95 %)
    the interval is `bounds`, between which the difference is known to lie.

    Where no cluster's mean differs from another the flips know no spread; the interval is then
    estimate +- span * u, u being the Clopper-Pearson upper bound of 0 of `clusters`, and span the range of
    the scores but at least 1. No items, NaN, or a length mismatch raise ValueError.

    Source: Hartigan 1969 (the limits are order statistics of means over random subsets); Canay, Romano and
    Shaikh 2017 (few clusters).
    """
    first, second = _finite_vector("treatment", treatment), _finite_vector("control", control)
    if first.size != second.size:
        raise ValueError(f"expected the same items in both arms, got {first.size} and {second.size}")
    _check_confidence(confidence)
    if flips < 99:
        raise ValueError(f"expected at least 99 flips, got {flips}")
    sums, sizes = cluster_totals(first - second, clusters)
    estimate = float(np.mean(first - second))
    low, high = _flip_limits(sums, sizes, seed, flips)
    if np.ptp(sums / sizes) == 0:
        span = max(1.0, float(np.ptp(np.concatenate([first, second]))))
        lower, upper, p_value = _without_spread(estimate, span, sums.size, confidence)
    else:
        share = np.arange(1, low.size + 1) / low.size  # of flips at least as far out as each limit
        lower = _first_within(low, share, 1 - confidence)
        upper = -_first_within(-high[::-1], share, 1 - confidence)
        p_value = _share_covering(low, high, 0.0)
    kept = max(lower, bounds[0]), min(upper, bounds[1])
    return PairedDifference(estimate, *kept, p_value, first.size, sums.size)


def mean_interval(
    values: ArrayLike,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Mean:
    """Return the mean of `values`, of shape (items,), with its cluster bootstrap interval.

    Items with one label in `clusters` are drawn together; without labels each item is its own cluster. Where
    no cluster differs from another the bootstrap knows no spread; the interval is then estimate +- span * u,
    u being the Clopper-Pearson upper bound of 0 of `clusters`, and span the range of the values but at least
    1. No items, NaN, or a length mismatch raise ValueError.

    Source: percentile bootstrap over clusters, expanded for their number (Hesterberg 2015, section 4.2).
    """
    vector = _finite_vector("values", values)
    span = max(1.0, float(np.ptp(vector)))
    sums, sizes = cluster_totals(vector, clusters)
    lower, upper = _bootstrap_interval(sums, sizes, span, confidence, seed, resamples)
    return Mean(float(np.mean(vector)), lower, upper, vector.size, sums.size)


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 1999,
) -> Mean:
    """Return the sum of `numerators` over the sum of `denominators`, with its bootstrap-t interval on the log
    scale.

    Both have shape (items,) and are above zero. Items with one label in `clusters` are drawn together;
    without labels each item is its own cluster. The interval is never narrower than that of Student's t on
    the same scale, which few clusters need. Where no cluster differs from another it is the estimate +- u
    times the larger of it and 1, u being the Clopper-Pearson upper bound of 0 of `clusters`. No items, NaN,
    numbers that are not above zero, or a length mismatch raise ValueError.

    Source: Hall 1988 (bootstrap-t); the spread of a ratio by the delta method; the quantiles expanded for the
    number of clusters as in Hesterberg 2015, section 4.2.
    """
    _check_confidence(confidence)
    above, below = _finite_vector("numerators", numerators), _finite_vector("denominators", denominators)
    if above.size != below.size or min(above.min(), below.min()) <= 0:
        raise ValueError("expected numerators and denominators above 0, as many of the one as of the other")
    tops, _ = cluster_totals(above, clusters)
    bottoms, _ = cluster_totals(below, clusters)
    estimate, error = (float(value[0]) for value in _log_ratio(tops[None], bottoms[None]))
    if error < 1e-9:
        margin = max(1.0, estimate) * proportion_upper(0, tops.size, (1 + confidence) / 2)
        return Mean(estimate, max(estimate - margin, 0.0), estimate + margin, above.size, tops.size)
    low, high = _bootstrap_t(tops, bottoms, confidence, seed, resamples)
    limits = estimate * math.exp(-high * error), estimate * math.exp(-low * error)
    return Mean(estimate, *limits, above.size, tops.size)


def page_trend(matrix: ArrayLike, direction: Literal["rising", "falling"] = "rising") -> float:
    """Return the exact p-value of "the columns have no order"; small = they rise (or fall) from left to
    right.

    `matrix` has shape (items, arms): the score of each item under each arm, arms in their order, at least 2
    items and from 3 to ARMS_MOST arms. Rows must be independent: average the items of one cluster first.
    Ties take mid-ranks, and each row is permuted with the ties that it has, so that items on which all arms
    agree count for nothing. NaN or too few rows or columns raise ValueError.

    Source: Page 1963, the L statistic; its distribution given the ties by convolution over the rows.
    """
    scores = np.asarray(matrix, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 2 or not 3 <= scores.shape[1] <= ARMS_MOST:
        raise ValueError(f"expected at least 2 items by 3 to {ARMS_MOST} arms, got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("expected finite scores, got NaN or infinity")
    if direction not in ("rising", "falling"):
        raise ValueError(f"expected direction rising or falling, got {direction}")
    ordered = scores if direction == "rising" else scores[:, ::-1]
    ranks = np.rint(2 * rankdata(ordered, axis=1)).astype(np.int64)  # mid-ranks, doubled: whole numbers
    observed = int((ranks @ np.arange(1, ranks.shape[1] + 1)).sum())
    kinds, counts = np.unique(np.sort(ranks, axis=1), axis=0, return_counts=True)
    rows = [(*_one_row(tuple(kind.tolist())), int(count)) for kind, count in zip(kinds, counts, strict=True)]
    size = 1 + sum((chances.size - 1) * count for _, chances, count in rows)
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    for _, chances, count in rows:
        spectrum *= np.fft.rfft(chances, size) ** count
    least = sum(first * count for first, _, count in rows)
    as_large = np.fft.irfft(spectrum, size)[max(0, observed - least) :].sum()
    return float(np.clip(as_large, _ROUNDING, 1.0))


@cache
def _one_row(ranks: tuple[int, ...]) -> tuple[int, Floats]:
    """The least value of sum(place * rank) over the orders of one row's ranks, and the chance of each value
    from there on.
    """
    values = np.array(list(permutations(ranks))) @ np.arange(1, len(ranks) + 1)
    return int(values.min()), np.bincount(values - values.min()) / len(values)


def cluster_totals(values: Floats, clusters: Labels | None) -> tuple[Floats, Floats]:
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


def _flip_limits(sums: Floats, sizes: Floats, seed: int, flips: int) -> tuple[Floats, Floats]:
    """Return the sorted lower and the sorted upper ends, one each a flip, of the differences that it does not
    refute.

    With A the clusters that keep their sign and B those that turn it, |sum of flipped residuals| >= |their
    sum| holds at d exactly between the mean over A and the mean over B. A flip that turns none, or all,
    refutes nothing.
    """
    keep = _subsets(sums.size, seed, flips)  # (flips, clusters), 0 or 1
    keep = keep[(keep.sum(axis=1) > 0) & (keep.sum(axis=1) < sums.size)]
    inside, count = keep @ sums, keep @ sizes
    total, items = sums.sum(), sizes.sum()
    ends = np.stack([inside / count, (total - inside) / (items - count)])
    # Equal means in exact arithmetic are equal here: a rounding error must not put 0 outside of [0, 0].
    ends = np.where(np.isclose(ends, total / items, rtol=1e-12, atol=1e-12), total / items, ends)
    whole = np.full(max(1, _flip_count(sums.size, flips) - len(keep)), np.inf)
    return np.sort(np.append(ends.min(axis=0), -whole)), np.sort(np.append(ends.max(axis=0), whole))


def _flip_count(clusters: int, flips: int) -> int:
    """Return how many flips are looked at, the one that turns none among them; a flip and its mirror are
    one.
    """
    return min(1 << (clusters - 1), flips + 1)


def _subsets(clusters: int, seed: int, flips: int) -> Floats:
    """Return which clusters keep their sign in each flip but the first, which turns none."""
    if _flip_count(clusters, flips) == 1 << (clusters - 1):
        codes = np.arange(1, 1 << (clusters - 1), dtype=np.int64)[:, None]
        return np.asarray(1 - ((codes >> np.arange(clusters)) & 1), dtype=np.float64)
    return np.random.default_rng(seed).integers(0, 2, size=(flips, clusters)).astype(np.float64)


def _first_within(ends: Floats, share: Floats, error: float) -> float:
    """Return the least end (ends rising) at which the share of flips that reach as far is above `error`."""
    return float(ends[np.argmax(share > error + 1e-12)])


def _share_covering(low: Floats, high: Floats, difference: float) -> float:
    """Return the p-value of a difference: the share of flips that do not refute it."""
    return float(min(np.mean(low <= difference), np.mean(high >= difference)))


def _without_spread(
    estimate: float, span: float, clusters: int, confidence: float
) -> tuple[float, float, float]:
    """Return interval and p-value where all clusters agree, from the chance that another kind was never
    drawn.
    """
    margin = span * proportion_upper(0, clusters, (1 + confidence) / 2)
    p_value = 2 * max(1 - abs(estimate) / span, 0.0) ** clusters
    least = 2.0 ** (1 - clusters)  # of any sign-flip test
    if least > 1 - confidence:
        margin = math.inf
    return estimate - margin, estimate + margin, min(max(p_value, least), 1.0)


def _bootstrap_interval(
    sums: Floats, sizes: Floats, span: float, confidence: float, seed: int, resamples: int
) -> tuple[float, float]:
    _check_confidence(confidence)
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


def _log_ratio(tops: Floats, bottoms: Floats) -> tuple[Floats, Floats]:
    """Per row of clusters the ratio of the two sums and the standard error of its logarithm."""
    clusters = tops.shape[1]
    ratio = tops.sum(axis=1) / bottoms.sum(axis=1)
    residuals = tops - ratio[:, None] * bottoms
    squares = (residuals**2).sum(axis=1) * clusters / max(clusters - 1, 1)
    return ratio, np.sqrt(squares) / tops.sum(axis=1)


def _bootstrap_t(
    tops: Floats, bottoms: Floats, confidence: float, seed: int, resamples: int
) -> tuple[float, float]:
    """The two quantiles of the studentised logarithm of the ratio, cut for the number of clusters, each at
    least as far out as Student's.
    """
    generator = np.random.default_rng(seed)
    ratio = tops.sum() / bottoms.sum()
    rows = max(1, _DRAWS_AT_ONCE // tops.size)
    found = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(tops.size, size=(min(rows, resamples - start), tops.size))
        ratios, errors = _log_ratio(tops[drawn], bottoms[drawn])
        spread = errors > 1e-9  # a resample of one cluster alone has none
        found.append(np.log(ratios[spread] / ratio) / errors[spread])
    student = float(t.isf((1 - confidence) / 2, tops.size - 1))
    studentised = np.append(np.concatenate(found), 0.0)
    tail = _expanded_tail(tops.size, confidence)
    low, high = np.quantile(studentised, [tail, 1 - tail])
    return min(float(low), -student), max(float(high), student)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence in (0, 1), got {confidence}")


def _finite_vector(name: str, values: ArrayLike) -> Floats:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(
            f"expected {name} of shape (items,) with at least one item, got shape {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"expected finite {name}, got {int((~np.isfinite(vector)).sum())} NaN or infinite")
    return vector
