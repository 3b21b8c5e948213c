"""The mechanism test against slow obvious doubles, simulated anew, and its error over many audits."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm

from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import mechanism
from dpaudit.stats.epsilon import epsilon_lower_one_run
from dpaudit.stats.mechanism import SampledGaussian
from dpaudit.stats.roc import auc_interval
from dpaudit.stats.weighted import right_weight

SMALL = SampledGaussian(0.8, 0.1, 30)
CASES = [SMALL, SampledGaussian(0.49, 0.0064, 468), SampledGaussian(3.0, 1.0, 20)]
NEARLY_BARE = SampledGaussian(
    0.2, 0.05, 40
)  # scores of what was never drawn lie within a thousandth of a nat


def allowed(replications: int, rate: float) -> float:
    return replications * rate + 3 * math.sqrt(replications * rate * (1 - rate))


def released(acting: SampledGaussian, canaries: int, random: np.random.Generator) -> tuple[Any, Any]:
    """Released sums (steps, canaries) of a mechanism, and fair coins."""
    included = random.random(canaries) < 0.5
    shape = (acting.steps, canaries)
    drawn = (random.random(shape) < acting.sampling_rate) & included
    return drawn + acting.noise_multiplier * random.standard_normal(shape), included


def test_scores_are_the_likelihood_ratio() -> None:
    observed, _ = released(SMALL, 50, np.random.default_rng(0))
    without = norm.logpdf(observed, 0, SMALL.noise_multiplier)
    drawn = norm.logpdf(observed, 1, SMALL.noise_multiplier)
    rate = SMALL.sampling_rate
    expected = np.logaddexp(math.log(1 - rate) + without, math.log(rate) + drawn) - without
    np.testing.assert_allclose(mechanism.scores(observed, SMALL), expected.sum(0), atol=1e-9)


def test_scores_stay_finite_where_nothing_was_clipped() -> None:
    observed = np.array([[1e6, -1e6, 0.0]])
    found = mechanism.scores(observed, SMALL)
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(1e6 / 0.64 + math.log(0.1), rel=1e-5)
    assert found[1] == pytest.approx(math.log(0.9))


def test_scores_of_a_full_batch_are_those_of_a_normal_shift() -> None:
    observed = np.array([[-3.0, 0.0, 0.5, 4.0]])
    found = mechanism.scores(observed, SampledGaussian(0.1, 1.0, 1))
    np.testing.assert_allclose(found, (observed[0] - 0.5) / 0.01)


@pytest.mark.parametrize("observed", [np.zeros(5), np.full((2, 3), np.nan)])
def test_scores_refuse_what_is_no_table_of_numbers(observed: Any) -> None:
    with pytest.raises(ValueError, match="expected \\(steps, canaries\\) without NaN"):
        mechanism.scores(observed, SMALL)


@pytest.mark.parametrize(
    "values", [(0.0, 0.1, 5), (math.inf, 0.1, 5), (1.0, 0.0, 5), (1.0, 1.1, 5), (1.0, 0.1, 0)]
)
def test_a_mechanism_out_of_range_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        SampledGaussian(*values)


@pytest.mark.parametrize("claimed", CASES)
def test_distributions_are_those_of_simulated_scores(claimed: SampledGaussian) -> None:
    random = np.random.default_rng(1)
    observed, included = released(claimed, 6000, random)
    found = mechanism.scores(observed, claimed)
    edges, *distributions = mechanism._distributions(claimed, claimed)
    for below, members in zip(distributions, (included, ~included), strict=True):
        drawn = np.interp(random.random(100_000), below, edges)
        assert ks_2samp(found[members], drawn).pvalue > 1e-3


@pytest.mark.parametrize("claimed", [SampledGaussian(0.6, 0.05, 40), NEARLY_BARE])
def test_the_null_is_that_of_simulated_runs(claimed: SampledGaussian) -> None:
    random = np.random.default_rng(2)
    fresh = []
    for _ in range(1500):
        observed, included = released(claimed, 100, random)
        found = mechanism.scores(observed, claimed)
        fresh.append(mechanism.auc(found[included], found[~included]))
    null = mechanism._null_aucs(claimed, 100, 4000)
    assert ks_2samp(fresh, null).pvalue > 1e-3
    assert np.std(null) == pytest.approx(np.std(fresh), rel=4 / math.sqrt(2 * 1500))


def test_auc_counts_ties_as_halves() -> None:
    scores = np.array([3.0, 2.0, 2.0, 1.0, 2.0, 0.0])
    members = np.array([True, True, False, False, True, False])
    expected = auc_interval(scores, members, 0.95).auc
    assert mechanism.auc(scores[members], scores[~members]) == pytest.approx(expected)
    assert mechanism.auc(np.zeros(3), np.zeros(4)) == 0.5


def p_values(acting: SampledGaussian, claimed: SampledGaussian, replications: int) -> Any:
    random = np.random.default_rng(3)
    return np.array(
        [mechanism.p_value(*released(acting, 80, random), claimed, 2000) for _ in range(replications)]
    )


def test_the_true_mechanism_is_refuted_as_often_as_stated() -> None:
    found = p_values(SMALL, SMALL, 2000)
    for level in (0.01, 0.05, 0.2):
        assert np.sum(found <= level) <= allowed(2000, level)
    assert np.sum(found <= 0.05) > 60  # and not much seldomer: the test spends its error


def test_more_noise_than_claimed_is_refuted_no_oftener() -> None:
    louder = SampledGaussian(1.2, SMALL.sampling_rate, SMALL.steps)
    assert np.sum(p_values(louder, SMALL, 400) <= 0.05) <= allowed(400, 0.05)


@pytest.mark.parametrize(
    "acting",
    [SampledGaussian(0.4, 0.1, 30), SampledGaussian(0.8, 0.4, 30), SampledGaussian(0.8, 0.1, 120)],
)
def test_less_noise_higher_rate_and_more_steps_are_refuted(acting: SampledGaussian) -> None:
    assert np.mean(p_values(acting, SMALL, 100) <= 0.05) > 0.9


def test_p_value_needs_both_kinds_of_canary() -> None:
    with pytest.raises(ValueError, match="included and excluded"):
        mechanism.p_value(np.zeros((3, 4)), np.ones(4, dtype=bool), SMALL)


def test_a_p_value_is_never_zero() -> None:
    observed = np.repeat(np.array([[5.0] * 20 + [-5.0] * 20]), 30, axis=0)
    included = np.arange(40) < 20
    assert mechanism.p_value(observed, included, SMALL, 500) == 1 / 501


def test_noise_upper_inverts_the_test() -> None:
    random = np.random.default_rng(4)
    acting = SampledGaussian(0.4, 0.1, 30)
    covered = 0
    for _ in range(25):
        observed, included = released(acting, 200, random)
        found = mechanism.test(observed, included, SMALL, 0.95, draws=500)
        assert (found.noise_upper < SMALL.noise_multiplier * (1 - 1e-9)) == (found.p_value <= 0.05)
        assert acting.noise_multiplier * 0.7 < found.noise_upper < SMALL.noise_multiplier
        covered += found.noise_upper >= acting.noise_multiplier
    assert covered >= 19  # 25 at 95 %: fewer than 20 has a chance of 2e-4


def test_noise_upper_is_infinite_where_nothing_is_refuted() -> None:
    observed = np.zeros((30, 40))
    included = np.arange(40) < 20
    assert mechanism.noise_upper(observed, included, SMALL, 0.95, draws=200) == math.inf


def highest(number: int, canaries: int) -> Any:
    """The weights of plain guesses: the highest scores are called included."""
    return (np.arange(canaries) < number).astype(np.int64)


def test_frozen_guesses_are_near_the_best_of_all() -> None:
    claimed = SampledGaussian(0.6059, 0.0064, 468)
    guesses = mechanism.guesses_frozen(claimed, 1000, 1e-5, 0.95)
    random = np.random.default_rng(5)
    tried = [10, 20, guesses, 100, 200, 400]
    totals = dict.fromkeys(tried, 0.0)
    for _ in range(40):
        observed, included = released(claimed, 1000, random)
        found = mechanism.scores(observed, claimed)
        for number in tried:
            right = right_weight(found, included, highest(number, 1000))
            totals[number] += epsilon_lower_one_run(
                canaries=1000, guesses=number, correct=right, delta=1e-5, confidence=0.95
            )
    assert totals[guesses] / 40 >= 0.45  # at epsilon 4
    assert totals[guesses] >= 0.9 * max(totals.values())  # 40 runs rank the best two by chance
    assert totals[guesses] >= 1.2 * totals[200]


def test_frozen_guesses_refute_the_claimed_mechanism_no_oftener_than_stated() -> None:
    claimed = SampledGaussian(1.0, 0.2, 10)
    epsilon = epsilon_spent(Mechanism(1.0, 0.2, 10, 1.0), 1e-3)
    guesses = mechanism.guesses_frozen(claimed, 100, 1e-3, 0.95)
    random = np.random.default_rng(6)
    bounds = []
    for _ in range(2000):
        observed, included = released(claimed, 100, random)
        right = right_weight(mechanism.scores(observed, claimed), included, highest(guesses, 100))
        bounds.append((guesses, right))
    proven = {
        pair: epsilon_lower_one_run(
            canaries=100, guesses=pair[0], correct=pair[1], delta=1e-3, confidence=0.95
        )
        for pair in set(bounds)
    }
    assert sum(proven[pair] > epsilon for pair in bounds) <= allowed(2000, 0.05)
    assert max(proven.values()) > 0
