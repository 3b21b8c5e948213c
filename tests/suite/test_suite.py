"""The settings of a suite: a slip is one line, and what does not go together is refused."""

import math
import os
from typing import Any

import pytest

from dpaudit.commands.asked import Asked
from dpaudit.errors import UsageError
from dpaudit.pipeline import plans
from dpaudit.suite import loading


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("grid.sed", 1, "grid.sed: expected one of .*seeds.* an unknown key; did you mean seeds?"),
        ("grid.epsilons", [0], "grid.epsilons: expected numbers above 0, got 0"),
        ("grid.epsilons", [float("nan")], "grid.epsilons: .*got nan"),
        ("grid.dpo_epsilons", [-3], "grid.dpo_epsilons: expected numbers above 0, got -3"),
        ("grid.seeds", 10**12, "grid.seeds: expected at most 1000, got a larger number"),
        ("grid.seeds", 0, "grid.seeds: expected at least 1, got 0"),
        ("evaluation.margin", 5, "evaluation.margin: .*got 5; 5 points are 0.05"),
        ("evaluation.limit", 0, "evaluation.limit: expected at least 1, got 0"),
        ("evaluation.limit", -3, "evaluation.limit: expected at least 1, got -3"),
        ("evaluation.margin", 0, "evaluation.margin: expected a share above 0 and below 1, got 0"),
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
        UsageError, match=rf"data\.{key}: expected a name in UTF-8, got a name with other bytes; rename"
    ):
        loading.load("demo", {f"data.{key}": os.fsdecode(b"d\xff.jsonl")})
