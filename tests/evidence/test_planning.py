"""Power is what simulated audits show; violations that cannot be are refused."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.errors import UsageError
from dpaudit.evidence import planning
from dpaudit.stats import mechanism
from dpaudit.stats.epsilon import epsilon_lower_one_run
from dpaudit.stats.mechanism import SampledGaussian
from dpaudit.stats.weighted import right_weight

AUDITS = 300


def simulated(
    plan: planning.AuditPlan, acting: SampledGaussian, canaries: int, guesses: int
) -> tuple[float, float]:
    """Shares of `AUDITS` simulated audits in which the one-run bound and the mechanism test refute."""
    claimed = planning._claimed(plan)
    highest = (np.arange(canaries) < guesses).astype(np.int64)
    random, by_bound, by_test = np.random.default_rng(9), 0, 0
    for _ in range(AUDITS):
        included = random.random(canaries) < 0.5
        drawn = random.random((acting.steps, canaries)) < acting.sampling_rate
        seen = drawn * included + acting.noise_multiplier * random.standard_normal(drawn.shape)
        right = right_weight(mechanism.scores(seen, claimed), included, highest)
        bound = epsilon_lower_one_run(
            canaries=canaries, guesses=guesses, correct=right, delta=plan.delta, confidence=0.95
        )
        by_bound += bound > plan.epsilon
        by_test += mechanism.p_value(seen, included, claimed) <= 0.05
    return by_bound / AUDITS, by_test / AUDITS


@pytest.mark.parametrize(
    ("epsilon", "violation", "canaries"), [(0.5, "noise/4", 200), (1.0, "rate*2", 150), (2.0, "steps*3", 120)]
)
def test_power_is_that_of_simulated_audits(epsilon: float, violation: str, canaries: int) -> None:
    """Within three standard errors of 300 audits, and the bound's a little more: it takes guesses for
    independent.
    """
    plan = planning.AuditPlan(epsilon, 1e-5, 0.05, 40, violation)
    found = planning.power(plan, [canaries])
    row, acting = found["audits"][0], planning._violated(plan, planning._claimed(plan))
    by_bound, by_test = simulated(plan, acting, canaries, row["guesses"])
    assert row["mechanism_test"] == pytest.approx(by_test, abs=3 * 0.5 / AUDITS**0.5)
    assert row["one_run_bound"] == pytest.approx(by_bound, abs=3 * 0.5 / AUDITS**0.5 + 0.02)
    assert found["epsilon_acting"] > epsilon


def test_a_training_that_keeps_its_claim_is_refuted_at_the_nominal_rate() -> None:
    claimed = SampledGaussian(1.0, 0.05, 40)
    assert mechanism.power(claimed, claimed, 200, 0.95) == pytest.approx(
        0.05, abs=3 * (0.05 * 0.95 / 2000) ** 0.5
    )


def test_more_canaries_detect_more_and_the_least_that_does_is_named() -> None:
    found = planning.power(planning.AuditPlan(1.0, 1e-5, 0.05, 40, "noise/1.5"), [50, 200, 800, 3200])
    shares = [row["mechanism_test"] for row in found["audits"]]
    assert shares == sorted(shares)
    assert found["needed"]["mechanism_test"] == next(
        row["canaries"] for row in found["audits"] if row["mechanism_test"] >= planning.POWER
    )


def test_the_command_prints_a_row_per_number() -> None:
    words = "bound power --eps 1 --rate .05 --steps 40 --delta 1e-5 --canaries 100 --canaries 200 --json"
    found = json.loads(CliRunner().invoke(app, words.split()).stdout)
    assert [row["canaries"] for row in found["audits"]] == [100, 200]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"violation": "noise*2"}, "--violation: expected such as"),
        ({"violation": "noise/1"}, "--violation: expected a number above 1"),
        ({"violation": "rate*40"}, "--violation: expected a rate of at most 1"),
        ({"epsilon": 0.0}, "dpaudit bound power: expected epsilon > 0"),
        ({"delta": 1.0}, "dpaudit bound power: expected delta"),
        ({"rate": 2.0}, "dpaudit bound power: expected sampling_rate"),
        ({"steps": 0}, "--steps: expected at least one"),
        ({"epsilon": math.inf}, "--eps: expected a finite"),
        ({"violation": f"noise/{'9' * 400}"}, "--violation: expected a number above 1"),
        ({"violation": f"steps*{'9' * 400}"}, "--violation: expected a number above 1"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], told: str) -> None:
    settings: dict[str, object] = {
        "epsilon": 1.0,
        "delta": 1e-5,
        "rate": 0.05,
        "steps": 40,
        "violation": "noise/2",
    }
    with pytest.raises(UsageError, match=f"^{told}"):
        planning.power(planning.AuditPlan(**settings | change), [100])  # type: ignore[arg-type]


def test_a_confidence_or_a_number_of_canaries_out_of_range_is_refused() -> None:
    plan = planning.AuditPlan(1.0, 1e-5, 0.05, 40, "noise/2")
    for confidence in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(UsageError, match=r"^--confidence"):
            planning.power(plan, [100], confidence)
    with pytest.raises(UsageError, match=r"^--canaries: expected at most 100,000"):
        planning.power(plan, [100, 10**9])
