"""`dpaudit verify --run`: the claims that a suite declares."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from strangers import CLAIM, check

from dpaudit.errors import UsageError
from dpaudit.signals import recipe
from dpaudit.stages import declared
from dpaudit.stages.attack import scores
from dpaudit.storage import run_store, whole_files
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.suite import Declared


def test_claims_of_a_suite_name_its_arms_and_its_unit() -> None:
    import fabricate

    plan = fabricate.plan_named("clinic", None)
    unit, relation = plan.suite.training.unit, plan.suite.training.relation
    good = Declared("sft-eps8", 8, 1e-5, unit, relation)
    assert replace(plan.suite, claims=(good,)).claims == (good,)
    with pytest.raises(ValueError, match="sft-eps99"):
        replace(plan.suite, claims=(replace(good, arm="sft-eps99"),))
    with pytest.raises(ValueError, match="tests"):
        replace(plan.suite, claims=(replace(good, relation="replace"),))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--send-real-rows"], "--send-real-rows; leave it out"),
        (["--data", "d.jsonl", "--control-steps", 3], "--data, --control-steps; leave them out"),
        (["--allow-egress", "host"], "--allow-egress; leave it out"),
        (["--train-control", "--out", "o", "--conformance", "c"], "--out, --conformance, --train-control; "),
    ],
)
def test_an_option_without_effect_on_a_run_is_refused(words: list[object], told: str) -> None:
    done = check("--run", "clinic", *words)
    assert isinstance(done.exception, UsageError)
    assert f"--run: expected only the claims of a run, got {told}" in str(done.exception)


def test_a_folder_of_runs_is_of_no_use_without_a_run() -> None:
    done = check("--runs", "elsewhere", "--key", "k", "--claim", CLAIM)
    assert isinstance(done.exception, UsageError) and "--runs: expected --run" in str(done.exception)


def test_a_run_without_declared_claims_answers_what_its_arms_were_trained_for(tmp_path: Path) -> None:
    import fabricate

    run_dir, plan = fabricate.run(tmp_path / "runs", ("train",))
    with pytest.raises(UsageError, match="dpaudit attack mia"):  # nothing was looked at yet
        declared.verdicts(run_dir, plan)
    runs, name = declaring(tmp_path)
    done = check("--run", name, "--runs", runs, "--json")
    rows = json.loads(done.output)["declared"]
    assert [(row["arm"], row["claim"], row["mark"]) for row in rows] == [
        (arm.name, arm.epsilon, "declared") for arm in plan.suite.grid.arms if arm.private
    ]
    assert done.exit_code == 4 and {row["verdict"] for row in rows} == {"not refuted", "no power"}
    assert not (runs / name / "audit/claims.json").exists()


def declaring(tmp_path: Path, *epsilons: tuple[str, float]) -> tuple[Path, str]:
    """The folder and name of a made-up run whose suite declares these claims of its arms, audited."""
    import fabricate

    from dpaudit.stages.audit.members import audit_file, audit_inputs

    plan = fabricate.plan_named("clinic", None)
    training = plan.suite.training
    said = tuple(Declared(arm, e, 1e-5, training.unit, training.relation) for arm, e in epsilons)
    plan = replace(plan, suite=replace(plan.suite, claims=said))
    run_dir = run_store.open_or_create(plan.to_json(), "declared", tmp_path / "runs")
    declarations.keep(run_dir, plan)
    fabricate.corpus(run_dir)
    for arm in plan.suite.grid.arms:
        fabricate.train(run_dir, plan, arm)
        fabricate.audit(run_dir, plan, arm, "calibrated")
        file, inputs = audit_file(arm.name, "calibrated"), audit_inputs(arm.name, "calibrated")
        scores.write_scores(
            run_dir,
            plan,
            arm.name,
            recipe.load("calibrated"),
            [scores.Score("c1", "canary", "calibrated", 0.0)],
        )
        run_dir.write_json(file, run_dir.read_json(file), inputs)
    return tmp_path / "runs", run_dir.name


@pytest.mark.parametrize(
    ("epsilons", "code"),
    [
        ((("sft-eps1", 1.0),), 0),
        ((("sft-eps1", 1.0), ("sft-eps8", 8.0)), 4),
        ((("sft-eps8", 8.0), ("sft-inf", 1.0)), 1),
    ],
)
def test_declared_claims_set_the_exit_code(epsilons: Any, code: int, tmp_path: Path) -> None:
    runs, name = declaring(tmp_path, *epsilons)
    done = check("--run", name, "--runs", runs)
    assert done.exit_code == code, done.output
    assert all(arm in done.output for arm, _ in epsilons)


def test_a_stale_audit_sets_no_exit_code(tmp_path: Path) -> None:
    runs, name = declaring(tmp_path, ("sft-eps1", 1.0))
    import fabricate

    whole_files.write_text(
        runs / name / "train/sft-eps1/adapter/adapter_model.safetensors", "another adapter"
    )
    done = check("--run", name, "--runs", runs)
    assert isinstance(done.exception, UsageError) and "got an altered file" in str(done.exception)
    fabricate.bind(RunDir(runs / name), "sft-eps1")  # as if it had been trained again
    done = check("--run", name, "--runs", runs)
    assert isinstance(done.exception, UsageError) and "present" in str(done.exception)


def test_a_declared_claim_below_the_arms_own_ledger_fails(tmp_path: Path) -> None:
    runs, name = declaring(tmp_path, ("sft-eps1", 1.0), ("sft-eps8", 5.0))
    done = check("--run", name, "--runs", runs, "--json")
    kept, broken = json.loads(done.output)["declared"]
    assert kept["verdict"] != "refuted" and "ledger" not in kept["reason"]
    assert broken["verdict"] == "refuted" and "its ledger spends an epsilon of" in broken["reason"]
    assert done.exit_code == 1


def test_a_declared_claim_with_broken_coins_is_neither_kept_nor_refuted(tmp_path: Path) -> None:
    import fabricate

    runs, name = declaring(tmp_path, ("sft-eps1", 1.0))
    assert check("--run", name, "--runs", runs).exit_code == 0
    file = runs / name / "audit/sft-eps1/calibrated.json"
    found = json.loads(file.read_text())
    found["blind"] |= {"auc": 0.9, "auc_lower": 0.8, "auc_upper": 0.95, "p_value": 2e-4, "alarm": True}
    file.write_text(json.dumps(found))
    done = check("--run", name, "--runs", runs)
    assert isinstance(done.exception, UsageError) and "got an altered file" in str(done.exception)
    fabricate.rewrite(RunDir(runs / name), "audit/sft-eps1/calibrated.json", found)
    done = check("--run", name, "--runs", runs)
    assert done.exit_code == 4 and "not refuted" not in done.output
