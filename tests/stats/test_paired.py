import math
from itertools import permutations, product

import numpy as np
import pytest
from exceedances import allowed_exceedances
from scipy.stats import binomtest, norm, page_trend_test, ttest_rel

from dpaudit.stats.paired import (
    PairedDifference,
    mean_interval,
    page_trend,
    paired_difference,
    ratio_interval,
)


def test_paired_difference_agrees_with_the_t_interval_on_gaussian_items() -> None:
    generator = np.random.default_rng(0)
    control = generator.normal(size=400)
    treatment = control + 0.3 + generator.normal(size=400)
    found = paired_difference(treatment, control)
    analytic = ttest_rel(treatment, control).confidence_interval(0.95)
    assert found.estimate == pytest.approx(np.mean(treatment - control), abs=1e-12)
    assert (found.lower, found.upper) == pytest.approx((analytic.low, analytic.high), abs=0.01)
    assert (found.items, found.clusters) == (400, 400)


def slow_p_value(gains: np.ndarray, labels: list[int], difference: float) -> float:
    """The share of all sign flips of clusters that put the sum of residuals as far from zero, one flip at a
    time.
    """
    residuals = [
        sum(gains[i] - difference for i, at in enumerate(labels) if at == one) for one in sorted(set(labels))
    ]
    sums = [
        sum(s * r for s, r in zip(signs, residuals, strict=True))
        for signs in product((1, -1), repeat=len(residuals))
    ]
    return sum(abs(total) >= abs(sum(residuals)) - 1e-9 for total in sums) / len(sums)


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6]])
def test_interval_and_p_value_agree_with_one_flip_at_a_time(clusters: list[int] | None) -> None:
    treatment = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0.0])
    control = np.array([0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0.0])
    labels = clusters or list(range(11))
    found = paired_difference(treatment, control, clusters, confidence=0.8)
    gains = treatment - control
    assert found.p_value == pytest.approx(slow_p_value(gains, labels, 0.0), abs=1e-9)
    for inside, outside in ((found.lower, found.lower - 1e-6), (found.upper, found.upper + 1e-6)):
        assert slow_p_value(gains, labels, inside) > 0.2 >= slow_p_value(gains, labels, outside)


def test_drawn_flips_agree_with_all_flips() -> None:
    gains = np.random.default_rng(5).normal(0.4, 1.0, size=14)
    every, drawn = (paired_difference(gains, np.zeros(14), flips=flips) for flips in (9999, 8190))
    assert every.p_value == pytest.approx(drawn.p_value, abs=0.01)
    assert (every.lower, every.upper) == pytest.approx((drawn.lower, drawn.upper), abs=0.05)
    assert every != drawn  # the second drew its flips


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 3), (1, 9), (0, 5), (0, 6), (30, 12)])
def test_for_answers_without_clusters_it_is_near_the_exact_mcnemar_test(only_a: int, only_b: int) -> None:
    first = np.array([1.0] * only_a + [0.0] * only_b + [1.0, 0.0])
    second = np.array([0.0] * only_a + [1.0] * only_b + [1.0, 0.0])
    exact = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    found = paired_difference(first, second)
    assert found.p_value == pytest.approx(exact, abs=1e-9 if first.size < 15 else 0.005)
    assert found.p_value == paired_difference(second, first).p_value


def excludes_zero(found: PairedDifference) -> bool:
    return not found.lower <= 0 <= found.upper


@pytest.mark.parametrize("clusters", [6, 9, 24])
def test_the_interval_excludes_zero_exactly_where_the_p_value_is_small(clusters: int) -> None:
    """Binary answers, with ties in plenty, and effects that put many p-values near one in twenty."""
    labels, disagreed = np.repeat(np.arange(clusters), 5), 0
    refuted = []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        shift = generator.uniform(0, 1.2)
        treatment = generator.normal(shift + generator.normal(size=clusters)[labels]) > 0.5
        control = generator.normal(size=labels.size) > 0.5
        found = paired_difference(treatment, control, labels, seed=seed, flips=999)
        refuted.append(excludes_zero(found))
        disagreed += refuted[-1] != (found.p_value <= 0.05)
    assert disagreed == 0
    assert 0 < sum(refuted) < 400


