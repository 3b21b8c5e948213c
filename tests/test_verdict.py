import pytest

from dpaudit.verdict import Claim, decide

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
    found = decide(CLAIM, epsilon_lower, ceiling)
    assert found.verdict == word
    assert f"{CLAIM.epsilon:g}" in found.reason


@pytest.mark.parametrize("epsilon_lower", [0.0, 0.9, 1.5])
def test_no_verdict_is_worded_as_if_the_claim_held(epsilon_lower: float) -> None:
    found = decide(CLAIM, epsilon_lower, 2.8)
    assert not any(
        word in f"{found.verdict} {found.reason}" for word in ("holds", "confirmed", "verified", "private")
    )


@pytest.mark.parametrize(("epsilon_lower", "ceiling"), [(2.0, 1.0), (-0.1, 1.0), (float("nan"), 1.0)])
def test_a_bound_outside_its_ceiling_is_an_error(epsilon_lower: float, ceiling: float) -> None:
    with pytest.raises(ValueError, match="epsilon_lower"):
        decide(CLAIM, epsilon_lower, ceiling)


def test_a_claim_names_all_of_its_terms() -> None:
    assert str(CLAIM) == "epsilon 1 at delta 1e-05, unit patient, add_or_remove"
