"""f-DP in one run: against a plain transcription, against the exact curve, and its error where the null is
true.
"""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm

from dpaudit.stats import epsilon, fdp

COUNTS = {"canaries": 1000, "guesses": 100, "correct": 75, "delta": 1e-4, "confidence": 0.95}


def refuted_transcribed(m: int, r: int, v: int, noise: float, tau: float) -> bool:
    """arXiv 2410.22235, algorithm 3, line by line, for the Gaussian."""
    right, wrong = [0.0] * (v + 1), [0.0] * (v + 1)
    right[v], wrong[v] = tau * v / m, tau * (r - v) / m
    for i in range(v - 1, -1, -1):
        wrong[i] = max(wrong[i + 1], norm.cdf(norm.ppf(min(right[i + 1], 1.0)) - 1 / noise))
        right[i] = right[i + 1] + i / (r - i) * (wrong[i] - wrong[i + 1])
    return bool(right[0] + wrong[0] > r / m)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct"),
    [(1000, 100, 75), (300, 300, 190), (200, 80, 80), (2000, 150, 144), (100, 40, 30)],
)
def test_the_bound_is_where_the_transcription_turns(canaries: int, guesses: int, correct: int) -> None:
    low, high = 1e-3, 1e3  # noise: refuted above, not below
    for _ in range(60):
        middle = math.sqrt(low * high)
        if refuted_transcribed(canaries, guesses, correct, middle, 0.05):
            high = middle
        else:
            low = middle
    expected = epsilon.epsilon_gaussian(noise_multiplier=high, delta=1e-5)
    found = fdp.epsilon_lower_fdp_gaussian(
        canaries=canaries, guesses=guesses, correct=correct, delta=1e-5, confidence=0.95
    )
    assert found == pytest.approx(expected, abs=1e-8)


def test_no_better_than_chance_refutes_nothing() -> None:
    assert fdp.epsilon_lower_fdp_gaussian(**COUNTS | {"correct": 50}) == 0.0
    assert fdp.epsilon_lower_fdp_gaussian(**COUNTS | {"guesses": 0, "correct": 0}) == 0.0


def test_more_right_guesses_prove_more() -> None:
    found = [fdp.epsilon_lower_fdp_gaussian(**COUNTS | {"correct": v}) for v in range(60, 101, 4)]
    assert all(low < high for low, high in itertools.pairwise(found))


@pytest.mark.parametrize(
    "change",
    [{"correct": 101}, {"guesses": 1001}, {"delta": 1.0}, {"confidence": 1.0}, {"correct": 0.5}],
)
def test_arguments_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        fdp.epsilon_lower_fdp_gaussian(**COUNTS | change)  # type: ignore[arg-type]


@pytest.mark.parametrize(("noise", "fraction"), [(1.0, 1.0), (1.0, 0.1), (3.0, 0.4), (0.5, 0.05)])
def test_a_gaussian_exactly_at_the_claim_is_refuted_in_five_per_cent_at_most(
    noise: float, fraction: float
) -> None:
    """2,000 audits of one Gaussian of the claimed noise on each of 400 canaries; at most 5 % + 3 standard
    errors.
    """
    random, canaries = np.random.default_rng(7), 400
    guesses, claimed = (
        round(fraction * canaries),
        epsilon.epsilon_gaussian(noise_multiplier=noise, delta=1e-5),
    )
    included = random.random((2000, canaries)) < 0.5
    seen = included + noise * random.standard_normal((2000, canaries))
    sure = np.argsort(-np.abs(seen - 0.5), axis=1)[:, :guesses]
    right = np.take_along_axis((seen > 0.5) == included, sure, axis=1).sum(axis=1)
    bounds = {
        int(v): fdp.epsilon_lower_fdp_gaussian(
            canaries=canaries, guesses=guesses, correct=int(v), delta=1e-5, confidence=0.95
        )
        for v in np.unique(right)
    }
    refuted = sum(bounds[int(v)] > claimed for v in right)
    assert refuted <= 2000 * 0.05 + 3 * math.sqrt(2000 * 0.05 * 0.95)
    assert max(bounds.values()) > 0.2 * claimed  # few canaries prove little, but not nothing


def test_a_curve_from_deltas_lies_just_below_the_exact_one() -> None:
    grid = np.linspace(0, 30, 3001)
    curve = fdp.needed_of_deltas(grid, [epsilon._delta_gaussian(e, 1.0) for e in grid])
    exact = fdp.needed_gaussian(1.0)
    chances = np.concatenate([np.geomspace(1e-6, 0.5, 40), 1 - np.geomspace(1e-6, 0.5, 40)])
    for chance in chances:
        assert exact(chance) - 1e-5 <= curve(chance) <= exact(chance) + 1e-12


def test_a_curve_of_one_pair_is_pure_differential_privacy() -> None:
    curve = fdp.needed_of_deltas([math.log(3)], [0.0])
    assert curve(0.3) == pytest.approx(0.1)
    assert curve(0.9) == pytest.approx(0.7)
    assert (curve(0.0), curve(1.0)) == (0.0, pytest.approx(1.0))
