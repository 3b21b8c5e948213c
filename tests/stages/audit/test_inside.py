"""Canaries along axes of the weights, from the suite to the page: the engine is not accused, a broken one
is.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.errors import UsageError
from dpaudit.stages import report
from dpaudit.stages.attack import attack
from dpaudit.stages.audit import audit, inside
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.prepare import jobs, lessons, prepare
from dpaudit.stages.train import train
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Declared, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress
from dpaudit.training import catalogue, dry

QUIET = Progress(quiet=True)
ARM, AXES = "sft-eps4", 600
HALVED = next(fault for fault in catalogue.FAULTS if fault.name == "noise halved")


def plan() -> Plan:
    schedule = Schedule(30, 40, 0.01)
    made = Suite(
        "inside",
        Training(schedule, replace(schedule, steps=2), unit="record", clip=0.05, lora=Lora(rank=4)),
        model=Model(max_length=48),
        data=Data(patients=60, heldout=4),
        candidates=Candidates(
            "portal_phrase", canaries=100, canary_length=2, records=20, extraction=0, gradient=AXES
        ),
        grid=Grid((4.0,), baseline=False),
        attacks=("mia",),
        claims=(Declared(ARM, 4.0, 1e-5, "record", "add_or_remove"),),
    )
    return Plan(made, insecure_seed=4)  # seed 3 is one of the twentieth that a test at 5 % refutes: p = 0.016


def audited(place: Path, fault: catalogue.Fault) -> tuple[RunDir, Plan]:
    chosen = plan()
    run_dir = run_store.open_or_create(chosen.to_json(), "inside", place)
    declarations.keep(run_dir, chosen)
    prepare.run(run_dir, chosen, QUIET)
    with catalogue.planted(fault, dry.Setting(2000, 30, AXES)):
        train.run(run_dir, chosen, QUIET, workers=1)
    attack.run(run_dir, chosen, QUIET, "mia")
    audit.run(run_dir, chosen, QUIET, "mia")
    report.run(run_dir, chosen, QUIET)
    return run_dir, chosen


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return audited(tmp_path_factory.mktemp("sound"), catalogue.ENGINE)[0]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return audited(tmp_path_factory.mktemp("broken"), HALVED)[0]


def test_the_engine_is_not_accused(sound: RunDir) -> None:
    found = sound.read_json(inside.file_of(ARM))
    assert found["mechanism_test"]["p_value"] > 0.05
    assert {check["outcome"] for check in found["conformance"]} == {"pass", "not observable"}
    observed = np.load(sound.file(f"train/{ARM}/axes.npy"))
    assert observed.shape == (40, AXES) and observed.dtype == np.float32


def test_halved_noise_refutes_the_ledger(broken: RunDir) -> None:
    found = broken.read_json(inside.file_of(ARM))
    assert found["mechanism_test"]["p_value"] < 0.01
    assert found["mechanism_test"]["noise_upper"] < found["noise_multiplier"]
    assert found["mechanism_test"]["epsilon_lower"] > 4
    assert [c["name"] for c in found["conformance"] if c["outcome"] == "fail"] == ["noise of every weight"]


def text_of(run_dir: RunDir) -> str:
    page = run_dir.file("report/index.html").read_text(encoding="utf-8")
    return " ".join(re.sub("<[^>]+>", " ", page).split())


def test_the_page_says_so(sound: RunDir, broken: RunDir) -> None:
    assert "a training of sft-eps4 with half of the noise would have been refuted" in text_of(sound)
    assert "The claim is false" not in text_of(sound) and "not refuted" in text_of(sound)
    assert "the training of sft-eps4 did not run the mechanism of its ledger" in text_of(broken)
    assert "Do not release this adapter under this claim." in text_of(broken)
    assert "Noise of every weight: noise on" in text_of(broken)


def test_a_declared_claim_fails_with_its_ledger(sound: RunDir, broken: RunDir) -> None:
    for run_dir, word, code in ((sound, "not refuted", 0), (broken, "refuted", 1)):
        done = CliRunner().invoke(
            app, ["verify", "--run", run_dir.name, "--runs", str(run_dir.path.parent), "--json"]
        )
        (row,) = json.loads(done.stdout)["declared"]
        assert (row["verdict"], done.exit_code) == (word, code)
        assert f"seen from inside {ARM}" in row["reason"]


def test_canaries_come_on_top_and_change_neither_rate_nor_noise(sound: RunDir) -> None:
    counted = lessons.expected_units(sound, "sft", "record")
    (job,) = jobs.jobs_of(plan(), plan().suite.grid.arms, {"sft": counted})
    ledger = TrainedArm(sound, ARM).ledger()
    assert ledger.population == job.population == counted
    assert ledger.acting == job.mechanism


def test_what_does_not_fit_is_refused_in_one_line(sound: RunDir, tmp_path: Path) -> None:
    file = sound.file(f"train/{ARM}/axes.npy")
    before = file.read_bytes()
    try:
        np.save(file, np.zeros((40, AXES - 1), dtype=np.float32))
        with pytest.raises(UsageError, match=f"a column for each of {AXES} coins, got {AXES - 1} columns"):
            inside.audited(sound, plan(), ARM, 2)
        file.write_bytes(b"no array")
        with pytest.raises(UsageError, match="finite numbers, a row a step"):
            inside.audited(sound, plan(), ARM, 2)
    finally:
        file.write_bytes(before)


def test_a_few_are_refused() -> None:
    with pytest.raises(ValueError, match="gradient"):
        Candidates(gradient=20)
