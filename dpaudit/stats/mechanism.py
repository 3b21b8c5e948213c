"""Whether released sums look like the mechanism that was claimed: Poisson-subsampled Gaussian noise on a
clipped sum.

All of it holds inside that family alone: a test of the mechanism is no (epsilon, delta) bound, and no figure
of it stands in one column with one. A canary is one unit whose whole clipped gradient lies along a coordinate
of its own; what was released there, over the clip, is `b_t + noise_multiplier * z_t`, where b_t is 1 in the
steps that drew it, if it was included, and else 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom, rankdata

from dpaudit.stats.epsilon import check_confidence, check_delta, epsilon_lower_one_run

Floats = NDArray[np.float64]

FAMILY = "mechanism test: Poisson-subsampled Gaussian family"
DRAWS = 4000  # of the null
_BLOCK = 250  # draws at a time
_CELLS = 2**18  # of the grid of a score's distribution
_QUANTILES = 2**15
_TAIL = 10.0  # standard deviations kept on either side of a score's mean
_TILT_MOST = 500.0  # above it exp overflows, and the logarithm is linear
_NOISE_STEP = 1.002  # between two noise multipliers that are tried
_NOISE_PLACES = 2048  # steps on either side of the claim, a factor of 60


@dataclass(frozen=True)
class SampledGaussian:
    """The claimed mechanism. Raises ValueError for anything out of range; without noise there is nothing to
    test.
    """

    noise_multiplier: float
    sampling_rate: float  # (0, 1]
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.noise_multiplier < math.inf:
            raise ValueError(f"expected a finite noise_multiplier > 0, got {self.noise_multiplier}")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"expected sampling_rate in (0, 1], got {self.sampling_rate}")
        if self.steps < 1 or not float(self.steps).is_integer():
            raise ValueError(f"expected a whole number of steps >= 1, got {self.steps}")


@dataclass(frozen=True)
class Found:
    """What the mechanism test says of one run."""

    auc: float  # of included against excluded canaries, by their scores under the claim
    p_value: float  # small = more is seen than the claim allows
    noise_upper: (
        float  # the largest noise multiplier that the test does not reject; inf where it rejects none
    )


def scores(observed: NDArray[np.floating], claimed: SampledGaussian) -> Floats:
    """The log-likelihood ratio of "included" for every canary, shape (canaries,), nats; higher = more likely
    included.

    `observed` (steps, canaries) is what was released along each canary over the clip; the number of its steps
    need not be the claimed one. Raises ValueError for another shape or NaN.
    """
    values = np.asarray(observed)
    if values.ndim != 2 or np.isnan(values).any():
        raise ValueError(f"expected (steps, canaries) without NaN, got shape {values.shape}")
    total = np.zeros(values.shape[1])
    for row in values:
        total += _step_score(row.astype(np.float64), claimed.noise_multiplier, claimed.sampling_rate)
    return total


def auc(member_scores: Floats, control_scores: Floats) -> float:
    """The chance that a random member's score is above a random control's, a tie counting one half."""
    ranks = rankdata(np.concatenate([member_scores, control_scores]))[: member_scores.size]
    return float(((ranks.sum() / member_scores.size) - (member_scores.size + 1) / 2) / control_scores.size)


def p_value(
    observed: NDArray[np.floating], included: NDArray[np.bool_], claimed: SampledGaussian, draws: int = DRAWS
) -> float:
    """The p-value of "this is the claimed mechanism, or one that shows less", in (0, 1]; small = it shows
    more.

    Exact over coins, sampling and noise, up to the grid on which scores are drawn: (1 + k) / (1 + draws),
    where k draws of the claimed mechanism show an AUC at least as large. Coins are fair. Raises ValueError
    unless both kinds of canary are there.
    """
    seen = _auc_of(observed, included, claimed)
    null = _null_aucs(claimed, included.size, draws)
    return float(1 + np.sum(null >= seen - 1e-12)) / (1 + draws)


def test(
    observed: NDArray[np.floating],
    included: NDArray[np.bool_],
    claimed: SampledGaussian,
    confidence: float,
    draws: int = DRAWS,
) -> Found:
    """The test of the claim, and the largest noise that it does not reject at `confidence` (its inversion).

    With probability at least `confidence` the noise multiplier that acted is at most `noise_upper`, if rate
    and steps are the claimed ones; what exceeds the claim by another way than noise shows as noise that was
    missing.
    """
    check_confidence(confidence)
    return Found(
        _auc_of(observed, included, claimed),
        p_value(observed, included, claimed, draws),
        noise_upper(observed, included, claimed, confidence, draws),
    )


def noise_upper(
    observed: NDArray[np.floating],
    included: NDArray[np.bool_],
    claimed: SampledGaussian,
    confidence: float,
    draws: int = DRAWS,
) -> float:
    """The largest noise multiplier, at the claimed rate and steps, that is not rejected at `confidence`.

    Looked for within a factor of 60 around the claim: infinite where none in it is rejected, and the least of
    it where all are.
    """
    check_confidence(confidence)

    def noise_at(place: int) -> float:
        return float(claimed.noise_multiplier * _NOISE_STEP**place)

    def rejected(place: int) -> bool:
        other = SampledGaussian(noise_at(place), claimed.sampling_rate, claimed.steps)
        return p_value(observed, included, other, draws) <= 1 - confidence

    lower, upper = -_NOISE_PLACES, _NOISE_PLACES
    if not rejected(upper):
        return math.inf
    if rejected(lower):
        return noise_at(lower)
    while upper - lower > 1:  # by halves of the same range, so that the nulls of one audit serve the next
        middle = (lower + upper) // 2
        lower, upper = (lower, middle) if rejected(middle) else (middle, upper)
    return noise_at(upper)


@lru_cache(maxsize=64)
def guesses_frozen(claimed: SampledGaussian, canaries: int, delta: float, confidence: float) -> int:
    """How many of the highest scores to call included: the number that proves most if the claim is just kept.

    A function of the claim alone, for planning with plain guesses: an audit itself weighs them
    (`stats.weighted`). For each number of guesses the mean one-run bound over the number of right ones, which
    is binomial at the accuracy of the claimed mechanism.
    """
    check_delta(delta)
    check_confidence(confidence)
    expected = _accuracies(claimed, claimed)
    tried = sorted({max(1, round(canaries * share)) for share in np.geomspace(0.005, 0.5, 40)})
    proven = [_mean_bound(canaries, n, expected(n / canaries), delta, confidence) for n in tried]
    best: int = tried[int(np.argmax(proven))]
    return best


def _auc_of(observed: NDArray[np.floating], included: NDArray[np.bool_], claimed: SampledGaussian) -> float:
    if not included.any() or included.all():
        raise ValueError(f"expected included and excluded canaries, got {included.sum()} of {included.size}")
    canary_scores = scores(observed, claimed)
    return auc(canary_scores[included], canary_scores[~included])


def _step_score(values: Floats, noise: float, rate: float) -> Floats:
    """log(1 - q + q exp((y - 1/2) / sigma^2)), the log-likelihood ratio of one step."""
    tilt = (values - 0.5) / noise**2
    if rate == 1:
        return tilt  # the logarithm below would lose it where it is far below 0
    bounded = np.minimum(tilt, _TILT_MOST)
    step: Floats = np.log1p(rate * np.expm1(bounded)) + (tilt - bounded)
    return step


@lru_cache(maxsize=256)  # the arms of a run, and what is told ahead of them, ask for the same again
def power(
    acting: SampledGaussian,
    claimed: SampledGaussian,
    canaries: int,
    confidence: float,
    draws: int = DRAWS,
) -> float:
    """The chance that the test refutes the claim at `confidence` where `acting` is what trains, in [0, 1]."""
    check_confidence(confidence)
    null = np.sort(_null_aucs(claimed, canaries, draws))
    seen = _aucs(acting, claimed, canaries, draws, seed=1)
    at_least = null.size - np.searchsorted(null, seen - 1e-12)
    return float(np.mean((1 + at_least) / (1 + null.size) <= 1 - confidence))


def accuracy(acting: SampledGaussian, claimed: SampledGaussian, share: float) -> float:
    """The expected share of included canaries among the `share` of highest scores, where `acting` is what
    trains.
    """
    return _accuracies(acting, claimed)(share)


def included_by_rank(claimed: SampledGaussian, canaries: int) -> Floats:
    """The expected share of included canaries at each rank, the highest score first, shape (canaries,); it
    falls.
    """
    shares = np.arange(1, canaries + 1) / canaries
    expected = _accuracies(claimed, claimed)
    within = np.array([share * expected(share) for share in shares])
    included_share: Floats = np.minimum.accumulate(np.diff(within, prepend=0.0) * canaries)
    return included_share


@lru_cache(maxsize=256)
def _null_aucs(claimed: SampledGaussian, canaries: int, draws: int) -> Floats:
    """AUCs of `draws` runs of the claimed mechanism, with new coins in each, shape (draws,)."""
    return _aucs(claimed, claimed, canaries, draws, seed=0)


def _aucs(acting: SampledGaussian, claimed: SampledGaussian, canaries: int, draws: int, seed: int) -> Floats:
    generator = np.random.default_rng([canaries, draws, seed])
    below = _share_below(acting, claimed)
    parts = [
        _drawn_aucs(below, canaries, min(_BLOCK, draws - start), generator)
        for start in range(0, draws, _BLOCK)
    ]
    return np.concatenate(parts)


def _drawn_aucs(below: Floats, canaries: int, draws: int, generator: np.random.Generator) -> Floats:
    """Excluded scores by their own rank are uniform; an included one is at the share of excluded ones below
    it.
    """
    coins = generator.random((draws, canaries)) < 0.5
    uniform = generator.random((draws, canaries)) * (below.size - 1)
    cell = uniform.astype(np.int64)
    part = uniform - cell
    ranked = below[cell] * (1 - part) + below[cell + 1] * part
    values = np.where(coins, ranked, uniform / (below.size - 1))
    order = np.argsort(values, axis=1)
    member = np.take_along_axis(coins, order, axis=1)
    members = member.sum(1).astype(np.float64)
    ranks = (member * np.arange(1, canaries + 1)).sum(1)
    controls = np.maximum(canaries - members, 1)
    aucs: Floats = (ranks - members * (members + 1) / 2) / np.maximum(members, 1) / controls
    return aucs


def _share_below(acting: SampledGaussian, claimed: SampledGaussian) -> Floats:
    """For each quantile of included scores, on an even grid from 0 to 1, the share of excluded scores below
    it.
    """
    _, included, excluded = _distributions(acting, claimed)
    levels = np.linspace(0, 1, _QUANTILES + 1)
    places = np.interp(levels, included, np.arange(included.size))
    share_below: Floats = np.interp(places, np.arange(excluded.size), excluded)
    return share_below


@lru_cache(maxsize=16)
def _distributions(acting: SampledGaussian, claimed: SampledGaussian) -> tuple[Floats, Floats, Floats]:
    """The edges of a grid of scores under the claim, and at each the chance of a score below it: included and
    excluded.

    A score is a sum of independent steps, so that its distribution is a power in the Fourier domain.
    """
    noise, rate, steps = acting.noise_multiplier, acting.sampling_rate, acting.steps
    reach = np.linspace(-_TAIL * noise, 1 + _TAIL * noise, 200_001)
    weights = np.diff(ndtr(reach / noise)), np.diff(ndtr((reach - 1) / noise))
    middle = _step_score((reach[1:] + reach[:-1]) / 2, claimed.noise_multiplier, claimed.sampling_rate)
    chances = (1 - rate) * weights[0] + rate * weights[1], weights[0]
    means = [float(c @ middle) for c in chances]
    spread = math.sqrt(steps * max(float(c @ middle**2) - m * m for c, m in zip(chances, means, strict=True)))
    single = float(middle[-1] - middle[0])
    low = steps * min(means) - _TAIL * spread - single
    width = (steps * max(means) + _TAIL * spread + single - low) / _CELLS
    cumulative = [_sum_of_steps(middle, c / c.sum(), steps, low, width) for c in chances]
    edges: Floats = low + width * np.arange(_CELLS + 1, dtype=np.float64)
    return edges, cumulative[0], cumulative[1]


def _sum_of_steps(middle: Floats, chances: Floats, steps: int, low: float, width: float) -> Floats:
    """The distribution function, at the edges of the grid, of a sum of `steps` draws from `middle` with
    `chances`.

    A value is split between the two nearest points of a grid so that its mean is kept.
    """
    start = float(middle[0])
    place = (middle - start) / width
    cell = place.astype(np.int64)
    mass = np.bincount(cell, chances * (1 - (place - cell)), _CELLS)
    mass += np.bincount(cell + 1, chances * (place - cell), _CELLS)
    total = np.fft.irfft(
        np.fft.rfft(mass) ** steps, _CELLS
    )  # at steps * start + width * index, wrapped around
    offset = (steps * start - low) / width - 0.5  # a cell's middle is half a width above its edge
    shift = math.floor(offset + 0.5)
    total = np.maximum(np.roll(total, shift % _CELLS), 0)
    below = np.concatenate([[0.0], np.cumsum(total)])
    distribution: Floats = np.interp(
        np.arange(_CELLS + 1) - (offset - shift), np.arange(_CELLS + 1), below / below[-1]
    )
    return distribution


def _accuracies(acting: SampledGaussian, claimed: SampledGaussian) -> Callable[[float], float]:
    """The share of included ones among the highest scores, as a function of how large a share of all those
    are.
    """
    _, included, excluded = _distributions(acting, claimed)
    above = (2 - included - excluded)[::-1] / 2  # of all canaries, rising
    above_included = (1 - included)[::-1] / 2

    def expected(share: float) -> float:
        return float(np.interp(share, above, above_included)) / share

    return expected


def _mean_bound(canaries: int, guesses: int, accuracy: float, delta: float, confidence: float) -> float:
    """The one-run bound averaged over the number of right guesses; between eleven numbers it is drawn as a
    line.
    """
    counts = np.arange(guesses + 1)
    chances = binom.pmf(counts, guesses, min(accuracy, 1.0))
    likely = counts[chances > 1e-4]
    tried = np.unique(np.linspace(likely[0], likely[-1], 11).astype(int))
    bounds = [
        epsilon_lower_one_run(
            canaries=canaries, guesses=guesses, correct=int(n), delta=delta, confidence=confidence
        )
        for n in tried
    ]
    return float(chances @ np.interp(counts, tried, bounds))
