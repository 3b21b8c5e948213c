"""Preferences that go on from an earlier arm: what the attack compares with, and what happens where that is
gone.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fabricate
import numpy as np
import pytest
import torch
from reference import logits_of

from dpaudit.errors import UsageError
from dpaudit.models.encode import encode_pair
from dpaudit.models.hf_model import HFModel
from dpaudit.pipeline import sequence
from dpaudit.signals import recipe
from dpaudit.stages import report
from dpaudit.stages.attack import attack, scores
from dpaudit.stages.audit import audit
from dpaudit.stages.prepare.candidates import load_candidates
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
RECIPES = ("pair_chosen", "pair_margin", "pair_rejected")
ARM = "dpo-sigmoid-inf"
LENGTH = 160


def plan_of(base: Path, **changes: object) -> Plan:
    """A chain without privacy: dialogues, then preferences."""
    steps = Schedule(8, 2, 0.02)
    training = Training(steps, steps, dpo_private=steps, dpo_nonprivate=steps, lora=Lora(rank=2))
    made = Suite(
        "preferred",
        training,
        model=Model(str(base), max_length=LENGTH),
        data=Data(preference="builtin:clinic", patients=60, heldout=4),
        candidates=Candidates(
            family="record_number", canaries=100, canary_length=6, records=30, extraction=0
        ),
        grid=Grid((), dpo=("sigmoid",), chain=True),
        attacks=("preference",),
        judging=None,
    )
    return Plan(replace(made, **changes), insecure_seed=0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def preferred(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    plan = plan_of(toy_model_dir)
    run_dir = sequence.train(plan, tmp_path_factory.mktemp("preference"), QUIET, workers=1)
    hidden = run_dir.path.with_name("elsewhere")
    run_dir.file("secret").rename(hidden)  # the attack needs no coin
    attack.run(run_dir, plan, QUIET, "preference")
    hidden.rename(run_dir.file("secret"))
    audit.run(run_dir, plan, QUIET, "preference")
    return run_dir, plan


def test_scores_are_those_of_the_definition(preferred: tuple[RunDir, Plan]) -> None:
    """Token by token from the logits, against what the arm started from; the pairs of a unit add up."""
    run_dir, plan = preferred
    candidates = load_candidates(run_dir)
    model = HFModel.load(plan.suite.model.base)
    for name in (ARM, "sft-inf"):
        model.add_adapter(name, run_dir.file(f"train/{name}/adapter"))

    def total(turns: tuple[int, ...], answer: tuple[bool, ...], adapter: str) -> float:
        with torch.no_grad(), model.active(adapter):
            logp = torch.log_softmax(logits_of(model.model, turns), -1)
        return sum(float(logp[i - 1, turns[i]]) for i, kept in enumerate(answer) if kept and i > 0)

    canary = candidates.canaries[3]
    unit, pairs = max(candidates.pairs.items(), key=lambda entry: len(entry[1]))
    assert canary.pair is not None and pairs
    for example, of in ((canary.id, [canary.pair]), (unit, pairs)):
        shifts = np.zeros(2)
        for pair in of:
            both = encode_pair(pair, model.tokenizer, LENGTH)
            shifts += [
                total(e.input_ids, e.answer_mask, ARM) - total(e.input_ids, e.answer_mask, "sft-inf")
                for e in both
            ]
        expected = {
            "pair_chosen": shifts[0],
            "pair_rejected": -shifts[1],
            "pair_margin": shifts[0] - shifts[1],
        }
        for name, value in expected.items():
            row = next(r for r in scores.read_scores(run_dir, ARM, name) if r.example == example)
            assert row.value == pytest.approx(value, abs=2e-3)


def test_where_all_arms_are_dpo_arms_its_recipe_may_carry_the_verdicts(
    tmp_path: Path, toy_model_dir: Path
) -> None:
    plan = plan_of(toy_model_dir, grid=Grid((8.0,), dpo=("sigmoid",), stages=()), primary="pair_margin")
    recipe.check_candidates(plan.suite)
    run_dir = sequence.train(plan, tmp_path, QUIET, workers=1)
    sequence.attack(run_dir, plan, QUIET, "preference")
    verdicts = {row["arm"]: row["verdict"] for row in run_dir.read_json(audit.SUMMARY)["answers"]}
    assert verdicts == {"dpo-sigmoid-eps8": "no power"}
    page = report.run(run_dir, plan, QUIET).read_text()
    assert "which preference pairs were in the training data" in page and "attack mia" not in page


def test_a_run_without_preferences_leaves_it_out_and_goes_on(
    toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(toy_model_dir, grid=Grid(()))
    done: list[str] = []
    monkeypatch.setattr("dpaudit.stages.evaluate.run", lambda *_: done.append("eval"))
    monkeypatch.setattr("dpaudit.stages.judge.run", lambda *_, **__: done.append("judge"))
    run_dir = sequence.everything(plan, tmp_path, QUIET, workers=1)
    assert done == ["eval", "judge"] and run_dir.file("report/index.html").is_file()
    with pytest.raises(UsageError, match="expected a DPO arm"):
        sequence.attack(run_dir, plan, QUIET, "preference")


def test_another_start_makes_the_scores_stale_and_a_missing_one_is_one_line(
    preferred: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run_dir, plan = RunDir(tmp_path / "copy"), preferred[1]
    shutil.copytree(preferred[0].path, run_dir.path)
    made_by = recipe.load("pair_margin")
    assert scores.scores_are_current(run_dir, plan, ARM, made_by)
    start = run_dir.file("train/sft-inf/adapter/adapter_model.safetensors")
    start.write_bytes(run_dir.file(f"train/{ARM}/adapter/adapter_model.safetensors").read_bytes())
    assert not scores.scores_are_current(run_dir, plan, ARM, made_by)
    with pytest.raises(
        UsageError, match=r"sft-inf/adapter/adapter_model.safetensors: .* got an altered file"
    ):
        audit.run(run_dir, plan, QUIET, "preference")
    fabricate.bind(run_dir, "sft-inf")  # as if it had been trained again
    with pytest.raises(UsageError, match=r"sft-inf/adapter.*dpaudit attack preference"):
        audit.run(run_dir, plan, QUIET, "preference")
    shutil.rmtree(run_dir.file("train/sft-inf"))
    with pytest.raises(UsageError, match=r"train/sft-inf.*dpaudit train") as error:
        attack.run(run_dir, plan, QUIET, "preference")
    assert error.value.exit_code == 2


def test_nothing_written_holds_a_text_or_a_secret(preferred: tuple[RunDir, Plan]) -> None:
    run_dir, _ = preferred
    candidates = load_candidates(run_dir)
    words = {p.chosen for pairs in candidates.pairs.values() for p in pairs} | {
        c.secret for c in candidates.canaries
    }
    files = [*run_dir.file("attack").rglob("*.parquet"), *run_dir.file(f"audit/{ARM}").glob("*.json")]
    assert len(files) == 2 * len(RECIPES)
    for file in files:
        content = file.read_bytes()
        assert not any(word.encode() in content for word in words if word)


def test_weights_outside_of_the_run_make_scores_anew(
    preferred: tuple[RunDir, Plan], toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    """A start and a reference are files that anybody may change; scores know which weights they were made
    with.
    """
    run_dir = RunDir(shutil.copytree(preferred[0].path, tmp_path / "run"))
    outside = shutil.copytree(toy_adapter_dir, tmp_path / "start")
    unchained = Grid((), dpo=("sigmoid",), chain=False)
    plan = plan_of(toy_model_dir, model=Model(str(toy_model_dir), LENGTH, start=str(outside)), grid=unchained)
    run_dir.file("plan.json").write_text(json.dumps(plan.to_json()))
    (margin,) = recipe.load_all("preference", ["pair_margin"])
    (calibrated,) = recipe.load_all("mia", ["calibrated"])
    model = shutil.copytree(toy_model_dir, tmp_path / "model")
    for made_by, folder in ((margin, outside), (replace(calibrated, reference=str(model)), model)):
        scores.write_scores(run_dir, plan, ARM, made_by, [scores.Score("c0", "canary", "margin", 1.0)])
        assert scores.scores_are_current(run_dir, plan, ARM, made_by)
        (weights,) = folder.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        assert not scores.scores_are_current(run_dir, plan, ARM, made_by)
    own = shutil.copytree(toy_model_dir, tmp_path / "base")
    moved = replace(plan, suite=replace(plan.suite, model=replace(plan.suite.model, base=str(own))))
    run_dir.file("plan.json").write_text(json.dumps(moved.to_json()))
    (loss,) = recipe.load_all("mia", ["loss"])
    scores.write_scores(run_dir, moved, ARM, loss, [scores.Score("c0", "canary", "loss", 1.0)])
    assert scores.scores_are_current(run_dir, moved, ARM, loss)
    (weights,) = own.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert not scores.scores_are_current(run_dir, moved, ARM, loss)