@pytest.mark.parametrize(("clusters", "effect"), [(25, 0.0), (25, 0.2), (80, 0.0), (8, 0.2)])
def test_paired_difference_misses_no_oftener_than_stated(clusters: int, effect: float) -> None:
    """Items of one cluster share most of their noise; an effect of 0 is the null."""
    replications, misses = 2000, 0
    labels = np.repeat(np.arange(clusters), 1 + np.arange(clusters) % 4)
    for seed in range(replications):
        generator = np.random.default_rng(seed)
        treatment = (
            effect + generator.normal(size=clusters)[labels] + 0.3 * generator.normal(size=labels.size)
        )
        found = paired_difference(treatment, np.zeros(labels.size), labels, seed=seed, flips=499)
        misses += not found.lower <= effect <= found.upper
    assert misses <= allowed_exceedances(replications, 0.05)


def answers(generator: np.random.Generator, rates: tuple[float, float]) -> list[np.ndarray]:
    """Right or wrong on 336 items of 24 clusters that differ in difficulty, for two arms of these mean
    accuracies.
    """
    shared, found = generator.normal(size=24), []
    for rate in rates:
        ease = norm.ppf(rate) * math.sqrt(2) + 0.7 * shared + 0.7 * generator.normal(size=24)
        found.append(np.repeat(ease, 14) + generator.normal(size=336) > 0)
    return found


@pytest.mark.parametrize(
    ("rates", "missed"), [((0.7, 0.7), 0.05), ((0.3, 0.25), 0.05), ((0.98, 0.98), 0.05), ((0.95, 0.99), 0.15)]
)
def test_answers_to_clustered_items_are_covered(rates: tuple[float, float], missed: float) -> None:
    """The demo's design. Near a ceiling few clusters hold all faults, and the interval misses more than it
    states.
    """
    replications, misses, labels = 2000, 0, np.repeat(np.arange(24), 14)
    for seed in range(replications):
        first, second = answers(np.random.default_rng(seed), rates)
        found = paired_difference(first, second, labels, seed=seed, flips=499)
        misses += not found.lower <= rates[0] - rates[1] <= found.upper
    assert misses <= allowed_exceedances(replications, missed)


def test_mean_interval_agrees_with_one_item_at_a_time() -> None:
    values, labels = np.array([1, 0, 0, 1, -1, 0, 1, 0.0]), [0, 0, 1, 2, 2, 2, 3, 4]
    found = mean_interval(values, labels, confidence=0.8, seed=4, resamples=500)
    generator = np.random.default_rng(4)
    means = []
    for row in generator.integers(5, size=(500, 5)):
        items = [i for drawn in row for i in range(8) if labels[i] == drawn]
        means.append(sum(values[i] for i in items) / len(items))
    assert found.estimate == pytest.approx(np.mean(values))
    assert found.lower <= np.quantile(means, 0.1)  # the small-sample expansion only widens
    assert found.upper >= np.quantile(means, 0.9)
    assert min(means) <= found.lower < found.upper <= max(means)


