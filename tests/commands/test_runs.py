"""Runs that are listed and shown."""

import json
import re
from pathlib import Path

import fabricate
import pytest
from typed import Call, one_line


@pytest.mark.parametrize(
    "command", ["attack mia", "attack extract", "eval", "judge", "judge validate", "report html"]
)
def test_a_run_that_does_not_exist(call: Call, command: str) -> None:
    one_line(call(*command.split(), "--run", "gone"), "runs/gone", "expected a run", "dpaudit train")
    one_line(call(*command.split()), "runs/", "expected a run", "dpaudit train")


def test_show_a_run_that_does_not_exist(call: Call) -> None:
    one_line(call("show", "gone"), "runs/gone", "expected a run")


def test_show_takes_the_name_as_the_other_commands_do(call: Call) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    named, placed = call("show", "--run", run_dir.name), call("show", run_dir.name)
    assert named.code == 0 and named.out == placed.out and run_dir.name in named.out
    both = call("show", "other", "--run", run_dir.name)
    assert both.code == 2 and "expected one run" in both.err and "dpaudit show other" in both.err


def test_a_broken_file_of_a_run(call: Call) -> None:
    """It is named, and never quoted."""
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    run_dir.file("attack/sft-inf").mkdir(parents=True)
    run_dir.file("attack/sft-inf/scores.parquet").write_text("a patient's words")
    shown = call("show")
    assert shown.code == 2 and shown.out == "" and shown.err.count("\n") == 1
    assert re.search(r"attack/sft-inf/scores.parquet: .* got a broken file; .* `dpaudit attack", shown.err)
    listed = call("ls")
    assert listed.code == 2 and run_dir.name in listed.out and "got a broken file" in listed.out


@pytest.mark.parametrize("seed", [3, None])
def test_an_insecure_seed_withdraws_the_claim_wherever_it_is_shown(call: Call, seed: int | None) -> None:
    words, insecure = "epsilon not claimed: the noise is reproducible", seed is not None
    run_dir, _ = fabricate.run(Path("runs"), insecure_seed=seed)
    assert (words in call("show").out.splitlines()) == insecure
    assert (f"{words} ({run_dir.name})" in call("ls").out.splitlines()) == insecure
    for command in ("show", "ls", "report html"):
        found = json.loads(call(*command.split(), "--json").out)
        assert bool(found["caveat"]) == insecure
    page = " ".join(re.sub(r"<[^>]+>", "", run_dir.file("report/index.html").read_text()).split())
    assert ("target ε = 8, not claimed" in page) == insecure
    assert ("claims ε ≤" in page) != insecure
    assert ("Anybody who receives all private adapters" in page) != insecure
