"""f-DP for Poisson-sampled Gaussian steps: against the plain Gaussian, its nulls, its guarantees, its
errors.
"""

import math
from bisect import bisect_right

import numpy as np
import pytest

from dpaudit.evidence import subsampled
from dpaudit.privacy import accountants
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import fdp

COUNTS = {"canaries": 2000, "guesses": 400, "correct": 280, "delta": 1e-5, "confidence": 0.95}


@pytest.mark.parametrize("correct", [230, 280, 380])
def test_one_step_over_all_units_is_the_gaussian(correct: int) -> None:
    """A little below it, since a discretised curve allows a little more."""
    counts = COUNTS | {"correct": correct}
    plain = fdp.epsilon_lower_fdp_gaussian(**counts)  # type: ignore[arg-type]
    found = subsampled.epsilon_lower_fdp_subsampled(**counts, sampling_rate=1.0, steps=1)
    assert plain * (1 - 2e-3) - 1e-4 <= found <= plain * (1 + 1e-4)


def test_the_curve_is_that_of_both_neighbours() -> None:
    """At every chance below the exact Gaussian's of the same steps without sampling: sampling only hides
    more.
    """
    sampled = subsampled.needed(Mechanism(2.0, 0.1, 100, 1.0))
    plain = fdp.needed_gaussian(math.sqrt(100) / 2.0)
    for chance in (1e-4, 0.01, 0.3, 0.9, 0.999):
        assert plain(chance) < sampled(chance) < chance


def scores(
    random: np.random.Generator, noise: float, rate: float, steps: int, included: np.ndarray
) -> np.ndarray:
    """The log-likelihood ratio of each canary's released coordinate, summed over steps."""
    total = np.zeros(len(included))
    for _ in range(steps):
        seen = included * (random.random(len(included)) < rate) + noise * random.standard_normal(
            len(included)
        )
        total += np.log1p(rate * np.expm1((seen - 0.5) / noise**2))
    return total


def test_sampled_noise_exactly_at_the_claim_is_refuted_in_five_per_cent_at_most() -> None:
    """2,000 audits of 300 canaries, 20 steps at rate .2."""
    noise, rate, steps, canaries, guesses = 2.0, 0.2, 20, 300, 60
    claimed = accountants.epsilon_spent(Mechanism(noise, rate, steps, 1.0), 1e-5)

    def bound(right: int) -> float:
        return subsampled.epsilon_lower_fdp_subsampled(
            canaries=canaries,
            guesses=guesses,
            correct=right,
            delta=1e-5,
            confidence=0.95,
            sampling_rate=rate,
            steps=steps,
        )

    refuted_from = bisect_right(range(guesses + 1), claimed, key=bound)
    random, refuted = np.random.default_rng(5), 0
    for _ in range(2000):
        included = random.random(canaries) < 0.5
        order = np.argsort(-scores(random, noise, rate, steps, included))
        refuted += int(included[order[:guesses]].sum()) >= refuted_from
    assert refuted <= 2000 * 0.05 + 3 * math.sqrt(2000 * 0.05 * 0.95)
    assert refuted_from < guesses  # the check can fail


def test_nothing_and_everything_refuted() -> None:
    nothing = COUNTS | {"correct": 200}
    assert subsampled.epsilon_lower_fdp_subsampled(**nothing, sampling_rate=0.1, steps=100) == 0.0
    rare = {"canaries": 2000, "guesses": 1000, "correct": 1000, "delta": 1e-5, "confidence": 0.95}
    found = subsampled.epsilon_lower_fdp_subsampled(**rare, sampling_rate=1e-3, steps=1)
    assert (
        found == math.inf
    )  # one unit in a thousand was drawn at all: no noise explains so many right guesses


@pytest.mark.parametrize(
    "change", [{"sampling_rate": 0.0}, {"sampling_rate": 1.5}, {"correct": 401}, {"delta": 1.0}]
)
def test_arguments_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        subsampled.epsilon_lower_fdp_subsampled(**COUNTS | {"sampling_rate": 0.1, "steps": 10} | change)
