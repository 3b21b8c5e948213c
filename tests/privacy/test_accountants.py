import itertools
import logging
import math
from functools import cache

import numpy as np
import pytest
from dp_accounting import rdp
from scipy.optimize import brentq
from scipy.stats import norm

from dpaudit.privacy import accountants
from dpaudit.privacy.accountants import calibrate, compose, epsilon_rdp, epsilon_spent
from dpaudit.privacy.claim import Claim, Relation
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats.epsilon import epsilon_gaussian

RATE, STEPS = 64 / 10_000, 469  # 3 epochs of expected batch 64 over 10,000 units


def mechanism(noise_multiplier: float, sampling_rate: float = 0.1, steps: int = 60) -> Mechanism:
    return Mechanism(noise_multiplier, sampling_rate, steps, clip=1.0)


@cache
def calibrated(
    epsilon: float, sampling_rate: float, steps: int, relation: Relation = "add_or_remove"
) -> float:
    return calibrate(Claim(epsilon, 1e-5, "record", relation), sampling_rate, steps)


@pytest.mark.parametrize(("noise_multiplier", "steps"), [(1.0, 1), (5.0, 10), (60.0, 1000)])
@pytest.mark.parametrize(("relation", "sensitivity"), [("add_or_remove", 1), ("replace", 2)])
def test_full_batches_are_one_exact_gaussian(
    noise_multiplier: float, steps: int, relation: Relation, sensitivity: int
) -> None:
    spent = epsilon_spent(mechanism(noise_multiplier, 1.0, steps), 1e-5, relation)
    exact = epsilon_gaussian(noise_multiplier=noise_multiplier / sensitivity / math.sqrt(steps), delta=1e-5)
    assert exact <= spent <= exact * 1.0002


@pytest.mark.parametrize(("noise_multiplier", "rate"), [(0.6, 0.01), (1.0, 0.1), (2.0, 0.5)])
def test_one_sampled_step_agrees_with_its_closed_form(noise_multiplier: float, rate: float) -> None:
    """The hockey-stick divergence of (1 - q) N(0, s^2) + q N(1, s^2) from N(0, s^2), the worse direction."""

    def delta(epsilon: float) -> float:
        x = noise_multiplier**2 * math.log((math.exp(epsilon) - 1 + rate) / rate) + 0.5
        present = rate * norm.sf(x - 1, scale=noise_multiplier)
        return float(present - (math.exp(epsilon) - 1 + rate) * norm.sf(x, scale=noise_multiplier))

    exact = brentq(lambda epsilon: delta(epsilon) - 1e-5, 1e-6, 50)
    spent = epsilon_spent(mechanism(noise_multiplier, rate, 1), 1e-5)
    assert exact <= spent <= exact * 1.0002


@pytest.mark.parametrize("relation", ["add_or_remove", "replace"])
def test_composition_agrees_with_simulated_privacy_losses(relation: Relation) -> None:
    """delta(eps) = E[(1 - e^(eps - loss))+] over outputs with the unit in (arXiv 1805.06530, Theorem 5)."""
    noise_multiplier, rate, steps, draws, delta = 1.0, 0.1, 60, 100_000, 0.02
    generator = np.random.default_rng(0)
    loss = np.zeros(draws)
    for _ in range(steps):
        output = (generator.random(draws) < rate) + noise_multiplier * generator.normal(size=draws)
        loss += np.log(1 - rate + rate * np.exp((output - 0.5) / noise_multiplier**2))
        if relation == "replace":  # the other unit pulls the opposite way
            loss -= np.log(1 - rate + rate * np.exp((-output - 0.5) / noise_multiplier**2))
    epsilon = epsilon_spent(mechanism(noise_multiplier, rate, steps), delta, relation)
    simulated = np.maximum(1 - np.exp(epsilon - loss), 0.0)
    assert np.mean(simulated) == pytest.approx(delta, abs=3 * np.std(simulated) / math.sqrt(draws))


@pytest.mark.parametrize(("sampling_rate", "steps"), [(0.1, 60), (0.01, 1000), (RATE, STEPS)])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_calibration_spends_the_claim_and_no_more(sampling_rate: float, steps: int, epsilon: float) -> None:
    spent = epsilon_spent(mechanism(calibrated(epsilon, sampling_rate, steps), sampling_rate, steps), 1e-5)
    assert 0.999 * epsilon <= spent <= epsilon


@pytest.mark.parametrize(
    ("epsilon", "sampling_rate", "steps"),
    [(0.1, 0.004, 5000), (0.1, 0.01, 1000), (100, 0.1, 60), (1, 1.0, 5)],
)
@pytest.mark.parametrize("relation", ["add_or_remove", "replace"])
def test_calibration_holds_far_out(
    epsilon: float, sampling_rate: float, steps: int, relation: Relation
) -> None:
    noise_multiplier = calibrated(epsilon, sampling_rate, steps, relation)
    spent = epsilon_spent(mechanism(noise_multiplier, sampling_rate, steps), 1e-5, relation)
    assert 0.999 * epsilon <= spent <= epsilon