@pytest.mark.parametrize("wrong", [{"values": []}, {"clusters": [1]}, {"confidence": 1.0}, {"resamples": 10}])
def test_mean_interval_refuses_bad_arguments(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"values": [1.0, 0.0]}
    with pytest.raises(ValueError, match=r"expected .*, got"):
        mean_interval(**(arguments | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(("patients", "records"), [(60, 1), (60, 2)])
def test_the_interval_of_a_ratio_covers_from_60_patients_on(patients: int, records: int) -> None:
    """Bits and bytes of records that spread as the demo's do (log spread .5, and .3 between patients)."""
    label, covered = np.repeat(np.arange(patients), records), 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        size = rng.integers(5, 60, label.size)
        ease = 0.3 * rng.normal(size=patients)[label] + 0.5 * rng.normal(size=label.size)
        bits = 2 * size * np.exp(ease - (0.3**2 + 0.5**2) / 2)
        found = ratio_interval(bits, size, label, resamples=299)
        covered += found.lower <= 2 <= found.upper
    assert covered / 400 >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / 400)


def test_the_interval_of_a_ratio_is_no_narrower_than_students() -> None:
    rng = np.random.default_rng(0)
    bits, size = rng.gamma(4.0, size=(2, 200))
    found = ratio_interval(bits, size)
    scores = bits - bits.sum() / size.sum() * size
    half = 1.97 * math.sqrt(200 * scores.var()) / bits.sum()
    assert math.log(found.upper / found.estimate) >= half * 0.99
    assert math.log(found.estimate / found.lower) == pytest.approx(half, rel=0.3)
    twice = ratio_interval(np.tile(bits, 2), np.tile(size, 2), list(range(200)) * 2)
    assert (twice.lower, twice.upper) == pytest.approx((found.lower, found.upper))


@pytest.mark.parametrize("clusters", [2, 3])
def test_few_clusters_of_a_ratio_have_a_wide_finite_interval(clusters: int) -> None:
    found = ratio_interval([1.0, 2.0, 4.0][:clusters], [1.0] * clusters)
    assert 0 <= found.lower < found.estimate / 1.5 and 2 * found.estimate < found.upper < math.inf


@pytest.mark.parametrize(
    "wrong", [{"numerators": []}, {"clusters": [1]}, {"confidence": 1.0}, {"denominators": [1.0, 0.0]}]
)
def test_ratio_interval_refuses_bad_arguments(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"numerators": [1.0, 2.0], "denominators": [1.0, 1.0]}
    with pytest.raises(ValueError, match="expected"):
        ratio_interval(**(arguments | wrong))  # type: ignore[arg-type]


def test_repeating_each_item_in_its_cluster_changes_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 60))
    once = paired_difference(scores[0], scores[1])
    thrice = paired_difference(np.repeat(scores[0], 3), np.repeat(scores[1], 3), np.repeat(np.arange(60), 3))
    assert (thrice.estimate, thrice.lower, thrice.upper) == pytest.approx(
        (once.estimate, once.lower, once.upper)
    )
    assert (thrice.items, thrice.clusters) == (180, 60)


def test_paired_difference_is_antisymmetric_and_seeded() -> None:
    scores = np.random.default_rng(1).normal(size=(2, 50))
    forward, again = (paired_difference(scores[0], scores[1], seed=3) for _ in range(2))
    backward = paired_difference(scores[1], scores[0], seed=3)
    assert forward == again
    assert (backward.lower, backward.upper) == pytest.approx((-forward.upper, -forward.lower))
    assert paired_difference(scores[0], scores[1], seed=4) != forward


def test_wider_confidence_gives_a_wider_interval() -> None:
    scores = np.random.default_rng(2).normal(size=(2, 50))
    widths = [
        found.upper - found.lower
        for found in (paired_difference(scores[0], scores[1], confidence=level) for level in (0.5, 0.9, 0.99))
    ]
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize("items", [6, 10, 300])
def test_equal_differences_have_the_width_of_none_in_n(items: int) -> None:
    found = paired_difference(np.ones(items), np.ones(items))
    margin = 1 - 0.025 ** (1 / items)
    assert (found.estimate, found.lower, found.upper) == pytest.approx((0.0, -margin, margin))
    assert found.p_value == 1.0
    better = paired_difference(np.ones(items), np.zeros(items))
    assert (better.lower, better.p_value) == pytest.approx((1 - margin, 2.0 ** (1 - items)))


@pytest.mark.parametrize("items", [1, 2, 5])
def test_too_few_clusters_show_nothing(items: int) -> None:
    """Of five clusters that all gain, two flips in 32 look as good: more than one in twenty."""
    gains = np.linspace(0.5, 1.0, items)
    found = paired_difference(gains, np.zeros(items), bounds=(-1.0, 1.0))
    assert (found.lower, found.upper) == (-1.0, 1.0)
    assert found.p_value == pytest.approx(2.0 ** (1 - items))
    assert paired_difference(gains, np.zeros(items)).upper == math.inf
    assert not excludes_zero(paired_difference(np.ones(items), np.zeros(items)))


