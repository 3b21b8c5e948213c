import math

import numpy as np
import pytest
from exceedances import allowed_exceedances
from scipy.optimize import brentq
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from dpaudit.stats.roc import (
    AucInterval,
    auc_difference,
    auc_interval,
    proportion_interval,
    proportion_lower,
    proportion_upper,
    roc_curve,
    tpr_at_fpr,
)


def auc_transcribed(scores: np.ndarray, members: np.ndarray, confidence: float) -> AucInterval:
    """DeLong et al. 1988 over all pairs, one by one."""
    inside, outside = scores[members], scores[~members]
    wins = [[float(x > y) + 0.5 * float(x == y) for y in outside] for x in inside]
    placed = [sum(row) / len(outside) for row in wins]
    placed_controls = [sum(row[j] for row in wins) / len(inside) for j in range(len(outside))]
    auc = sum(placed) / len(placed)
    variance = sum((p - auc) ** 2 for p in placed) / (len(placed) - 1) / len(placed)
    variance += sum((p - auc) ** 2 for p in placed_controls) / (len(outside) - 1) / len(outside)
    logit, spread = math.log(auc / (1 - auc)), math.sqrt(variance) / auc / (1 - auc)
    z = norm.ppf(0.5 + confidence / 2)
    lower, upper = (1 / (1 + math.exp(-(logit + side * z * spread))) for side in (-1, 1))
    return AucInterval(auc, lower, upper)


def sample(seed: int, size: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    members = np.arange(size) % 2 == 0
    return generator.normal(size=size) + shift * members, members


def test_roc_curve_by_hand() -> None:
    roc = roc_curve([4.0, 3.0, 3.0, 1.0], [True, True, False, False])
    assert roc.thresholds.tolist() == [np.inf, 4.0, 3.0, 1.0]
    assert roc.tpr.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert roc.fpr.tolist() == [0.0, 0.0, 0.5, 1.0]  # the tie at 3 is one diagonal segment


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_roc_curve_agrees_with_counting(decimals: int) -> None:
    scores, members = sample(0, 101, 1.0)
    scores = scores.round(decimals)
    roc = roc_curve(scores, members)
    for fpr, tpr, threshold in zip(roc.fpr, roc.tpr, roc.thresholds, strict=True):
        assert tpr == pytest.approx(np.mean(scores[members] >= threshold), abs=1e-12)
        assert fpr == pytest.approx(np.mean(scores[~members] >= threshold), abs=1e-12)
    assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(auc_interval(scores, members, 0.95).auc)


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_auc_interval_agrees_with_the_transcription(decimals: int) -> None:
    scores, members = sample(3, 61, 1.0)
    scores = scores.round(decimals)
    found = auc_interval(scores, members, 0.9)
    assert found == pytest.approx(auc_transcribed(scores, members, 0.9), abs=1e-9)
    assert found.auc == pytest.approx(roc_auc_score(members, scores), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_auc_interval_misses_no_oftener_than_stated(shift: float) -> None:
    """A shift of 0 is the null: random scores, AUC one half."""
    truth = norm.cdf(shift / math.sqrt(2))
    intervals = [auc_interval(*sample(seed, 160, shift), 0.95) for seed in range(3000)]
    misses = sum(not interval.lower <= truth <= interval.upper for interval in intervals)
    assert misses <= allowed_exceedances(3000, 0.05)


def test_auc_interval_of_perfect_separation_has_width() -> None:
    members = np.arange(50) < 20
    perfect = auc_interval(np.where(members, 1.0, 0.0), members, 0.95)
    assert perfect == pytest.approx((1.0, 0.025 ** (1 / 20), 1.0))
    inverted = auc_interval(np.where(members, 0.0, 1.0), members, 0.95)
    assert inverted == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 20)))


def test_auc_interval_of_tied_scores_and_of_one_example_has_width() -> None:
    tied = auc_interval(np.zeros(40), np.arange(40) < 20, 0.95)
    assert tied.auc == 0.5
    assert tied.lower < 0.3 < 0.7 < tied.upper
    single = auc_interval([2.0, 1.0, 3.0], [True, False, False], 0.95)
    assert single.auc == 0.5
    assert single.upper - single.lower > 0.9