def test_full_batch_calibration_inverts_the_exact_gaussian() -> None:
    exact = brentq(lambda s: epsilon_gaussian(noise_multiplier=s / math.sqrt(10), delta=1e-5) - 1, 0.1, 100)
    assert exact <= calibrated(1.0, 1.0, 10) <= exact * 1.001


@pytest.mark.parametrize(
    ("noise_share", "truths"), [(1 / 2, (9.7, 35.8, 67.0)), (1 / 4, (79.0, 232.0, 380.0))]
)
def test_too_little_noise_spends_what_was_measured_elsewhere(
    noise_share: float, truths: tuple[float, ...]
) -> None:
    """True epsilon when 1, 4, 8 is claimed, worked out beforehand with another implementation."""
    for claimed, truth in zip((1.0, 4.0, 8.0), truths, strict=True):
        noise_multiplier = calibrated(claimed, RATE, STEPS) * noise_share
        assert epsilon_spent(mechanism(noise_multiplier, RATE, STEPS), 1e-5) == pytest.approx(
            truth, rel=0.005
        )


@pytest.mark.parametrize(("claimed", "truth"), [(1.0, 1.37), (4.0, 5.13), (8.0, 10.8)])
def test_one_of_three_epochs_counted_spends_what_was_measured_elsewhere(claimed: float, truth: float) -> None:
    noise_multiplier = calibrated(claimed, RATE, 156)
    assert epsilon_spent(mechanism(noise_multiplier, RATE, STEPS), 1e-5) == pytest.approx(truth, rel=0.005)


@pytest.mark.parametrize(("claimed", "truth"), [(1.0, 2.9), (4.0, 8.2), (8.0, 16.4)])
def test_rate_understated_spends_what_was_measured_elsewhere(claimed: float, truth: float) -> None:
    noise_multiplier = calibrated(claimed, RATE / 4, STEPS)
    assert epsilon_spent(mechanism(noise_multiplier, RATE, STEPS), 1e-5) == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
def test_second_accountant_is_above_and_near(epsilon: float) -> None:
    run = mechanism(calibrated(epsilon, 0.01, 1000), 0.01, 1000)
    spent = epsilon_spent(run, 1e-5)
    assert spent < epsilon_rdp(run, 1e-5) < 1.25 * spent


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 1.0])
def test_orders_that_cannot_be_the_best_are_left_out(rate: float) -> None:
    """To the last bit the least over all orders, whichever group holds the best."""
    orders = [order for group in accountants._RDP_ORDERS for order in group]
    best = set()
    for noise_multiplier, steps in itertools.product((0.3, 4.0, 300.0), (1, 60)):
        event = accountants._composed((mechanism(noise_multiplier, rate, steps),))
        for delta in (1e-10, 1e-5, 1e-2):
            whole = rdp.RdpAccountant(orders).compose(event)
            epsilon, order = whole.get_epsilon_and_optimal_order(delta)
            best.add(sum(order > group[-1] for group in accountants._RDP_ORDERS))
            assert epsilon_rdp(mechanism(noise_multiplier, rate, steps), delta) == epsilon
    assert best == {0, 1, 2}


def test_second_accountant_logs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for noise_multiplier in (0.3, 1.0, 10.0):
            for rate in (0.001, 0.1, 0.5):
                epsilon_rdp(mechanism(noise_multiplier, rate), 1e-5)
    assert not caplog.records


@pytest.mark.parametrize("relation", ["add_or_remove", "replace"])
def test_spending_is_monotone(relation: Relation) -> None:
    by_noise = [epsilon_spent(mechanism(s), 1e-5, relation) for s in (1e-4, 0.01, 0.2, 1.0, 3.0, 20.0)]
    by_steps = [epsilon_spent(mechanism(1.0, steps=t), 1e-5, relation) for t in (0, 1, 10, 60, 600)]
    by_rate = [epsilon_spent(mechanism(1.0, q), 1e-5, relation) for q in (0.01, 0.1, 0.9, 1.0)]
    by_delta = [epsilon_spent(mechanism(1.0), d, relation) for d in (1e-10, 1e-6, 1e-3, 0.5)]
    for falling in (by_noise, by_steps[::-1], by_rate[::-1], by_delta):
        assert (np.diff(falling) < 0).all()


def test_what_was_read_once_is_not_worked_out_again() -> None:
    spent = compose([mechanism(1.7)], 1e-5)
    worked_out = accountants._read.cache_info().misses
    assert compose([mechanism(1.7)], 1e-5) == epsilon_spent(mechanism(1.7), 1e-5) == spent
    assert accountants._read.cache_info().misses == worked_out
    assert compose([mechanism(1.7)], 1e-6) > spent


