"""Every broken trainer that the mechanism test or conformance is meant to see, planted under an ordinary run:
`verify --run` refutes its claim.
"""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.privacy.claim import Unit
from dpaudit.stages.attack import attack
from dpaudit.stages.audit import audit
from dpaudit.stages.prepare import prepare
from dpaudit.stages.train import train
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Declared, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress
from dpaudit.training import catalogue, dry
from dpaudit.training.catalogue import ENGINE, FAULTS, Fault

QUIET = Progress(quiet=True)
SEEN = [fault for fault in FAULTS if fault.seen_by in ("mechanism test", "conformance")]
BATCH = 60
ALONE: dict[str, Unit] = {
    "pair clipped as two rows": "pair",
    "patient's records clipped one by one": "patient",
}


def plan(unit: Unit, seed: int) -> Plan:
    """Axes are left at `auto`; of pairs DPO learns, of anything else fine-tuning."""
    schedule, is_pair = Schedule(BATCH, 40, 0.01), unit == "pair"
    arm = "dpo-sigmoid-eps4" if is_pair else "sft-eps4"
    grid = (
        Grid((), baseline=False, dpo=("sigmoid",), dpo_epsilons=(4.0,), stages=(), chain=False)
        if is_pair
        else Grid((4.0,), baseline=False)
    )
    made = Suite(
        "catalogue",
        Training(
            schedule,
            schedule,
            dpo_private=schedule,
            dpo_nonprivate=schedule,
            unit=unit,
            clip=0.05,
            lora=Lora(rank=4),
        ),
        model=Model(max_length=48, pair_prompt=32, pair_answer=32),
        data=Data(patients=2000, heldout=4, preference="builtin:clinic" if is_pair else None),
        candidates=Candidates("portal_phrase", canaries=100, canary_length=2, records=20, extraction=0),
        grid=grid,
        attacks=("mia",),
        claims=(Declared(arm, 4.0, 1e-5, unit, "add_or_remove"),),
    )
    return Plan(made, insecure_seed=seed)


def audited(place: Path, fault: Fault, seed: int, unit: Unit = "record") -> RunDir:
    chosen = plan(ALONE.get(fault.name, unit), seed)
    run_dir = run_store.open_or_create(chosen.to_json(), "catalogue", place)
    declarations.keep(run_dir, chosen)
    prepare.run(run_dir, chosen, QUIET)
    with catalogue.planted(fault, dry.Setting(4000, BATCH, 800)):
        train.run(run_dir, chosen, QUIET, workers=1)
    attack.run(run_dir, chosen, QUIET, "mia")
    audit.run(run_dir, chosen, QUIET, "mia")
    return run_dir


def verified(run_dir: RunDir) -> tuple[str, int]:
    done = CliRunner().invoke(
        app, ["verify", "--run", run_dir.name, "--runs", str(run_dir.path.parent), "--json"]
    )
    (row,) = json.loads(done.output)["declared"]
    return row["verdict"], done.exit_code


@pytest.mark.slow
@pytest.mark.parametrize("fault", SEEN, ids=lambda fault: fault.name)
def test_a_run_of_a_broken_trainer_is_refuted(fault: Fault, tmp_path: Path) -> None:
    assert verified(audited(tmp_path, fault, 1)) == ("refuted", 1)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["record", "patient", "pair"])
def test_a_run_of_the_engine_is_not(unit: Unit, tmp_path: Path) -> None:
    assert verified(audited(tmp_path, ENGINE, 1, unit)) == ("not refuted", 0)
