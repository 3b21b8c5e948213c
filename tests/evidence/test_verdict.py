import math

import pytest

from dpaudit.evidence.verdict import compare, guess_limit
from dpaudit.privacy.claim import Claim

CLAIM = Claim(1.0, 1e-5, "patient", "add_or_remove")


@pytest.mark.parametrize(
    ("epsilon_lower", "ceiling", "word"),
    [
        (1.5, 2.8, "refuted"),
        (1.0, 2.8, "not refuted"),  # equal to the claim refutes nothing
        (0.0, 2.8, "not refuted"),
        (0.0, 1.0, "no power"),
        (0.0, 0.7, "no power"),
    ],
)
def test_the_three_words(epsilon_lower: float, ceiling: float, word: str) -> None:
    found = compare(CLAIM, epsilon_lower, ceiling)
    assert found.verdict == word
    assert f"{CLAIM.epsilon:g}" in found.reason


@pytest.mark.parametrize("epsilon_lower", [0.0, 0.9, 1.5])
def test_no_verdict_is_worded_as_if_the_claim_held(epsilon_lower: float) -> None:
    found = compare(CLAIM, epsilon_lower, 2.8)
    assert not any(
        word in f"{found.verdict} {found.reason}" for word in ("holds", "confirmed", "verified", "private")
    )


@pytest.mark.parametrize(("epsilon_lower", "ceiling"), [(2.0, 1.0), (-0.1, 1.0), (float("nan"), 1.0)])
def test_a_bound_outside_its_ceiling_is_an_error(epsilon_lower: float, ceiling: float) -> None:
    with pytest.raises(ValueError, match="epsilon_lower"):
        compare(CLAIM, epsilon_lower, ceiling)


def test_a_claim_names_all_of_its_terms() -> None:
    assert str(CLAIM) == "epsilon 1 at delta 1e-05, unit patient, add_or_remove"


@pytest.mark.parametrize(
    ("epsilon", "delta", "right"), [(0.0, 0.0, 0.5), (math.log(3), 0.0, 0.75), (0.0, 0.2, 0.6)]
)
def test_a_claim_limits_how_often_anybody_guesses_right(epsilon: float, delta: float, right: float) -> None:
    assert guess_limit(epsilon, delta) == pytest.approx(right)
    assert guess_limit(1000.0, delta) == pytest.approx(1.0)


def test_the_guess_limit_is_the_best_of_all_attacks_that_the_claim_allows() -> None:
    """A slow double: the best accuracy over a fine grid of false positive rates under both constraints."""
    epsilon, delta = 1.3, 0.05
    rates = [k / 20_000 for k in range(20_001)]
    allowed = [
        (f, min(math.exp(epsilon) * f + delta, 1 - math.exp(-epsilon) * (1 - delta - f), 1.0)) for f in rates
    ]
    best = max((tpr + 1 - fpr) / 2 for fpr, tpr in allowed)
    assert guess_limit(epsilon, delta) == pytest.approx(best, abs=1e-4)
