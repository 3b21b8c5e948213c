"""Suites, grids and plans: every shipped suite loads, a plan survives its file, a slip is one line."""

import json
import math
import os
from typing import Any

import pytest

from dpaudit import content
from dpaudit.commands.asked import Asked
from dpaudit.errors import UsageError
from dpaudit.pipeline import plans
from dpaudit.suite import grid, loading
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import RECORDS, Plan

SUITES = sorted(content.listing("suites"))


@pytest.mark.parametrize("name", SUITES)
def test_every_shipped_suite_loads_and_survives_its_plan(name: str) -> None:
    plan = Plan(loading.load(name), seed=3, insecure_seed=4, versions={"torch": "2.13.0"})
    text = json.dumps(plan.to_json(), allow_nan=False)
    told = json.loads(
        json.dumps(
            {key: value for record in RECORDS for key, value in plan.settings(record).items()},
            allow_nan=False,
        )
    )
    assert Plan.from_json(json.loads(text)).with_settings(told, "test") == plan
    assert plan.suite.name == name
    assert len({arm.name for arm in plan.suite.grid.arms}) == len(plan.suite.grid.arms)


def test_a_plan_keeps_infinity() -> None:
    plan = Plan(loading.load("demo", {"grid.epsilons": [math.inf, 8], "grid.baseline": False}))
    kept = Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))
    assert kept.suite.grid.epsilons == (math.inf, 8.0)


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


@pytest.mark.parametrize(
    ("text", "values"), [("1,4,8", (1, 4, 8)), ("inf, 0.5", (math.inf, 0.5)), ("2,", (2,))]
)
def test_parse_epsilons(text: str, values: tuple[float, ...]) -> None:
    assert loading.parse_epsilons(text) == values


@pytest.mark.parametrize("text", ["0", "-1", "1,0", "nan", "one", "", ",", "1;2"])
def test_an_epsilon_must_be_above_zero(text: str) -> None:
    with pytest.raises(UsageError, match="--eps: expected numbers above 0") as caught:
        loading.parse_epsilons(text)
    assert caught.value.got == text


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a.b=3", ("a.b", 3)),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=x=y", ("a", "x=y")),
        ("a=null", ("a", None)),
        ("a=", ("a", None)),
    ],
)
def test_parse_override(text: str, pair: tuple[str, Any]) -> None:
    assert loading.parse_override(text) == pair


@pytest.mark.parametrize("text", ["a.b", "=3", "a=[", f"a={'9' * 5000}"], ids=range(4))
def test_an_override_is_key_and_yaml(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        loading.parse_override(text)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("grid.sed", 1, "grid.sed: expected one of .*seeds.* an unknown key; did you mean seeds?"),
        ("grid.epsilons", [0], "grid.epsilons: expected numbers above 0, got 0"),
        ("grid.epsilons", [float("nan")], "grid.epsilons: .*got nan"),
        ("grid.dpo_epsilons", [-3], "grid.dpo_epsilons: expected numbers above 0, got -3"),
        ("grid.seeds", 10**12, "grid.seeds: expected at most 1000, got more"),
        ("grid.seeds", 0, "grid.seeds: expected at least 1, got 0"),
        (
            "candidates.extraction_repetitions",
            1001,
            "candidates.extraction_repetitions: expected at most 1000, got 1001",
        ),
        (
            "candidates.extraction_repetitions",
            [4, 1001],
            "candidates.extraction_repetitions: expected at most 1000, got 1001",
        ),
        ("training.private.batch", 0, "training.private.batch: expected at least 1, got 0"),
        (
            "training.private.learning_rate",
            -0.1,
            "training.private.learning_rate: expected a number above 0, got -0.1",
        ),
        ("training.delta", 1, "training.delta: .*got 1.0"),
        ("training.delta", 0, "training.delta: .*got 0.0"),
        ("training.clip", math.inf, "training.clip: .*got inf"),
        ("training.unit", "word", "training.unit: expected one of record, patient, pair, label, got 'word'"),
        ("training.population", 0, "training.population: .*got 0"),
        ("training.lora.rank", 0, "training.lora.rank: .*got 0"),
        ("candidates.canaries", -1, "candidates.canaries: .*got -1"),
        ("data.limit", 0, "data.limit: .*got 0"),
        ("attacks", ["mai"], r"attacks\[0\]: expected one of mia, extract, preference, got 'mai'"),
        ("model", 3, "model: expected a mapping"),
        ("name", "../../evil", "name: expected letters, digits, . _ -.*, got '../../evil'"),
        ("name", "", "name: .*got ''"),
        ("name", "..", "name: .*got '..'"),
        ("name", "a\n", "name: .*got 'a"),
        ("name.first", "x", "--set name.first: expected name to hold keys, got a text"),
    ],
)
def test_a_slip_is_one_line_with_file_and_key(key: str, value: Any, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted) as caught:
        loading.load("demo", {key: value})
    assert "\n" not in str(caught.value)
    assert "demo.yaml" in str(caught.value) or "--set" in str(caught.value)


def test_repeated_canaries_are_refused_where_the_unit_is_a_record() -> None:
    with pytest.raises(
        UsageError,
        match=r"candidates\.canary_repetitions: expected 1 under unit record, got 2; a bound needs",
    ):
        loading.load("demo", {"training.unit": "record"})
    assert loading.load("demo", {"training.unit": "record", "candidates.canary_repetitions": 1})


def test_the_option_for_unit_record_takes_the_repetition_away() -> None:
    assert loading.load("demo", Asked(unit="record").overrides()).candidates.canary_repetitions == 1


def test_preferences_without_pairs_are_taken_from_the_dialogues() -> None:
    """Where nobody names pairs; what was named, and a suite without preference arms, stay as they are."""

    small = plans.resolve("small", {"data.source": "own.jsonl", "grid.dpo": ["sigmoid"]})
    assert small.suite.data.preference == "faults"
    assert plans.resolve("small", {"data.source": "own.jsonl"}).suite.data.preference is None
    typed = {"data.source": "own.jsonl", "grid.dpo": ["sigmoid"], "data.preference": "pairs.jsonl"}
    assert plans.resolve("small", typed).suite.data.preference == "pairs.jsonl"


@pytest.mark.parametrize("key", ["source", "preference", "text"])
def test_a_data_file_whose_name_is_not_utf8_is_refused(key: str) -> None:
    with pytest.raises(
        UsageError, match=rf"data\.{key}: expected a name in UTF-8, got one with other bytes; rename"
    ):
        loading.load("demo", {f"data.{key}": os.fsdecode(b"d\xff.jsonl")})
