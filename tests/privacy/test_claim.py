"""A claim: what is out of range is refused, and what covers what was spent."""

import math

import pytest

from dpaudit.privacy.claim import Claim, rounded_up

TERMS = {"epsilon": 1.0, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"}


@pytest.mark.parametrize(
    "change", [{"epsilon": math.inf}, {"epsilon": 0.0}, {"delta": 0.0}, {"unit": "label"}]
)
def test_what_may_be_claimed(change: dict[str, object]) -> None:
    wanted = TERMS | change
    claim = Claim(**wanted)  # type: ignore[arg-type]
    assert {name: getattr(claim, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"delta": -1e-9},
        {"delta": 1.0},
        {"delta": math.nan},
        {"unit": "user"},
        {"relation": "zero_out"},
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: expected .*, got"):
        Claim(**(TERMS | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spent", "covered"), [(0.9, True), (1.0005, True), (1.002, False), (math.nan, False)]
)
def test_a_claim_covers_what_was_spent_but_for_the_accountants_error(spent: float, covered: bool) -> None:
    assert Claim(**TERMS).covers(spent) is covered  # type: ignore[arg-type]


def test_an_infinite_claim_covers_everything() -> None:
    assert Claim(**(TERMS | {"epsilon": math.inf})).covers(math.inf)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spent", "told"),
    [(11.3612, 11.37), (1.1, 1.1), (7.994, 8.0), (0.0, 0.0), (1e-9, 0.01), (math.inf, math.inf)],
)
def test_what_was_spent_is_rounded_up_and_never_past_the_next_place(spent: float, told: float) -> None:
    assert rounded_up(spent) == told