def test_auc_interval_accepts_infinite_scores() -> None:
    assert auc_interval([-math.inf, 0.0, math.inf, 1.0], [0, 0, 1, 1], 0.95).auc == 1.0


@pytest.mark.parametrize(
    ("scores", "members"),
    [
        ([], []),
        ([1.0, math.nan], [True, False]),
        ([1.0, 2.0], [True, True]),
        ([1.0, 2.0], [False, False]),
        ([1.0, 2.0], [True]),
        ([1.0, 2.0], [0.5, 1.0]),
        ([[1.0, 2.0]], [[True, False]]),
    ],
)
def test_bad_scores_are_refused(scores: list[float], members: list[bool]) -> None:
    for function in (
        lambda: roc_curve(scores, members),
        lambda: auc_interval(scores, members, 0.95),
        lambda: tpr_at_fpr(scores, members, 0.1, 0.95, seed=0),
    ):
        with pytest.raises(ValueError, match=r"expected .*, got"):
            function()


def test_tpr_at_fpr_is_near_the_gaussian_truth() -> None:
    scores, members = sample(0, 40_000, 2.0)
    point = tpr_at_fpr(scores, members, 0.01, 0.95, seed=0)
    truth = norm.sf(norm.isf(0.01) - 2.0)
    assert point.measurable
    assert point.tpr is not None
    assert point.tpr == pytest.approx(truth, rel=0.1)
    assert (point.controls, point.members, point.fpr_target) == (20_000, 20_000, 0.01)


def test_tpr_at_fpr_keeps_its_promises_on_average() -> None:
    """The null: members and controls alike, so the true rate at a threshold is its survival function."""
    true_fprs, misses, low_fpr_uppers, replications = [], 0, 0, 2000
    for seed in range(replications):
        point = tpr_at_fpr(*sample(seed, 440, 0.0), 0.05, 0.9, seed=seed)
        assert point.threshold is not None
        assert point.tpr_lower is not None
        assert point.tpr_upper is not None
        assert point.fpr_upper is not None
        truth = norm.sf(point.threshold)
        true_fprs.append(truth)
        misses += not point.tpr_lower <= truth <= point.tpr_upper
        low_fpr_uppers += point.fpr_upper < truth
    assert np.mean(true_fprs) <= 0.05 + 3 * np.std(true_fprs) / math.sqrt(replications)
    assert misses <= allowed_exceedances(replications, 0.1)
    assert low_fpr_uppers <= allowed_exceedances(replications, 0.1)


def test_tpr_at_fpr_counts_ties_against_the_attack() -> None:
    point = tpr_at_fpr(np.ones(400), np.arange(400) < 200, 0.1, 0.95, seed=0)
    assert (point.tpr, point.fpr_measured) == (0.0, 0.0)


@pytest.mark.parametrize(("controls", "measurable"), [(99, False), (100, True)])
def test_tpr_at_fpr_needs_ten_expected_false_alarms(controls: int, measurable: bool) -> None:
    scores, members = np.arange(controls + 5.0), np.arange(controls + 5) < 5
    point = tpr_at_fpr(scores, members, 0.1, 0.95, seed=0)
    assert point.measurable is measurable
    assert (point.tpr is None) is not measurable
    assert point.controls == controls


