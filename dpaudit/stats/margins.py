"""Right and wrong answers of two arms to the same items: is the loss smaller, or larger, than a margin?

A loss of .05 means that the treatment is right on five items fewer of a hundred. Every function counts items
that the treatment alone got right (gains) and items that the control alone got right (losses).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, norm

from dpaudit.stats.paired import Labels, cluster_totals
from dpaudit.stats.roc import Interval, proportion_interval

Floats = NDArray[np.float64]

DRAWS = 19_999
SEED = 0
NUISANCE_ERROR = 1e-5  # chance that the share of discordant items lies outside of the values looked at
NUISANCES = 60  # values of that share
POWER = 0.8
_DRAWN_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Loss:
    """Treatment minus control in the share of right answers, and how it stands to a loss of `margin`.

    `p_value` is two-sided, that of "no difference". `p_no_worse` is that of "the loss is at least the
    margin": small = the treatment is no worse. `p_worse` is that of "the loss is at most the margin".
    `detectable` is the smallest loss that the test of "no difference" would have told four times in five;
    None where it would have told none, or none that the control can have.
    """

    estimate: float
    lower: float
    upper: float
    p_value: float
    p_no_worse: float
    p_worse: float
    detectable: float | None
    gains: int
    losses: int
    items: int
    clusters: int


def loss(
    treatment: ArrayLike,
    control: ArrayLike,
    margin: float,
    clusters: Labels | None = None,
    confidence: float = 0.95,
) -> Loss:
    """How much worse the treatment is than the control on the same items, tested against `margin`.

    `treatment` and `control` have shape (items,) and are 1 where the arm is right, else 0. Items without
    clusters, or each in its own: McNemar's exact test, Tango's interval, the exact margin test
    (`margin_p_values`). Items that share a cluster: all four from `ClusterLimits`. Raises ValueError for
    other values, for lists of different length, and for a margin outside of (0, 1).
    """
    if not 0 < margin < 1:
        raise ValueError(f"expected a margin in (0, 1), got {margin}")
    pairs = _Pairs(treatment, control, clusters)
    found = gap(treatment, control, clusters, confidence)
    discordant = pairs.gains + pairs.losses
    if pairs.limits is None:
        p_values = margin_p_values(pairs.gains, pairs.losses, pairs.items, margin)
        smallest = detectable(discordant, pairs.items)
    else:
        p_values = (pairs.limits.p_above(-margin), pairs.limits.p_below(-margin))
        smallest = detectable_clustered(pairs.limits.sums, pairs.limits.sizes, discordant)
    most = float(np.mean(_answers(control)))  # what is right can be lost
    return Loss(
        *found,
        *p_values,
        None if smallest is None or smallest > most else smallest,
        pairs.gains,
        pairs.losses,
        pairs.items,
        pairs.items if pairs.limits is None else pairs.limits.sums.size,
    )


class Gap(NamedTuple):
    """A difference of treatment and control with a two-sided interval and the p-value of "no difference"."""

    estimate: float
    lower: float
    upper: float
    p_value: float


def gap(
    treatment: ArrayLike, control: ArrayLike, clusters: Labels | None = None, confidence: float = 0.95
) -> Gap:
    """The difference in the share of right answers: Tango's interval and McNemar's exact test, or both from
    `ClusterLimits`.
    """
    pairs = _Pairs(treatment, control, clusters)
    estimate = (pairs.gains - pairs.losses) / pairs.items
    if pairs.limits is not None:
        return Gap(estimate, *pairs.limits.interval(confidence), pairs.limits.p_value())
    limits = tango_interval(pairs.gains, pairs.losses, pairs.items, confidence)
    return Gap(estimate, *limits, mcnemar(pairs.gains, pairs.losses))


def share_interval(right: ArrayLike, clusters: Labels, confidence: float = 0.95) -> Interval:
    """The interval of the share of right answers to items in clusters: of `ClusterLimits`, a cluster being
    lost or won altogether.
    """
    answers = _answers(right)
    sums, sizes = cluster_totals(2 * answers - 1, clusters)  # from -1, all wrong, to 1
    found = ClusterLimits(sums, sizes).interval(confidence)
    return Interval((1 + found.lower) / 2, (1 + found.upper) / 2)


class _Pairs:
    """Two arms' answers, counted; `limits` is None where every item is a cluster of its own."""

    def __init__(self, treatment: ArrayLike, control: ArrayLike, clusters: Labels | None) -> None:
        ours, theirs = _answers(treatment), _answers(control)
        if ours.size != theirs.size:
            raise ValueError(f"expected the same items in both arms, got {ours.size} and {theirs.size}")
        self.items = ours.size
        self.gains, self.losses = int(np.sum(ours > theirs)), int(np.sum(ours < theirs))
        sums, sizes = cluster_totals(ours - theirs, clusters)
        self.limits = None if sums.size == ours.size else ClusterLimits(sums, sizes)


