"""The interval of a win rate, and what is left of it when a judge's errors are taken off."""

import math

import numpy as np
import pytest
from exceedances import allowed_exceedances
from scipy.stats import binom

from dpaudit.stats.roc import proportion_lower
from dpaudit.stats.win_rates import CorrectedRate, WinRate, corrected, exact_limits, share_lower, win_rate


def wilson(wins: int, n: int) -> tuple[float, float]:
    """Wilson's interval as Newcombe 1998 (method 3) writes it."""
    z, p = 1.959963984540054, wins / n
    root = z * math.sqrt(z * z + 4 * n * p * (1 - p))
    return (2 * n * p + z * z - root) / (2 * (n + z * z)), (2 * n * p + z * z + root) / (2 * (n + z * z))


@pytest.mark.parametrize("n", [1, 7, 30, 31, 39, 60, 100])
def test_the_exact_interval_misses_no_truth_oftener_than_stated(n: int) -> None:
    """Coverage summed over every number of wins: at least .95, and from 30 draws on at most .98 in .1 to .9.
    Wilson's falls below .93 at 30.
    """
    truths = np.round(np.arange(0.02, 0.981, 0.004), 3)[:, None]
    weight = binom.pmf(np.arange(n + 1), n, truths)

    def coverage(limits: list[tuple[float, float]]) -> np.ndarray:
        lower, upper = np.array(limits).T
        return np.asarray((weight * ((lower <= truths) & (truths <= upper))).sum(axis=1))

    exact = coverage([exact_limits(wins, n) for wins in range(n + 1)])
    assert exact.min() >= 0.95
    if n >= 30:
        assert exact[(truths[:, 0] >= 0.1) & (truths[:, 0] <= 0.9)].max() <= 0.98
    if n == 30:
        assert coverage([wilson(wins, n) for wins in range(n + 1)]).min() < 0.93


@pytest.mark.parametrize(("wins", "n"), [(0, 40), (1, 40), (13, 40), (29, 40), (40, 40)])
def test_the_exact_interval_lies_within_clopper_and_pearsons(wins: int, n: int) -> None:
    lower, upper = exact_limits(wins, n)
    assert lower >= proportion_lower(wins, n, 0.975) - 1e-6
    assert upper <= 1 - proportion_lower(n - wins, n, 0.975) + 1e-6
    assert 0 <= lower <= wins / n <= upper <= 1
    assert exact_limits(n - wins, n) == pytest.approx((1 - upper, 1 - lower), abs=1e-9)


def test_whole_clusters_of_one_size_are_so_many_draws() -> None:
    won, lost = [1.0, 1.0], [0.0, 0.0]
    pairs = win_rate(won * 9 + lost * 31, np.repeat(np.arange(40), 2).tolist())
    assert (pairs.lower, pairs.upper) == exact_limits(9, 40)
    assert (pairs.comparisons, pairs.clusters, pairs.effective) == (80, 40, 40)


@pytest.mark.parametrize(("wins", "n"), [(1, 40), (12, 40), (39, 40)])
def test_where_a_prompt_is_tied_the_interval_is_near_wilsons(wins: int, n: int) -> None:
    found = win_rate([1.0] * wins + [0.0] * (n - wins) + [0.5])
    assert (found.lower, found.upper) == pytest.approx(wilson(wins, n), abs=0.02)
    assert 0 <= found.lower <= found.estimate <= found.upper <= 1


