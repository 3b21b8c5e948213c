"""The options of `train` and `run` as keys of the suite, and what they ask for that cannot be."""

import json
from pathlib import Path

import pytest
import yaml
from typed import MINI, Call, one_line

from dpaudit.commands.asked import Asked
from dpaudit.errors import UsageError
from dpaudit.pipeline import gate
from dpaudit.suite import loading


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (["--unit", "pair"], ["training.unit", "unit record or patient", "got unit pair with sft arms"]),
        (
            ["--set", "training.records_per_patient=1"],
            ["candidates.extraction_repetitions", "at most training.records_per_patient = 1", "got 2"],
        ),
    ],
)
def test_units_that_do_not_fit(call: Call, settings: list[str], wanted: list[str]) -> None:
    one_line(call("train", "--suite", "mini.yaml", *settings), *wanted)


def test_unit_pair_is_for_preference_pairs_alone() -> None:
    only_dpo = Asked(unit="pair", dpo="sigmoid", settings=["grid.stages=[]"]).overrides()
    gate._check_unit(loading.load("demo", only_dpo))
    with pytest.raises(UsageError, match="no dialogue belongs to a pair"):
        gate._check_unit(loading.load("demo", Asked(unit="pair").overrides()))


def test_options_for_data_are_keys_of_the_suite() -> None:
    changed = Asked(data="d.csv", rows="0:9", text="t.parquet").overrides()
    assert changed == {"data.source": "d.csv", "data.rows": "0:9", "data.text": "t.parquet"}


@pytest.mark.parametrize("epsilon", ["0", "-1", "8,0", "nan", "x"])
def test_epsilon_of_zero_or_below(call: Call, epsilon: str) -> None:
    done = call("train", "--suite", "mini.yaml", f"--eps={epsilon}")
    one_line(done, "--eps", "numbers above 0", f"got {epsilon}")


def test_epsilon_of_zero_in_the_suite(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--set", "grid.epsilons=[0]")
    one_line(done, "grid.epsilons as typed", "numbers above 0, got 0")
    assert "mini.yaml" not in done.err
    Path("own.yaml").write_text(yaml.safe_dump(MINI | {"grid": {"epsilons": [0]}}))
    one_line(call("train", "--suite", "own.yaml"), "own.yaml: grid.epsilons", "numbers above 0, got 0")


@pytest.mark.parametrize(
    ("key", "kinds", "minimum"), [("canaries", "[mia]", 100), ("extraction", "[extract]", 4)]
)
def test_fewer_canaries_than_the_recipe_asks_for(call: Call, key: str, kinds: str, minimum: int) -> None:
    done = call("train", "--suite", "mini.yaml", "--set", f"candidates.{key}=3", "--set", f"attacks={kinds}")
    one_line(done, f"candidates.{key}", f"at least {minimum}", "attacks/", "got 3", "--set")


@pytest.mark.parametrize("command", ["train --suite mini.yaml", "run mini.yaml"])
def test_rows_are_of_a_file(call: Call, command: str) -> None:
    one_line(
        call(*command.split(), "--rows", "0:5"), "data.rows", "a data file", "got builtin:clinic", "--data"
    )


def test_a_batch_above_the_population_leaves_no_run(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--set", "training.private.batch=9999")
    assert done.code == 2 and "training.private.batch" in done.err.splitlines()[-1]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--eps 1e-9 --set training.delta=1e-10", "grid.epsilons: expected a claim that noise can keep"),
        ("--set training.delta=0.5", "training.delta: expected less than 1 / "),
        (
            "--set training.population=20",
            "training.private.batch: expected at most 20 units in expectation",
        ),
        (
            "--set training.lora.targets=[q_prj]",
            "training.lora.targets: expected all-linear, or names of the model's linear layers, got q_prj; "
            "it has q_proj",
        ),
        ("--set training.lora.use_dora=true", "training.lora.use_dora"),
        ("--set training.packing=true", "training.packing"),
        (
            "--start nowhere",
            "--start nowhere: expected an adapter folder with adapter_config.json, got no such folder",
        ),
    ],
)
def test_what_cannot_be_trained_leaves_no_run(call: Call, words: str, wanted: str) -> None:
    done = call("train", "--suite", "mini.yaml", "--no-baseline", *words.split())
    assert done.code == 2 and done.out == ""
    assert done.err.splitlines()[-1].startswith("dpaudit: ") and wanted in done.err.splitlines()[-1]
    assert "Traceback" not in done.err and not Path("runs").exists()


def test_a_large_delta_is_allowed_to_who_asks_for_it(call: Call) -> None:
    words = (
        "train",
        "--suite",
        "mini.yaml",
        "--no-baseline",
        "--set",
        "training.delta=0.1",
        "--dry-run",
        "--no-measure",
        "--json",
    )
    assert "--allow-delta" in call(*words).err
    done = call(*words, "--allow-delta")
    assert done.code == 0 and json.loads(done.out)["forecast"][0]["noise_multiplier"] > 0
    assert not Path("runs").exists()


def test_a_suite_name_that_leaves_the_folder(call: Call) -> None:
    one_line(
        call("train", "--suite", "mini.yaml", "--set", "name=../../evil"), "name as typed", "letters, digits"
    )