def test_labels_may_be_text_and_in_any_order() -> None:
    treatment, control = [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]
    found = paired_difference(treatment, control, ["b", "a", "b", "c"])
    assert found.clusters == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"treatment": [], "control": []},
        {"treatment": [1.0, math.nan]},
        {"control": [1.0, math.inf]},
        {"treatment": [1.0]},
        {"clusters": [1]},
        {"confidence": 1.0},
        {"confidence": math.nan},
        {"flips": 10},
    ],
)
def test_paired_difference_refuses_bad_arguments(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"treatment": [1.0, 0.0], "control": [0.0, 0.0]}
    with pytest.raises(ValueError, match=r"expected .*, got"):
        paired_difference(**(arguments | wrong))  # type: ignore[arg-type]


def test_page_trend_agrees_with_all_permutations() -> None:
    matrix = np.array([[0.1, 0.3, 0.2], [0.5, 0.6, 0.9], [0.2, 0.1, 0.4]])
    ranks = matrix.argsort(axis=1).argsort(axis=1) + 1
    statistic = (ranks.sum(axis=0) * [1, 2, 3]).sum()
    rows = list(permutations([1, 2, 3]))
    as_large = [(np.sum(drawn, axis=0) * [1, 2, 3]).sum() >= statistic for drawn in product(rows, repeat=3)]
    assert page_trend(matrix) == pytest.approx(np.mean(as_large), abs=1e-9)
    assert page_trend(matrix, "rising") < 0.2 < 0.8 < page_trend(matrix, "falling")
    assert page_trend(matrix[:, ::-1], "falling") == page_trend(matrix)


@pytest.mark.parametrize("decimals", [0, 12])
def test_page_trend_of_noise_is_not_small_too_often(decimals: int) -> None:
    noise = np.random.default_rng(0).normal(size=(2000, 30, 4)).round(decimals)
    p_values = np.array([page_trend(matrix) for matrix in noise])
    assert np.sum(p_values <= 0.05) <= allowed_exceedances(2000, 0.05)


def test_page_trend_of_answers_that_mostly_agree_keeps_its_size_and_has_power() -> None:
    """Right and wrong answers near a ceiling: few rows differ, and only these are permuted."""
    rng = np.random.default_rng(1)
    flat = (rng.random((2000, 60, 4)) < 0.95).astype(float)
    assert np.sum([page_trend(matrix) <= 0.05 for matrix in flat]) <= allowed_exceedances(2000, 0.05)
    falling = (rng.random((200, 300, 4)) < np.array([0.95, 0.93, 0.9, 0.85])).astype(float)
    assert np.mean([page_trend(matrix, "falling") <= 0.05 for matrix in falling]) > 0.9


def test_page_trend_is_that_of_scipy_where_nothing_ties() -> None:
    matrix = np.random.default_rng(3).normal(size=(9, 4)) + 0.2 * np.arange(4)
    exact = page_trend_test(matrix, method="exact").pvalue
    assert page_trend(matrix) == pytest.approx(exact, abs=1e-9)


def test_page_trend_without_any_order_refutes_nothing() -> None:
    assert page_trend(np.ones((20, 4))) >= 0.5


@pytest.mark.parametrize(
    ("matrix", "direction"),
    [
        ([[1.0, 2.0]] * 3, "rising"),
        ([[1.0, 2.0, 3.0]], "rising"),
        ([[1.0, 2.0, math.nan]] * 2, "rising"),
        ([], "rising"),
        ([[1.0, 2.0, 3.0]] * 2, "up"),
        ([[float(n) for n in range(9)]] * 2, "rising"),
    ],
)
def test_page_trend_refuses_bad_arguments(matrix: list[list[float]], direction: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        page_trend(matrix, direction)  # type: ignore[arg-type]