def test_replacing_costs_more_than_adding_and_at_most_full_batches() -> None:
    run = mechanism(1.0)
    assert epsilon_spent(run, 1e-5) < epsilon_spent(run, 1e-5, "replace")
    assert epsilon_spent(run, 1e-5, "replace") < epsilon_spent(mechanism(1.0, 1.0), 1e-5, "replace")


def test_no_noise_and_no_steps() -> None:
    for account in (epsilon_spent, epsilon_rdp):
        assert account(mechanism(0.0), 1e-5) == math.inf
        assert account(mechanism(1e-200), 1e-5) == math.inf
        assert math.isfinite(account(mechanism(1e-20), 1e-5))
        assert account(Mechanism(1.0, 0.1, 60, clip=math.inf), 1e-5) == math.inf
        assert account(mechanism(0.0, steps=0), 1e-5) == 0.0
        assert account(Mechanism(1.0, 0.1, 0, 1.0, stages=(mechanism(0.0),)), 1e-5) == math.inf
    assert compose([], 1e-5) == 0.0
    assert calibrated(math.inf, 0.1, 60) == 0.0
    assert calibrated(1.0, 0.1, 0) == 0.0


def test_a_claim_that_any_noise_keeps_gets_the_least() -> None:
    """Sampled with probability 1e-6 in all, less than delta: nothing is spent whatever the noise."""
    assert 0 < calibrated(1.0, 1e-7, 10) < 0.01


def test_stages_are_spent_together() -> None:
    first, second = mechanism(1.0, 0.1, 40), mechanism(1.0, 0.1, 20)
    chained = Mechanism(1.0, 0.1, 20, 1.0, stages=(first,))
    whole = epsilon_spent(mechanism(1.0, 0.1, 60), 1e-5)
    assert epsilon_spent(chained, 1e-5) == pytest.approx(whole, rel=2e-4)
    assert compose([first, second], 1e-5) == pytest.approx(whole, rel=2e-4)
    assert compose([chained, second], 1e-5) == pytest.approx(
        epsilon_spent(mechanism(1.0, 0.1, 80), 1e-5), rel=2e-4
    )
    assert epsilon_rdp(chained, 1e-5) == pytest.approx(epsilon_rdp(mechanism(1.0), 1e-5))


def test_releasing_all_arms_lies_between_the_largest_and_the_sum() -> None:
    arms = [mechanism(calibrated(epsilon, 0.1, 60)) for epsilon in (1.0, 4.0, 8.0)]
    together = compose(arms, 3e-5)
    assert epsilon_spent(arms[-1], 3e-5) < together < sum(epsilon_spent(arm, 1e-5) for arm in arms)
    assert compose([*arms, mechanism(0.0)], 1e-5) == math.inf


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (1.0, 0.0)])
def test_no_noise_keeps_a_claim_of_nothing(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match=r"expected (epsilon > 0|delta in \(0, 1\)), got 0"):
        calibrate(Claim(epsilon, delta, "record", "add_or_remove"), 0.1, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": -0.1},
        {"noise_multiplier": math.inf},
        {"noise_multiplier": math.nan},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.1},
        {"steps": -1},
        {"steps": 1.5},
        {"steps": math.nan},
        {"clip": 0.0},
        {"clip": math.nan},
    ],
)
def test_mechanism_refuses_what_is_out_of_range(wrong: dict[str, float]) -> None:
    run: dict[str, float] = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 60, "clip": 1.0}
    with pytest.raises(ValueError, match=r"expected .*, got"):
        Mechanism(**(run | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("delta", [0.0, 1e-11, 1.0, math.nan])
def test_accounting_refuses_bad_delta_and_relation(delta: float) -> None:
    with pytest.raises(ValueError, match="expected delta in"):
        epsilon_spent(mechanism(1.0), delta)
    with pytest.raises(ValueError, match="expected relation in"):
        epsilon_spent(mechanism(1.0), 1e-5, "swap")  # type: ignore[arg-type]


@pytest.mark.parametrize(("sampling_rate", "steps"), [(0.0, 60), (1.5, 60), (0.1, -1), (0.1, 2.5)])
def test_calibration_refuses_bad_sampling(sampling_rate: float, steps: int) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        calibrate(Claim(1.0, 1e-5, "record", "add_or_remove"), sampling_rate, steps)


def test_calibration_refuses_what_no_noise_can_keep() -> None:
    with pytest.raises(ValueError, match=r"expected an epsilon that .*, got 1e-300"):
        calibrate(Claim(1e-300, 1e-10, "record", "add_or_remove"), 1.0, 1000)
