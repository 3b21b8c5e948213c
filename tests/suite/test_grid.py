"""The grid: which arms follow from what is asked, what each starts from, how they are named."""

import math

from dpaudit.suite import grid, loading
from dpaudit.suite.grid import Arm


def test_arms_go_from_inf_downward() -> None:
    changed = {
        "grid.epsilons": [1, 8],
        "grid.dpo": ["sigmoid"],
        "grid.dpo_epsilons": None,
        "grid.seeds": 2,
        "grid.chain": False,
    }
    names = [arm.name for arm in loading.load("demo", changed).grid.arms]
    assert names == [
        "sft-inf",
        "sft-eps8",
        "sft-eps1",
        "sft-inf-s1",
        "sft-eps8-s1",
        "sft-eps1-s1",
        "dpo-sigmoid-inf",
        "dpo-sigmoid-eps8",
        "dpo-sigmoid-eps1",
        "dpo-sigmoid-inf-s1",
        "dpo-sigmoid-eps8-s1",
        "dpo-sigmoid-eps1-s1",
    ]


def test_a_chain_brings_the_arms_that_others_start_from() -> None:
    """Each start may spend half of the claim; of a chain only the last stage and the DPO arms are asked
    for.
    """
    changed = {
        "grid.epsilons": [8],
        "grid.dpo": ["sigmoid"],
        "grid.dpo_epsilons": None,
        "grid.stages": ["cpt", "sft"],
    }
    chosen = loading.load("demo", changed)
    arms = {arm.name: arm for arm in chosen.grid.arms}
    assert list(arms) == [
        "cpt-inf",
        "cpt-eps4",
        "cpt-eps2",
        "sft-inf",
        "sft-eps8",
        "sft-eps4",
        "dpo-sigmoid-inf",
        "dpo-sigmoid-eps8",
    ]
    starts = {name: chosen.grid.start_of(arm) for name, arm in arms.items()}
    assert starts["dpo-sigmoid-eps8"] == arms["sft-eps4"]
    assert starts["sft-eps4"] == arms["cpt-eps2"]
    assert starts["cpt-eps2"] is None
    assert starts["dpo-sigmoid-inf"] == arms["sft-inf"]


def test_dpo_epsilons_stand_alone() -> None:
    changed = {"grid.epsilons": [8, 1], "grid.dpo": ["sigmoid"], "grid.dpo_epsilons": [4]}
    assert [a.name for a in loading.load("demo", changed).grid.arms if a.method == "dpo"] == [
        "dpo-sigmoid-eps4"
    ]


def test_no_baseline() -> None:
    changed = {"grid.epsilons": [1], "grid.baseline": False, "grid.dpo": []}
    assert loading.load("demo", changed).grid.arms == (Arm("sft", "sft", 1.0),)


def test_arm_names() -> None:
    assert Arm("sft", "sft", math.inf).name == "sft-inf"
    assert Arm("dpo", "ipo", 0.5, 2).name == "dpo-ipo-eps0.5-s2"
    assert not Arm("sft", "sft", math.inf).private


def test_epsilons_that_differ_have_names_that_differ() -> None:
    labels = [grid.epsilon_label(e) for e in (1.0, 1.0000001, 1.0000002, 123456.0, 123456.1, 1e-7)]
    assert labels == ["eps1", "eps1.0000001", "eps1.0000002", "eps123456", "eps123456.1", "eps1e-07"]