def test_both_orders_of_a_prompt_are_one_draw() -> None:
    outcome = np.random.default_rng(0).choice([0.0, 0.5, 1.0], size=200)
    once = win_rate(outcome)
    both = win_rate(np.repeat(outcome, 2), np.repeat(np.arange(200), 2))
    naive = win_rate(np.repeat(outcome, 2))
    assert (both.lower, both.upper) == pytest.approx((once.lower, once.upper))
    assert naive.upper - naive.lower < 0.8 * (both.upper - both.lower)
    assert (both.comparisons, both.clusters) == (400, 200)


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.98])
def test_the_interval_misses_no_oftener_than_stated(truth: float) -> None:
    """Sixty prompts in both orders, of which every fifth pair of orders disagrees; 7 % may miss."""
    replications, misses = 1500, 0
    prompts = np.repeat(np.arange(60), 2)
    for seed in range(replications):
        generator = np.random.default_rng(seed)
        outcome = (generator.random(60) < truth)[prompts].astype(float)
        again = generator.random(120) < 0.2
        outcome[again] = generator.random(int(again.sum())) < truth
        found = win_rate(outcome, prompts.tolist())
        misses += not found.lower <= truth <= found.upper
    assert misses <= allowed_exceedances(replications, 0.07)


@pytest.mark.parametrize("truth", [0.1, 0.5, 0.9])
def test_a_judge_that_errs_is_corrected_without_bias(truth: float) -> None:
    """A judge right in .85: raw the rate is drawn to a half; corrected within 2 points, and 7 % may miss."""
    replications, misses, found = 1500, 0, []
    for seed in range(replications):
        generator = np.random.default_rng(seed)
        verdicts = (generator.random(100) < 0.85) == (generator.random(100) < truth)
        known = win_rate((generator.random(240) < 0.85).astype(float))
        rate = corrected(win_rate(verdicts.astype(float)), known)
        assert rate.estimate is not None and rate.lower is not None and rate.upper is not None
        misses += not rate.lower <= truth <= rate.upper
        found.append(rate.estimate)
    assert abs(np.mean(found) - truth) < 0.02
    assert misses <= allowed_exceedances(replications, 0.07)


def rate_of(share: float, effective: float) -> WinRate:
    found = win_rate([1.0] * round(share * effective) + [0.0] * round((1 - share) * effective))
    assert found.effective == pytest.approx(effective, rel=0.01)
    return found


def test_what_no_correction_can_say_has_no_figure() -> None:
    coin, known = rate_of(0.5, 240), rate_of(0.8, 240)
    assert corrected(rate_of(0.7, 100), coin) == CorrectedRate(absent="judge at chance")
    assert corrected(rate_of(1.0, 400), known) == CorrectedRate(absent="judged beyond its errors")
    perfect = corrected(rate_of(0.7, 100), rate_of(1.0, 240))
    assert perfect.estimate == pytest.approx(0.7)
    assert perfect.absent is None


@pytest.mark.parametrize("outcomes", [[], [2.0], [math.nan], [0.25], [[1.0]]])
def test_win_rate_refuses_other_outcomes(outcomes: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        win_rate(outcomes)


def test_the_lower_limit_of_a_share_is_exact_and_counts_a_cluster_once() -> None:
    """Without clusters Clopper and Pearson's; copies of a result change nothing, whatever the result."""
    results = [n % 10 > 0 for n in range(60)]
    alone = share_lower(results, list(range(60)), 0.95)
    assert alone == pytest.approx(proportion_lower(54, 60, 0.95), abs=0.01)
    copied = share_lower(results * 5, list(range(60)) * 5, 0.95)
    assert copied == pytest.approx(alone, abs=1e-9)
    assert share_lower([True] * 24, list(range(24)), 0.95) == pytest.approx(0.05 ** (1 / 24))
    assert share_lower([False] * 24, list(range(24)), 0.95) == 0.0
    assert share_lower([True, False] * 30, [n // 2 for n in range(60)], 0.95) < 0.5


def test_the_lower_limit_of_a_share_in_clusters_exceeds_the_truth_at_most_as_often_as_stated() -> None:
    """2,000 replications, 24 clusters of 5 with a rate of their own each: .05 and three standard errors."""
    rng, missed = np.random.default_rng(5), 0
    labels = np.repeat(np.arange(24), 5)
    for _ in range(2000):
        results = rng.random(120) < rng.beta(8, 2, 24)[labels]
        missed += share_lower(results.tolist(), labels.tolist(), 0.95) > 0.8
    assert missed <= allowed_exceedances(2000, 0.05)