def mcnemar(gains: int, losses: int) -> float:
    """The two-sided p-value of McNemar's exact test: of the discordant items each is a gain with chance 1/2.

    Source: McNemar 1947; the binomial form.
    """
    return min(1.0, 2 * float(binom.cdf(min(gains, losses), gains + losses, 0.5)))


def tango_interval(gains: int, losses: int, items: int, confidence: float = 0.95) -> Interval:
    """The score interval of the paired difference of two shares.

    Source: Tango 1998, Statistics in Medicine 17, 891-908, equations 9 to 12.
    """
    quantile = float(norm.isf((1 - confidence) / 2))

    def limit(outside: float, sign: int) -> float:
        inside = (gains - losses) / items
        for _ in range(50):
            middle = (inside + outside) / 2
            score = float(_score(np.array([gains]), np.array([losses]), items, middle)[0])
            inside, outside = (middle, outside) if sign * score <= quantile else (inside, middle)
        return inside

    return Interval(limit(-1.0, 1), limit(1.0, -1))


def margin_p_values(gains: int, losses: int, items: int, margin: float) -> tuple[float, float]:
    """The p-values of "the loss is at least the margin" and of "the loss is at most the margin", each exact
    over the samples that are as extreme by Tango's score, whatever share of the items is discordant.

    The largest p-value over the shares of discordant items inside of their own interval is taken, and that
    interval's error added. The score falls with every item that turns from a gain into a loss, so a true
    loss beyond the margin is no likelier to be missed.

    Source: Hsueh, Liu and Chen 2001, Biometrics 57, 478-483; Berger and Boos 1994 (the interval).
    """
    observed = float(_score(np.array([gains]), np.array([losses]), items, -margin)[0])
    low, high = proportion_interval(gains + losses, items, 1 - NUISANCE_ERROR)
    shares = np.linspace(max(low, margin), max(high, margin), NUISANCES)[:, None]
    reach = 10 + 8 * math.sqrt(items * float(shares[-1, 0]))
    discordant = np.arange(
        max(0, math.floor(items * float(shares[0, 0]) - reach)),
        min(items, math.ceil(items * float(shares[-1, 0]) + reach)) + 1,
    )
    most = _most_losses(discordant, items, margin, observed - 1e-9)
    fewest = _most_losses(discordant, items, margin, observed + 1e-9) + 1  # losses that score at most this
    weights = binom.pmf(discordant, items, shares)
    lost = binom(discordant, (shares + margin) / (2 * shares))  # losses among the discordant
    no_worse = float((weights * lost.cdf(most)).sum(axis=1).max())
    worse = float((weights * lost.sf(fewest - 1)).sum(axis=1).max())
    return min(1.0, no_worse + NUISANCE_ERROR), min(1.0, worse + NUISANCE_ERROR)


def _most_losses(discordant: NDArray[np.int64], items: int, margin: float, score: float) -> NDArray[np.int64]:
    """For every number of discordant items the most losses among them whose score is at least `score`; -1
    where there are none.
    """
    low, high = np.full(discordant.size, -1), discordant.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        reaches = _score(discordant - middle, middle, items, -margin) >= score
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle - 1)
    return low


def _score(
    gains: NDArray[np.int64], losses: NDArray[np.int64], items: int, difference: float
) -> NDArray[np.float64]:
    """Tango's score of a true `difference`: positive where the sample speaks for more than that."""
    b = -gains - losses + (2 * items - gains + losses) * difference
    c = -losses * difference * (1 - difference)
    lost = (np.sqrt(np.maximum(b * b - 8 * items * c, 0)) - b) / (4 * items)
    variance = items * (2 * lost + difference * (1 - difference))
    distance = gains - losses - items * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = distance / np.sqrt(np.maximum(variance, 0))
    return np.asarray(np.where(distance == 0, 0.0, scores), dtype=np.float64)


