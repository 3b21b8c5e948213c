"""Accuracy, bits per byte and comparisons of arms, on items made by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from dpaudit.errors import UsageError
from dpaudit.findings.quality import HeldOut, Item
from dpaudit.judging.losses import accuracy_pairs
from dpaudit.judging.quality import (
    accuracy_figures,
    bits_figures,
    bits_pairs,
    ladders,
    log_odds_pairs,
    references,
    task_trends,
)
from dpaudit.suite.grid import Arm, nonprivate

INF, EIGHT, ONE = (Arm("sft", "sft", epsilon) for epsilon in (math.inf, 8.0, 1.0))
DPO, DPO_INF = Arm("dpo", "sigmoid", 8.0), Arm("dpo", "sigmoid", math.inf)


def items(correct: list[int], clusters: list[str] | None = None) -> list[Item]:
    names = clusters or [str(n) for n in range(len(correct))]
    return [
        Item(str(n), c, 2.0 * c - 1.0, cluster, 1.0 - c, (-1.0, -2.0), "p")
        for n, (c, cluster) in enumerate(zip(correct, names, strict=True))
    ]


def test_accuracy_of_independent_items_has_the_clopper_pearson_interval() -> None:
    found = accuracy_figures("t", items([1] * 30 + [0] * 10), chance=0.25)
    interval = binomtest(30, 40).proportion_ci(0.95, "exact")
    assert (found.accuracy, found.log_odds) == (0.75, 0.5)
    assert (found.accuracy_lower, found.accuracy_upper) == pytest.approx(tuple(interval))
    assert found.above_chance and not accuracy_figures("t", items([1] * 10 + [0] * 30), 0.25).above_chance


def test_items_of_one_cluster_do_not_count_as_independent() -> None:
    correct = [1, 0] * 20
    alone = accuracy_figures("t", items(correct), 0.25)
    clustered = accuracy_figures("t", items(correct, ["a", "b"] * 20), 0.25)
    assert alone.above_chance and not clustered.above_chance
    assert clustered.clusters == 2


def test_bits_per_byte_is_all_bits_over_all_bytes() -> None:
    rows = [HeldOut("a", 10.0, 10), HeldOut("b", 90.0, 30), HeldOut("c", 30.0, 20)]
    found = bits_figures(rows, {"a": "a", "b": "b", "c": "c"})
    assert found is not None and found.value == pytest.approx(130 / 60)
    assert bits_figures([], {}) is None


def test_the_interval_of_bits_per_byte_covers_its_true_value() -> None:
    """95 % intervals of a ratio whose denominator varies too: at most alpha + 3 standard errors miss."""
    rng = np.random.default_rng(0)
    missed, runs = 0, 400
    names = {str(n): str(n) for n in range(80)}
    for _ in range(runs):
        size = rng.integers(5, 60, 80)
        bits = rng.gamma(4.0, size * 2.0 / 4.0)  # mean 2 bits a byte
        rows = [HeldOut(str(n), float(b), int(s)) for n, (b, s) in enumerate(zip(bits, size, strict=True))]
        found = bits_figures(rows, names)
        assert found is not None
        missed += not found.lower <= 2.0 <= found.upper
    assert missed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_references_are_the_nonprivate_arm_of_the_same_method_and_the_base() -> None:
    arms = [INF, EIGHT, DPO]
    assert nonprivate(DPO, arms) == INF
    assert nonprivate(DPO, [*arms, DPO_INF]) == DPO_INF
    assert nonprivate(EIGHT, [EIGHT]) is None
    assert references(arms, ("inf", "base")) == [
        ("sft-eps8", "sft-inf"),
        ("dpo-sigmoid-eps8", "sft-inf"),
        ("sft-inf", "base"),
        ("sft-eps8", "base"),
        ("dpo-sigmoid-eps8", "base"),
    ]
    assert ladders([ONE, INF, EIGHT, DPO]) == [["sft-inf", "sft-eps8", "sft-eps1"]]


def test_arms_that_answered_other_items_are_refused() -> None:
    answers = {"sft-eps8": items([1, 1]), "sft-inf": items([1, 1, 0])}
    with pytest.raises(UsageError, match="items of t"):
        log_odds_pairs("t", answers, [("sft-eps8", "sft-inf")])
    with pytest.raises(UsageError, match="items of t"):
        accuracy_pairs("t", answers, [("sft-eps8", "sft-inf")], 0.05)
    rows = {"sft-eps8": [HeldOut("a", 1.0, 4)], "sft-inf": [HeldOut("a", 1.0, 5)]}
    with pytest.raises(UsageError, match="held-out"):
        bits_pairs(rows, [("sft-eps8", "sft-inf")], {"a": "a"})


def test_a_ladder_that_falls_is_found_and_a_flat_one_is_not() -> None:
    rng = np.random.default_rng(0)
    ladder = ["sft-inf", "sft-eps8", "sft-eps1"]

    def answers(shares: tuple[float, float, float]) -> dict[str, list[Item]]:
        return {
            arm: items((rng.random(200) < share).astype(int).tolist())
            for arm, share in zip(ladder, shares, strict=True)
        }

    falling = next(task_trends("t", answers((0.9, 0.7, 0.5)), ladder))
    flat = next(task_trends("t", answers((0.7, 0.7, 0.7)), ladder))
    assert falling.ordered and falling.p_value < 1e-4
    assert [(rung.arm, rung.against) for rung in falling.rungs] == [
        ("sft-eps8", "sft-inf"),
        ("sft-eps1", "sft-eps8"),
    ]
    assert all(rung.p_holm < 0.01 and rung.upper < 0 for rung in falling.rungs)
    assert all(rung.p_holm > 0.05 for rung in flat.rungs)
    assert flat.p_value > 0.01
