"""The one-run bound from guesses that carry a weight by the rank of their score, and the weights that a claim
freezes.

Weights are whole numbers, one a rank, the highest score first and falling: above 0 the canary of that rank is
guessed "included", below 0 "excluded", at 0 not guessed. The largest is one whole guess, the others are parts
of one.

Why it holds: Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846) prove their bound for outputs in [-1, 1]^m. Let
t be the guesses, and let the coins be revealed one after the other. Under epsilon alone each coin is as
guessed with chance at most a = e^eps / (e^eps + 1), whatever was revealed before and whatever t, so that the
weight that is right lies stochastically below W = sum |t_i| Bernoulli(a); ranks fix the |t_i| up to their
order, hence the law of W. Under (eps, delta), with p and q the chances of the output given the coin as
guessed and given the other, "right" is at most max(Bernoulli(a), Bernoulli(f)), f = (p - e^eps q)+ / (p + q),
whose mean over outputs is at most delta. Such a failure adds a weight of at most 1, so that the weighted
failures are at most their number, and Appendix D applies as it stands. Failures may depend on coins revealed
before, which that appendix leaves out; the worst case over every dependence is a linear programme, and lies
below it for p-values up to one half wherever it was solved (tests/stats/test_weighted.py).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from dpaudit.stats.epsilon import check_confidence, check_delta
from dpaudit.stats.mechanism import Floats, SampledGaussian, included_by_rank

Weights = NDArray[np.int64]

_PARTS = 32  # of a whole guess: twice as many raise the expected bound by less than 0.5 %
_TOLERANCE = 1e-11  # nats
_CUTS = np.linspace(0.0, 0.96, 25)  # tried, from a coin's accuracy to the best rank's
_LEVELS = 61  # of epsilon, between which power is drawn as a line
_EPSILON_MOST = 12.0  # nats; a bound above it needs half a million right guesses


def right_weight(scores: Floats, included: NDArray[np.bool_], weights: Weights) -> int:
    """The weight of right guesses, of scores and coins (canaries,); among ties excluded canaries come first.

    Since weights fall with the rank, no other order of ties gives less: a tie counts against the bound.
    """
    coins = included[np.lexsort((included, -scores))]
    return int(np.where(coins, np.maximum(weights, 0), np.maximum(-weights, 0)).sum())


def p_value_weighted(*, weights: Weights, right: int, epsilon: float, delta: float) -> float:
    """Return the p-value of "training was (epsilon, delta)-private", in [0, 1]; small = refuted.

    `right` is the weight of right guesses. With all weights 0 or 1 it is `p_value_one_run`. Raises ValueError
    unless weights are whole and fall, 0 <= right <= the sum of their sizes, epsilon >= 0 and delta is in [0,
    1).
    """
    _check(weights, right, delta)
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"expected a finite epsilon >= 0, got {epsilon}")
    at_least = _at_least(_counted(weights), 1 / (1 + math.exp(-epsilon)))
    return _p_value(at_least, right, int(np.abs(weights).max()), weights.size * delta)


def epsilon_lower_weighted(*, weights: Weights, right: int, delta: float, confidence: float) -> float:
    """Return the largest epsilon that the weight of right guesses refutes, in nats; 0.0 where it refutes
    none.
    """
    _check(weights, right, delta)
    check_confidence(confidence)

    def excess(epsilon: float) -> float:
        p_value = p_value_weighted(weights=weights, right=right, epsilon=epsilon, delta=delta)
        return p_value - (1 - confidence)

    if excess(0.0) >= 0:
        return 0.0
    upper = 1.0
    while excess(upper) < 0:
        upper *= 2
    return float(brentq(excess, 0.0, upper, xtol=_TOLERANCE, rtol=1e-14))


def epsilon_ceiling_weighted(*, weights: Weights, delta: float, confidence: float) -> float:
    """Return the most that these guesses could ever refute, in nats: the bound when all are right."""
    every = int(np.abs(weights).sum())
    return epsilon_lower_weighted(weights=weights, right=every, delta=delta, confidence=confidence)


@lru_cache(maxsize=64)
def weights_frozen(claimed: SampledGaussian, canaries: int, delta: float, confidence: float) -> Weights:
    """The weights, (canaries,), that prove most in expectation if the claim is just kept.

    A function of the claim alone, so that they are fixed before any score is seen.
    """
    best = best_weights(included_by_rank(claimed, canaries), delta, confidence)
    best.setflags(write=False)  # the cache hands out this very array
    return best


def best_weights(included: Floats, delta: float, confidence: float) -> Weights:
    """The weights that prove most in expectation, of the falling shares of included canaries by rank,
    (canaries,).

    A weight is in proportion to what the rank's accuracy has above a cut, which is near what best tells that
    accuracy from the cut's; the cut is the best of 25.
    """
    check_delta(delta)
    check_confidence(confidence)
    tried = [_above_cut(included, cut) for cut in _CUTS]
    proven = [expected_bound(weights, included, delta, confidence) for weights in tried]
    return tried[int(np.argmax(proven))]


def expected_bound(weights: Weights, included: Floats, delta: float, confidence: float) -> float:
    """The mean bound where `included` is the share of included canaries by rank: power, integrated over
    epsilon.

    Guesses are taken for independent, each right with its rank's accuracy.
    """
    counted = _counted(weights)
    accuracy = np.where(weights > 0, included, 1 - included)
    each = np.array([accuracy[np.abs(weights) == size].mean() for size, _ in counted])
    seen = np.append(_at_least(counted, each), 0.0)
    best = min(float(accuracy.max()), 1 - math.exp(-_EPSILON_MOST))
    levels = np.linspace(0.0, math.log(best / (1 - best)), _LEVELS)
    power = np.zeros(_LEVELS)
    for place, epsilon in enumerate(levels):
        at_least = _at_least(counted, 1 / (1 + math.exp(-epsilon)))
        power[place] = seen[_least_refuting(at_least, counted[-1][0], weights.size * delta, 1 - confidence)]
        if power[place] < 1e-4:
            break
    return float(np.trapezoid(power, levels))


def _above_cut(included: Floats, cut: float) -> Weights:
    above = np.abs(included - 0.5) - cut * np.abs(included - 0.5).max()
    share = np.maximum(above, 0) / above.max()
    weights: Weights = (np.rint(_PARTS * share) * np.sign(included - 0.5)).astype(np.int64)
    return weights


def _least_refuting(at_least: Floats, whole: int, failures: float, level: float) -> int:
    """The least weight of right guesses whose p-value is below `level`; one more than there is where none
    is.
    """
    right = int(np.argmax(at_least < level)) if at_least[-1] < level else at_least.size
    while right < at_least.size and _p_value(at_least, right, whole, failures) >= level:
        right += 1
    return right


def _p_value(at_least: Floats, right: int, whole: int, failures: float) -> float:
    """arXiv 2305.08846, Appendix D: P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i, over whole guesses
    i.
    """
    chance = float(at_least[right])
    if failures == 0 or right == 0:
        return min(chance, 1.0)
    number = np.arange(1, math.ceil(right / whole) + 1)
    below = at_least[np.maximum(right - number * whole, 0)] - chance
    return min(chance + 2 * failures * float((below / number).max()), 1.0)


def _counted(weights: Weights) -> list[tuple[int, int]]:
    """Each size of a weight, from the least above 0, with how many guesses have it."""
    sizes, counts = np.unique(np.abs(weights[weights != 0]), return_counts=True)
    return list(zip(sizes.tolist(), counts.tolist(), strict=True))


def _at_least(counted: list[tuple[int, int]], accuracy: float | Floats) -> Floats:
    """For v from 0 to all of the weight, the chance of v or more if guesses are independently right, by their
    size.

    A sum of independent weights is a product in the Fourier domain.
    """
    total = sum(size * count for size, count in counted)
    length = 1 << total.bit_length()
    turns = np.exp(-2j * np.pi / length * np.arange(length // 2 + 1))
    product = np.ones(turns.size, dtype=np.complex128)
    accuracies = np.broadcast_to(accuracy, len(counted))
    for (size, count), chance in zip(counted, accuracies.tolist(), strict=True):
        product *= (1 - chance + chance * turns**size) ** count
    chances = np.maximum(np.fft.irfft(product, length)[: total + 1], 0)
    tail: Floats = np.cumsum(chances[::-1])[::-1]
    return tail


def _check(weights: Weights, right: int, delta: float) -> None:
    check_delta(delta)
    if not np.issubdtype(weights.dtype, np.integer) or weights.ndim != 1 or np.any(np.diff(weights) > 0):
        raise ValueError(f"expected whole weights that fall with the rank, got {weights}")
    if not np.any(weights):
        raise ValueError("expected a weight other than 0")
    if not 0 <= right <= np.abs(weights).sum():
        raise ValueError(f"expected 0 <= right <= {np.abs(weights).sum()}, got {right}")
