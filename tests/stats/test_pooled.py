"""Bounds pooled over seeds: true claims are refuted in at most 5 % however the seeds depend on each other."""

import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from dpaudit.stats import pooled
from dpaudit.stats.epsilon import epsilon_lower_one_run, p_value_one_run
from dpaudit.stats.pooled import Run, epsilon_ceiling_pooled, epsilon_lower_pooled, p_value_pooled

CANARIES, GUESSES, DELTA, REPLICATIONS = 500, 250, 1e-5, 2000
ALLOWED = REPLICATIONS * 0.05 + 3 * math.sqrt(REPLICATIONS * 0.05 * 0.95)


@cache
def p_value(correct: int, epsilon: float) -> float:
    return p_value_one_run(canaries=CANARIES, guesses=GUESSES, correct=correct, epsilon=epsilon, delta=DELTA)


def runs(*correct: int) -> list[Run]:
    return [Run(CANARIES, GUESSES, each) for each in correct]


def right(truth: float, seeds: int, dependence: str) -> NDArray[np.int64]:
    """Right guesses of trainings that are exactly as private as they claim, (replications, seeds): as
    randomised response leaves them.
    """
    random = np.random.default_rng(5)
    places = random.random((REPLICATIONS, seeds if dependence == "independent" else 1))
    shifts = {"identical": 0.0, "apart": 1 / seeds}.get(dependence, 0.0)
    places = (places + shifts * np.arange(seeds)) % 1.0
    return np.asarray(binom.ppf(places, GUESSES, 1 / (1 + math.exp(-truth))), dtype=np.int64)


@pytest.mark.parametrize("dependence", ["independent", "identical", "apart"])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("truth", [0.0, 1.0, 3.0])
def test_a_true_claim_is_rarely_refuted(truth: float, seeds: int, dependence: str) -> None:
    """2,000 replications. Identical: what is guessed hangs on the shared coins alone. Apart: as far from each
    other as the margins allow.
    """
    drawn = right(truth, seeds, dependence)
    refuted = [pooled.merged([p_value(int(c), truth) for c in row]) < 0.05 for row in drawn]
    alone = sum(p_value(int(c), truth) < 0.05 for c in drawn[:, 0])
    assert sum(refuted) <= ALLOWED and alone > 0.01 * REPLICATIONS


def test_three_seeds_prove_as_much_as_one_does_and_more_evenly() -> None:
    """50 replications of independent seeds at a true epsilon of 2, beside the first seed alone and beside
    twice the arithmetic mean, which is as valid.
    """
    settings = {"delta": DELTA, "confidence": 0.95}
    drawn = right(2.0, 3, "independent")[:50]
    together = [epsilon_lower_pooled(runs=runs(*map(int, row)), **settings) for row in drawn]
    alone = [
        epsilon_lower_one_run(canaries=CANARIES, guesses=GUESSES, correct=int(row[0]), **settings)
        for row in drawn
    ]
    assert abs(np.mean(together) - np.mean(alone)) < 0.08 and np.std(together) < 0.9 * np.std(alone)
    twice_mean = [
        2 * np.mean([p_value(int(c), bound - 0.02) for c in row]) < 0.05
        for row, bound in zip(drawn, together, strict=True)
    ]
    assert np.mean(twice_mean) < 0.2  # it hardly ever proves as much


def test_the_factor_is_the_least_that_covers_every_dependence() -> None:
    """The other way: of all chances K P[...] that a piecewise linear majorant of the sum of 1/p gives, with
    t its ratio of ends, the least is the factor. It is 2.7456 at three.
    """
    for count in (3, 4, 10, 100):
        found = minimize_scalar(
            lambda t, k=count: (t + k - 1) * math.log(t) / (t - 1),
            bounds=(1.0001, 1e4),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert pooled.merged([1e-6] * count) == pytest.approx(found.fun * 1e-6, rel=1e-9)
    assert pooled.merged([0.01] * 3) == pytest.approx(0.027456, abs=1e-6)


def test_bounds_rise_with_right_guesses_and_stay_below_the_ceiling() -> None:
    settings = {"delta": DELTA, "confidence": 0.95}
    bounds = [epsilon_lower_pooled(runs=runs(200, 210, c), **settings) for c in (100, 180, 220, 250)]
    ceiling = epsilon_ceiling_pooled(runs=runs(200, 210, 220), **settings)
    assert bounds == sorted(bounds) and 0 < bounds[0] < bounds[-1] < ceiling
    perfect = {"canaries": CANARIES, "guesses": GUESSES, "correct": GUESSES}
    assert ceiling < epsilon_lower_one_run(**perfect, **settings)
    edge = epsilon_lower_pooled(runs=runs(200, 210, 220), **settings)
    assert p_value_pooled(runs=runs(200, 210, 220), epsilon=edge, delta=DELTA) == pytest.approx(0.05)
    assert epsilon_lower_pooled(runs=runs(125, 120, 130), **settings) == 0.0


def test_zeros_ones_and_too_few_seeds() -> None:
    assert pooled.merged([0.0, 1.0, 1.0]) == 0.0 and pooled.merged([1.0, 1.0, 1.0]) == 1.0
    for few in ([], [0.01], [0.01, 0.01]):
        with pytest.raises(ValueError, match="at least 3 p-values"):
            pooled.merged(few)
