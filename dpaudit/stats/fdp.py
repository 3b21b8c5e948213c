"""Lower bounds from one run under a hypothesis on the whole trade-off curve, not on one (epsilon, delta) of
it.

They hold inside the named family only: where the mechanism is of another kind they say nothing, and no figure
of this module stands in one column with an (epsilon, delta) bound.

A curve enters as `needed`: needed(r) is the least chance of an output without a unit, given chance r with it.
It is convex and rises from 0 to 1.

Source: Mahloujifar, Melis, Chaudhuri 2024 (arXiv 2410.22235), algorithm 3 and theorem 3.2.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

from dpaudit.stats.epsilon import check_confidence, check_delta, check_guesses, epsilon_gaussian

Needed = Callable[[float], float]

_TOLERANCE = 1e-12  # of the family's parameter, relative
_SHIFT_MOST = 200.0  # of two unit normals: an epsilon above 20,000


def mass_needed(needed: Needed, canaries: int, guesses: int, correct: int, error: float) -> float:
    """The least probability that all outcomes together take, if `correct` or more right guesses have chance
    `error`.

    Above 1 that is impossible: under the curve so many right guesses are rarer than `error`, and are evidence
    against it at that level. It falls as the curve allows more.

    With C right guesses, r_k = E[C; C >= k] / m and h_k = E[guesses - C; C >= k] / m: turning one canary's
    coin takes the outcomes of r_{k+1} into those of h_k, so that h_k >= needed(r_{k+1}).
    """
    check_guesses(canaries, guesses, correct)
    right = error * correct / canaries  # r_k
    wrong = error * (guesses - correct) / canaries  # h_k
    for count in range(correct - 1, -1, -1):
        more = max(wrong, needed(min(right, 1.0)))
        right += count / (guesses - count) * (more - wrong)
        wrong = more
    return (right + wrong) * canaries / guesses if guesses else 0.0


def epsilon_lower_fdp_gaussian(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float
) -> float:
    """Return the epsilon at `delta` of the least Gaussian mechanism that one run's guesses do not refute, in
    nats.

    `canaries`, `guesses`, `correct` as in `epsilon_lower_one_run`, and the same errors. Holds at `confidence`
    if the training, as a whole, hides a unit as well as one Gaussian mechanism of some noise does; 0.0 where
    the guesses refute none of them.
    """
    check_guesses(canaries, guesses, correct)
    check_delta(delta)
    check_confidence(confidence)

    def excess(shift: float) -> float:
        return mass_needed(needed_gaussian(shift), canaries, guesses, correct, 1 - confidence) - 1

    if not guesses or excess(0.0) <= 0:
        return 0.0
    most = 1.0
    while most < _SHIFT_MOST and excess(most) > 0:
        most *= 2
    shift = most if excess(most) > 0 else float(brentq(excess, 0.0, most, xtol=_TOLERANCE, rtol=1e-14))
    return epsilon_gaussian(noise_multiplier=1 / shift, delta=delta)


def needed_gaussian(shift: float) -> Needed:
    """The curve of two unit normals `shift` apart: Phi(Phi^-1(r) - shift)."""

    def needed(chance: float) -> float:
        return 0.5 * math.erfc((shift - float(ndtri(chance))) / math.sqrt(2))

    return needed


def needed_of_deltas(epsilons: Sequence[float], deltas: Sequence[float]) -> Needed:
    """The curve of a mechanism that is (epsilon, delta)-private for every pair, epsilons from 0 upward.

    Each pair gives two lines that the curve lies above, r = delta + e^eps * needed and its mirror image; the
    curve is the highest of them (Wasserman and Zhou 2010; Dong, Roth, Su 2022, proposition 2.12), hence with
    finitely many pairs it lies at or below the mechanism's own, and a refutation by it holds for the
    mechanism.
    """
    grid, delta = np.asarray(epsilons, dtype=np.float64), np.asarray(deltas, dtype=np.float64)
    slopes = np.concatenate([np.exp(-grid[::-1]), np.exp(grid)])
    heights = np.concatenate([-delta[::-1] * np.exp(-grid[::-1]), 1 - delta - np.exp(grid)])
    slope, height, starts = _upper_envelope(slopes, heights)

    def needed(chance: float) -> float:
        line = bisect_right(starts, chance) - 1
        return min(max(height[line] + slope[line] * chance, 0.0), 1.0)

    return needed


def _upper_envelope(
    slopes: NDArray[np.float64], heights: NDArray[np.float64]
) -> tuple[list[float], list[float], list[float]]:
    """The lines that are highest somewhere, by rising slope, and where each begins to be; the first from
    -inf.
    """
    kept: list[tuple[float, float, float]] = []
    for slope, height in zip(slopes.tolist(), heights.tolist(), strict=True):
        start = -math.inf
        while kept:
            last_slope, last_height, last_start = kept[-1]
            if slope == last_slope:
                start = last_start if height > last_height else math.inf
            else:
                start = (last_height - height) / (slope - last_slope)
            if start > last_start:
                break
            kept.pop()
            start = -math.inf
        if start < math.inf:
            kept.append((slope, height, start))
    return [k[0] for k in kept], [k[1] for k in kept], [k[2] for k in kept]