def test_tpr_at_fpr_depends_on_the_seed_alone() -> None:
    scores, members = sample(5, 2000, 1.0)
    first, again, other = (tpr_at_fpr(scores, members, 0.05, 0.95, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_tpr_at_fpr_measures_on_other_controls_than_it_chose_on() -> None:
    """On the half that sets the threshold the rate would be the same for every seed."""
    scores, members = sample(6, 2000, 1.0)
    measured = {tpr_at_fpr(scores, members, 0.1, 0.95, seed=seed).fpr_measured for seed in range(5)}
    assert len(measured) > 1


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_rates_outside_the_open_unit_interval_are_refused(rate: float) -> None:
    scores, members = sample(0, 400, 1.0)
    with pytest.raises(ValueError, match="expected fpr in"):
        tpr_at_fpr(scores, members, rate, 0.95, seed=0)
    with pytest.raises(ValueError, match="expected confidence in"):
        tpr_at_fpr(scores, members, 0.1, rate, seed=0)
    with pytest.raises(ValueError, match="expected confidence in"):
        auc_interval(scores, members, rate)
    with pytest.raises(ValueError, match="expected confidence in"):
        proportion_interval(1, 2, rate)


def test_nothing_of_n_comes_with_its_upper_bound() -> None:
    assert proportion_upper(0, 300, 0.95) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert proportion_upper(0, 300, 0.95) == pytest.approx(3 / 300, rel=0.01)
    assert proportion_upper(0, 0, 0.95) == 1.0
    assert proportion_interval(0, 0, 0.95) == (0.0, 1.0)
    assert proportion_interval(5, 5, 0.9) == pytest.approx((0.05 ** (1 / 5), 1.0))


@pytest.mark.parametrize(("successes", "trials"), [(1, 10), (9, 10), (37, 200)])
def test_proportion_bounds_invert_the_binomial(successes: int, trials: int) -> None:
    upper = brentq(lambda p: binom.cdf(successes, trials, p) - 0.05, 1e-9, 1 - 1e-9, xtol=1e-13)
    lower = brentq(lambda p: binom.sf(successes - 1, trials, p) - 0.05, 1e-9, 1 - 1e-9, xtol=1e-13)
    assert proportion_upper(successes, trials, 0.95) == pytest.approx(upper, abs=1e-9)
    assert proportion_lower(successes, trials, 0.95) == pytest.approx(lower, abs=1e-9)
    assert proportion_interval(successes, trials, 0.9) == pytest.approx((lower, upper), abs=1e-9)


@pytest.mark.parametrize("truth", [0.0, 0.02, 0.3, 0.99])
def test_proportion_interval_covers_exactly(truth: float) -> None:
    """Not simulated: the miss probability is summed over all outcomes."""
    counts = range(61)
    missed = [not low <= truth <= high for low, high in (proportion_interval(k, 60, 0.95) for k in counts)]
    assert binom.pmf(counts, 60, truth) @ np.array(missed) <= 0.05


def test_proportion_upper_rises_with_successes_and_falls_with_trials() -> None:
    assert (np.diff([proportion_upper(k, 20, 0.95) for k in range(20)]) > 0).all()
    assert (np.diff([proportion_upper(1, n, 0.95) for n in range(2, 40)]) < 0).all()


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (1.5, 5), (math.nan, 5), (0, math.inf)])
def test_bad_counts_are_refused(successes: float, trials: float) -> None:
    for function in (proportion_interval, proportion_lower, proportion_upper):
        with pytest.raises(ValueError, match="expected whole"):
            function(successes, trials, 0.95)  # type: ignore[arg-type]


def test_the_paired_difference_of_two_areas_covers_the_truth() -> None:
    """95 % intervals over 2,000 worlds whose areas differ by .059: at most 5 % + 3 standard errors miss
    it.
    """
    rng, missed, widths = np.random.default_rng(0), 0, []
    truth = norm.cdf(1 / math.sqrt(2)) - norm.cdf(0.8 / math.sqrt(2))
    for _ in range(2000):
        members = np.arange(200) < 100
        shared = rng.normal(size=200) * 0.8
        first = shared + rng.normal(size=200) * 0.6 + members
        second = shared + rng.normal(size=200) * 0.6 + 0.8 * members
        found = auc_difference(first, second, members, 0.95)
        missed += not found.lower <= truth <= found.upper
        widths.append(found.error)
    assert (
        missed / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000) + 0.005
    )  # a normal interval, 100 of each kind
    alone = auc_interval(first, members, 0.95)
    assert np.mean(widths) < (alone.upper - alone.lower) / 2 / 1.96 * math.sqrt(2)  # pairing gains something


def test_the_difference_of_a_score_with_itself_is_nothing() -> None:
    scores, members = np.arange(20.0), np.arange(20) % 3 == 0
    assert auc_difference(scores, scores, members, 0.95) == (0.0, 0.0, 0.0, 0.0)
    assert auc_difference(scores, -scores, members, 0.95).difference == pytest.approx(
        2 * auc_interval(scores, members, 0.95).auc - 1
    )
    with pytest.raises(ValueError, match="at least two"):
        auc_difference([1, 2, 3], [1, 2, 3], [1, 0, 0], 0.95)
