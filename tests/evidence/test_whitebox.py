"""The two conclusions from released sums: refuted where they should be, each under its own notion."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from dpaudit.evidence import whitebox
from dpaudit.privacy.accountants import calibrate, epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats.mechanism import p_value

CLAIM = Claim(1.0, 1e-5, "record", "add_or_remove")
RATE, STEPS = 0.02, 100


@cache
def claimed() -> Mechanism:
    return Mechanism(calibrate(CLAIM, RATE, STEPS), RATE, STEPS, 0.5)


def released(noise: float, seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    included = random.random(1000) < 0.5
    drawn = (random.random((STEPS, 1000)) < RATE) & included
    return drawn + noise * random.standard_normal((STEPS, 1000)), included


def test_a_quarter_of_the_noise_is_refuted_by_both() -> None:
    sums = released(claimed().noise_multiplier / 4, 1)
    bound = whitebox.bounded(*sums, claimed(), CLAIM, 0.95)
    test = whitebox.tested(*sums, claimed(), CLAIM, 0.95)
    assert test.p_value < 0.001
    assert (bound.notion, test.notion) == (
        "(eps,delta)",
        "mechanism test: Poisson-subsampled Gaussian family",
    )
    truth = epsilon_spent(Mechanism(claimed().noise_multiplier / 4, RATE, STEPS, 0.5), 1e-5)
    assert 1.0 < bound.epsilon_lower <= bound.ceiling < truth
    assert 0.6 * truth < test.epsilon_lower < truth  # what 1,000 canaries can tell
    assert test.noise_upper == pytest.approx(claimed().noise_multiplier / 4, rel=0.3)


def test_the_claimed_mechanism_is_refuted_by_neither() -> None:
    sums = released(claimed().noise_multiplier, 2)
    bound = whitebox.bounded(*sums, claimed(), CLAIM, 0.95)
    test = whitebox.tested(*sums, claimed(), CLAIM, 0.95)
    assert test.p_value > 0.05
    assert bound.epsilon_lower <= 1.0
    assert test.epsilon_lower <= 1.0
    assert test.noise_upper >= claimed().noise_multiplier


def test_a_claim_above_the_ceiling_is_beyond_the_bound() -> None:
    sums = released(claimed().noise_multiplier / 4, 3)
    high = Claim(8.0, 1e-5, "record", "add_or_remove")
    assert whitebox.bounded(*sums, claimed(), high, 0.95).ceiling < 8.0


def test_sums_without_any_canary_prove_nothing() -> None:
    _, included = released(1.0, 4)
    silent = np.random.default_rng(5).standard_normal((STEPS, 1000)) * claimed().noise_multiplier
    test = whitebox.tested(silent, included, claimed(), CLAIM, 0.95)
    assert test.p_value > 0.05
    assert test.epsilon_lower < 1.0 or math.isinf(test.noise_upper)


def test_what_would_be_caught_is_caught_as_often_as_told() -> None:
    found = whitebox.caught(claimed(), 1e-5, 1000, 0.95)
    assert found.noise_multiplier < claimed().noise_multiplier
    assert found.epsilon == epsilon_spent(Mechanism(found.noise_multiplier, RATE, STEPS, 0.5), 1e-5)
    tried = 60
    of = whitebox.family(claimed())
    seen = [p_value(*released(found.noise_multiplier, 100 + seed), of) for seed in range(tried)]
    caught = sum(p <= 0.05 for p in seen)
    assert abs(caught - 0.8 * tried) <= 3 * math.sqrt(tried * 0.8 * 0.2)
