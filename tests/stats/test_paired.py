import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import binom, ttest_rel

from dpaudit.stats.paired import mcnemar, page_trend, paired_difference, win_rate_interval


def allowed_exceedances(replications: int, rate: float) -> float:
    return replications * rate + 3 * math.sqrt(replications * rate * (1 - rate))


def test_paired_difference_agrees_with_the_t_interval_on_gaussian_items() -> None:
    generator = np.random.default_rng(0)
    control = generator.normal(size=400)
    treatment = control + 0.3 + generator.normal(size=400)
    found = paired_difference(treatment, control, resamples=20_000)
    analytic = ttest_rel(treatment, control).confidence_interval(0.95)
    assert found.estimate == pytest.approx(np.mean(treatment - control), abs=1e-12)
    assert (found.lower, found.upper) == pytest.approx((analytic.low, analytic.high), abs=0.01)
    assert (found.items, found.clusters) == (400, 400)


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 2, 2, 2, 3, 4]])
def test_bootstrap_agrees_with_one_item_at_a_time(clusters: list[int] | None) -> None:
    treatment, control = np.array([1, 0, 1, 1, 0, 1, 1, 0.0]), np.array([0, 0, 1, 0, 1, 1, 0, 0.0])
    found = paired_difference(treatment, control, clusters, confidence=0.8, seed=4, resamples=500)
    labels = clusters or list(range(8))
    distinct = sorted(set(labels))
    generator = np.random.default_rng(4)
    means = []
    for row in generator.integers(len(distinct), size=(500, len(distinct))):
        items = [i for drawn in row for i in range(8) if labels[i] == distinct[drawn]]
        means.append(sum(treatment[i] - control[i] for i in items) / len(items))
    assert found.estimate == pytest.approx(np.mean(treatment - control))
    assert found.lower <= np.quantile(means, 0.1)  # the small-sample expansion only widens
    assert found.upper >= np.quantile(means, 0.9)
    assert np.min(np.abs(np.sort(means) - found.lower)) < 0.1
    assert min(means) <= found.lower < found.upper <= max(means)


@pytest.mark.parametrize(("clusters", "effect"), [(25, 0.0), (25, 0.2), (80, 0.0)])
def test_paired_difference_misses_no_oftener_than_stated(clusters: int, effect: float) -> None:
    """Items of one cluster share most of their noise; an effect of 0 is the null."""
    replications, misses = 2500, 0
    labels = np.repeat(np.arange(clusters), 1 + np.arange(clusters) % 4)
    for seed in range(replications):
        generator = np.random.default_rng(seed)
        treatment = (
            effect + generator.normal(size=clusters)[labels] + 0.3 * generator.normal(size=labels.size)
        )
        found = paired_difference(treatment, np.zeros(labels.size), labels, seed=seed, resamples=400)
        misses += not found.lower <= effect <= found.upper
    assert misses <= allowed_exceedances(replications, 0.05)


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


@pytest.mark.parametrize("items", [1, 10, 300])
def test_equal_differences_have_the_width_of_none_in_n(items: int) -> None:
    found = paired_difference(np.ones(items), np.ones(items))
    margin = 1 - 0.025 ** (1 / items)
    assert (found.estimate, found.lower, found.upper) == pytest.approx((0.0, -margin, margin))


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
        {"resamples": 10},
    ],
)
def test_paired_difference_refuses_bad_arguments(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"treatment": [1.0, 0.0], "control": [0.0, 0.0]}
    with pytest.raises(ValueError, match=r"expected .*, got"):
        paired_difference(**(arguments | wrong))  # type: ignore[arg-type]


def test_both_orders_of_a_prompt_are_one_draw() -> None:
    outcome = np.random.default_rng(0).choice([0.0, 0.5, 1.0], size=200)
    once = win_rate_interval(outcome)
    both = win_rate_interval(np.repeat(outcome, 2), np.repeat(np.arange(200), 2))
    naive = win_rate_interval(np.repeat(outcome, 2))
    assert (both.lower, both.upper) == pytest.approx((once.lower, once.upper))
    assert naive.upper - naive.lower < 0.8 * (both.upper - both.lower)
    assert (both.comparisons, both.clusters) == (400, 200)


def test_win_rate_misses_no_oftener_than_stated() -> None:
    """The null: a judge without preference, whose two orders mostly agree."""
    replications, misses = 2500, 0
    prompts = np.repeat(np.arange(60), 2)
    for seed in range(replications):
        generator = np.random.default_rng(seed)
        outcome = generator.choice([0.0, 0.5, 1.0], size=60)[prompts]
        swapped = generator.random(120) < 0.2
        outcome[swapped] = generator.choice([0.0, 0.5, 1.0], size=int(swapped.sum()))
        found = win_rate_interval(outcome, prompts, seed=seed, resamples=400)
        misses += not found.lower <= 0.5 <= found.upper
    assert misses <= allowed_exceedances(replications, 0.05)


def test_all_wins_stay_inside_the_unit_interval() -> None:
    found = win_rate_interval(np.ones(40))
    assert (found.estimate, found.lower, found.upper) == pytest.approx((1.0, 0.025 ** (1 / 40), 1.0))


@pytest.mark.parametrize("outcomes", [[], [2.0], [math.nan], [0.25], [[1.0]]])
def test_win_rate_refuses_other_outcomes(outcomes: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        win_rate_interval(outcomes)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 3), (1, 9), (0, 5), (30, 12)])
def test_mcnemar_agrees_with_the_binomial_sum(only_a: int, only_b: int) -> None:
    a_correct = [True] * only_a + [False] * only_b + [True, False]
    b_correct = [False] * only_a + [True] * only_b + [True, False]
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(binom.pmf(k, n, 0.5) for k in range(fewer + 1))
    assert mcnemar(a_correct, b_correct) == pytest.approx(min(2 * tail, 1.0), abs=1e-9)
    assert mcnemar(a_correct, b_correct) == mcnemar(b_correct, a_correct)


def test_mcnemar_refutes_equal_arms_no_oftener_than_stated() -> None:
    answers = np.random.default_rng(0).random((2000, 2, 60)) < 0.7
    p_values = np.array([mcnemar(a, b) for a, b in answers])
    for level in (0.05, 0.2):
        assert np.sum(p_values <= level) <= allowed_exceedances(2000, level)


@pytest.mark.parametrize(
    ("a_correct", "b_correct"), [([], []), ([True], [True, False]), ([2], [1]), ([math.nan], [1])]
)
def test_mcnemar_refuses_bad_arguments(a_correct: list[bool], b_correct: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        mcnemar(a_correct, b_correct)


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
    ],
)
def test_page_trend_refuses_bad_arguments(matrix: list[list[float]], direction: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        page_trend(matrix, direction)  # type: ignore[arg-type]
