"""What a dry run tells of memory and time, and what it leaves alone."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typed import Call

from dpaudit.data import clinic
from dpaudit.errors import GuardError, PartialError
from dpaudit.pipeline import ahead
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stages.prepare.jobs import ArmJob
from dpaudit.stages.train import trials
from dpaudit.suite.grid import Arm
from dpaudit.suite.suite import Schedule
from dpaudit.system import parallel


def job(epsilon: float, start: Arm | None = None) -> ArmJob:
    arm = Arm("dpo" if start else "sft", "sigmoid" if start else "sft", epsilon)
    return ArmJob(arm, Schedule(8, 10, 0.1), Mechanism(1.0, 0.1, 10, 1.0), 80, True, start)


def test_arms_side_by_side_wait_for_the_arms_that_they_begin_from() -> None:
    long, short, third = job(8), job(4), job(2)
    after = job(6, long.arm)
    jobs = [long, after, short, third]
    seconds = {"sft-eps8": 10.0, "dpo-sigmoid-eps6": 5.0, "sft-eps4": 2.0, "sft-eps2": 3.0}
    assert ahead.together(jobs, seconds, 1) == 20
    assert ahead.together(jobs, seconds, 2) == 15  # the third after the short one, then the waiting one
    assert ahead.together(jobs, seconds, 4) == 15
    assert ahead.together(jobs[2:], seconds, 2) == 3


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials in this process: another one imports for seconds."""
    monkeypatch.setattr(parallel, "run", _run_here)


def _run_here(jobs: list[parallel.Job], workers: int, progress: Any, apart: bool = False) -> None:
    assert apart
    for one in jobs:
        one.function(*one.arguments, lambda n: None)


@pytest.mark.usefixtures("here")
def test_a_dry_run_measures_and_leaves_nothing(call: Call) -> None:
    done = call("run", "mini.yaml", "--dry-run", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rows = {row["what"]: row for row in found["takes"]}
    arms = ("sft-inf", "sft-eps8")
    assert list(rows)[:2] == list(arms) and "attack mia" in rows and "arms and attack mia" in rows
    for name in arms:
        assert rows[name]["peak_memory_mb"] > 100 and rows[name]["threads"] >= 1
        assert rows[name]["device"] and 0 < rows[name]["seconds"] < 600
    of_all = next(row for name, row in rows.items() if name.startswith("all arms"))
    assert of_all["seconds"] <= sum(rows[name]["seconds"] for name in arms) + 1e-6
    assert found["not_measured"] == "time of eval"
    assert not Path("runs").exists()
    texts = [turn.text for record in clinic.told(clinic.patient(0, 0))[0] for turn in record.turns]
    assert texts and not [text for text in texts if text in done.out + done.err]
    without = call("run", "mini.yaml", "--dry-run", "--no-measure", "--json")
    bare = json.loads(without.out)
    assert bare["forecast"] == found["forecast"] and "takes" not in bare
    assert bare["not_measured"] == "time, as --no-measure says"
    printed = call("train", "--suite", "mini.yaml", "--dry-run").out
    assert re.search(r"^sft-eps8 +\S+.* +\d+ +[\d,]+ MB +\S", printed, re.M) and "attack mia" not in printed


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_under_a_declared_population_lengths_are_those_of_the_first_rows(call: Call) -> None:
    done = call("run", "mini.yaml", "--dry-run", "--set", "training.population=5000", "--json")
    found = json.loads(done.out)
    assert [row["what"] for row in found["takes"]][:2] == ["sft-inf", "sft-eps8"]
    assert "attack mia: no corpus is drawn" in found["not_measured"]
    assert f"lengths are those of the first {trials.SAMPLE:,} rows" in done.err


@pytest.mark.parametrize("error", [PartialError("no memory left"), GuardError("noise of another size")])
def test_a_trial_that_fails_is_told_beside_the_forecast(
    error: Exception, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(parallel, "run", fail)
    found = json.loads(call("train", "--suite", "mini.yaml", "--dry-run", "--json").out)
    assert found["takes"] == [] and found["not_measured"] == f"time: {error}"
    assert [row["arm"] for row in found["forecast"]] == ["sft-inf", "sft-eps8"]
