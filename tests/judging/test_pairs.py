"""Which adapters are compared with which."""

import math

import pytest

from dpaudit.errors import UsageError
from dpaudit.judging.pairs import REFERENCES, pairs_of
from dpaudit.suite import loading
from dpaudit.suite.grid import Grid
from dpaudit.suite.suite import AGAINST

CHAIN = Grid(dpo=("sigmoid",), dpo_epsilons=(math.inf, 8.0), chain=True)


def test_every_key_of_a_suite_is_known() -> None:
    assert tuple(REFERENCES) == AGAINST


def test_dpo_is_compared_with_its_start_and_with_dialogues_alone_and_rungs_directly() -> None:
    found, absent = pairs_of(CHAIN, CHAIN.arms, AGAINST)
    roles = {(pair.arm, pair.against): pair.role for pair in found}
    assert roles["dpo-sigmoid-eps8", "sft-eps4"] == "its start"
    assert roles["dpo-sigmoid-eps8", "sft-eps8"] == "dialogues alone at the same claim"
    assert roles["dpo-sigmoid-inf", "sft-inf"] == "its start and dialogues alone at the same claim"
    assert roles["sft-eps8", "sft-inf"] == "without noise and the next larger epsilon"
    assert roles["sft-eps4", "sft-eps8"] == roles["sft-eps1", "sft-eps4"] == "the next larger epsilon"
    assert len(found) == len(roles) == 15 and absent == []


def test_what_cannot_be_compared_is_named() -> None:
    arms = [arm for arm in CHAIN.arms if arm.name not in ("sft-eps8", "sft-inf")]
    _, absent = pairs_of(CHAIN, arms, AGAINST)
    assert {(row.arm, row.reason) for row in absent} == {
        ("dpo-sigmoid-eps8", "sft-eps8 is not trained"),
        ("dpo-sigmoid-inf", "sft-inf is not trained"),
    }
    alone = Grid(stages=(), dpo=("sigmoid",), dpo_epsilons=(8.0,))
    found, absent = pairs_of(alone, alone.arms, ("start",), starts_outside=True)
    assert found == [] and absent[0].reason == "it is an adapter from outside of the run"


def test_a_name_of_no_arm_is_refused() -> None:
    loading.load("demo", {"judging.against": ["base", "sft-eps8"]})
    with pytest.raises(UsageError, match=r"judging\.against: expected some of inf, base, start"):
        loading.load("demo", {"judging.against": ["sft-eps9"]})