@dataclass(frozen=True)
class ClusterLimits:
    """Limits of the mean difference over items that come in clusters, whatever the correlation in them.

    `sums` and `sizes` have shape (clusters,): gains less losses, and items. Clusters are weighted by
    exponential draws, with one more cluster that was lost altogether (for a lower limit) or won altogether
    (for an upper one); a limit is a quantile of the weighted means. With one item a cluster and losses alone
    it is the Clopper-Pearson limit. So one limit needs no model of the correlation, and of clusters that are
    all alike as many as it takes for none of them to be lost by luck. The added cluster has the size-biased
    mean size.

    Source: Gaffke 2005; Learned-Miller and Thomas 2020 (arXiv 1905.06208), whose conjecture is that no
    bounded distribution makes the limit miss more often than stated; benchmarks/quality_size.py finds none.
    """

    sums: Floats
    sizes: Floats

    def interval(self, confidence: float) -> Interval:
        tail = (1 - confidence) / 2
        return Interval(float(np.quantile(self._low, tail)), float(np.quantile(self._high, 1 - tail)))

    def p_value(self) -> float:
        return min(1.0, 2 * min(self.p_above(0.0), self.p_below(0.0)))

    def p_above(self, difference: float) -> float:
        """Of "the difference is at most `difference`"."""
        return float((1 + np.sum(self._low <= difference)) / (DRAWS + 1))

    def p_below(self, difference: float) -> float:
        """Of "the difference is at least `difference`"."""
        return float((1 + np.sum(self._high >= difference)) / (DRAWS + 1))

    @cached_property
    def _drawn(self) -> tuple[Floats, Floats, Floats]:
        """Per draw the weighted sum and size of all clusters, and the added cluster's size."""
        kinds, counts = np.unique(np.column_stack([self.sums, self.sizes]), axis=0, return_counts=True)
        generator = np.random.default_rng(SEED)
        rows = max(1, _DRAWN_AT_ONCE // len(kinds))
        parts = []
        for start in range(0, DRAWS, rows):
            shape = (min(rows, DRAWS - start), len(kinds))
            parts.append(generator.standard_gamma(counts, size=shape) @ kinds)
        total = np.concatenate(parts)
        added = generator.standard_exponential(DRAWS) * float((self.sizes**2).sum() / self.sizes.sum())
        return total[:, 0], total[:, 1], added

    @property
    def _low(self) -> Floats:
        total, size, added = self._drawn
        return np.asarray((total - added) / (size + added), dtype=np.float64)

    @property
    def _high(self) -> Floats:
        total, size, added = self._drawn
        return np.asarray((total + added) / (size + added), dtype=np.float64)


def fewest_clusters(margin: float, error: float = 0.05) -> int:
    """The number of clusters, or items, below which no sample shows that the loss is below the margin: a lost
    share of `margin` of them would be missed altogether with more than chance `error`.

    >>> fewest_clusters(0.05), fewest_clusters(0.1)
    (59, 29)
    """
    return math.ceil(math.log(error) / math.log1p(-margin))


def detectable(discordant: int, items: int) -> float | None:
    """The smallest loss that McNemar's exact test at 5 % tells with chance .8, given the share of discordant
    items; where the loss alone is more than that share, all discordant items are lost. None
    where no loss is told so often.
    """

    def power(lost: float) -> float:
        share = max(discordant / items, lost)
        count = np.arange(items + 1)
        most = binom.ppf(0.025, count, 0.5)
        most = np.where(binom.cdf(most, count, 0.5) > 0.025, most - 1, most)  # gains that still tell
        return float(binom.pmf(count, items, share) @ binom.cdf(most, count, (share - lost) / (2 * share)))

    return _smallest(power)


def detectable_clustered(sums: Floats, sizes: Floats, discordant: int) -> float | None:
    """The same for items in clusters: with the spread between the clusters at hand, at least that of
    independent items, and one cluster added that was won altogether, as `ClusterLimits` adds it.
    """
    items, effective = sizes.sum(), sizes.sum() ** 2 / (sizes**2).sum()
    mean = sums.sum() / items
    between = float(((sums - mean * sizes) ** 2).sum() / items)  # of one item's difference, inflated
    alone = discordant / items - mean**2

    def power(lost: float) -> float:
        inflation = max(between / alone, 1.0) if alone > 0 else items / effective
        variance = max(max(discordant / items, lost) * inflation - lost**2, 1e-12) / items
        added = (1 + lost) / (effective + 1)  # mean and spread of what the added cluster takes away
        told = lost - added - float(norm.isf(0.025)) * math.sqrt(variance + added**2)
        return float(norm.cdf(told / math.sqrt(variance)))

    return _smallest(power)


def _smallest(power: Callable[[float], float]) -> float | None:
    """The smallest loss whose power is POWER, by bisection, to a ten-thousandth; None where none has it."""
    low, high = 0.0, 1.0
    if power(high) < POWER:
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def _answers(values: ArrayLike) -> Floats:
    answers = np.asarray(values, dtype=np.float64)
    if answers.ndim != 1 or not answers.size or not np.isin(answers, [0.0, 1.0]).all():
        raise ValueError("expected answers of shape (items,), each 1 or 0, and at least one")
    return answers
