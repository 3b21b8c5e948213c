import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dpaudit import pipeline, recipe, suite
from dpaudit.errors import UsageError
from dpaudit.models.encode import encode_pair
from dpaudit.models.hf import HFModel
from dpaudit.progress import Progress
from dpaudit.rundir import RunDir
from dpaudit.stages import attack, audit, prepare, report, scores
from dpaudit.stats.roc import auc_interval
from dpaudit.suite import Candidates, Data, Grid, Lora, Model, Plan, Schedule, Suite, Training

QUIET = Progress(quiet=True)
RECIPES = ("pair_chosen", "pair_margin", "pair_rejected")
ARM = "dpo-sigmoid-inf"
LENGTH = 160


def plan_of(base: Path, **changes: object) -> Plan:
    """A chain: dialogues, then preferences at a rate that learns the pairs by heart, without privacy."""
    mild, strong = Schedule(8, 2, 0.005), Schedule(24, 60, 0.02)
    training = Training(mild, mild, dpo_private=mild, dpo_nonprivate=strong, lora=Lora(rank=4, alpha=16))
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
    run_dir = pipeline.train(plan, tmp_path_factory.mktemp("preference"), QUIET, workers=1)
    hidden = run_dir.path.with_name("elsewhere")
    run_dir.file("secret").rename(hidden)  # the attack needs no coin
    attack.run(run_dir, plan, QUIET, "preference")
    hidden.rename(run_dir.file("secret"))
    audit.run(run_dir, plan, QUIET, "preference")
    return run_dir, plan


def test_pairs_that_an_arm_learnt_from_stand_out(preferred: tuple[RunDir, Plan]) -> None:
    run_dir, _ = preferred
    coins = prepare.load_membership(run_dir)
    rows = [row for row in scores.read_scores(run_dir, ARM, "pair_margin") if row.kind == "canary"]
    values, members = np.array([r.value for r in rows]), np.array([coins[r.example] for r in rows])
    area = auc_interval(values, members, 0.95)
    assert area.lower > 0.6
    found = run_dir.read_json(f"audit/{ARM}/pair_margin.json")
    assert found["canaries"]["auc"] == pytest.approx(area.auc)


def test_scores_are_those_of_the_definition(preferred: tuple[RunDir, Plan]) -> None:
    """Token by token from the logits, against what the arm started from; the pairs of a unit add up."""
    run_dir, plan = preferred
    candidates = prepare.load_candidates(run_dir)
    model = HFModel.load(plan.suite.model.base)
    for name in (ARM, "sft-inf"):
        model.add_adapter(name, run_dir.file(f"train/{name}/adapter"))

    def total(turns: tuple[int, ...], answer: tuple[bool, ...], adapter: str) -> float:
        with torch.no_grad(), model.active(adapter):
            logp = torch.log_softmax(model.model(input_ids=torch.tensor([turns])).logits[0], -1)
        return sum(float(logp[i - 1, turns[i]]) for i, kept in enumerate(answer) if kept and i > 0)

    canary = candidates.canaries[3]
    unit, pairs = max(candidates.pairs.items(), key=lambda entry: len(entry[1]))
    assert canary.pair is not None and pairs
    for example, of in ((canary.id, [canary.pair]), (unit, pairs)):
        shifts = np.zeros(2)
        for pair in of:
            both = encode_pair(pair, model.tokenizer, LENGTH)
            shifts += [
                total(e.input_ids, e.answer_mask, ARM) - total(e.input_ids, e.answer_mask, "sft-inf") for e in both
            ]  # fmt: skip
        expected = {
            "pair_chosen": shifts[0],
            "pair_rejected": -shifts[1],
            "pair_margin": shifts[0] - shifts[1],
        }
        for name, value in expected.items():
            row = next(r for r in scores.read_scores(run_dir, ARM, name) if r.example == example)
            assert row.value == pytest.approx(value, abs=2e-3)


def test_every_pair_with_a_coin_has_one_number_a_recipe(preferred: tuple[RunDir, Plan]) -> None:
    run_dir, _ = preferred
    candidates = prepare.load_candidates(run_dir)
    assert not run_dir.file("attack/sft-inf").exists()
    for name in RECIPES:
        rows = scores.read_scores(run_dir, ARM, name)
        assert {r.example for r in rows if r.kind == "canary"} == {c.id for c in candidates.canaries}
        assert {r.example for r in rows if r.kind == "record"} == {
            u for u, p in candidates.pairs.items() if p
        }
        assert len(rows) == len({r.example for r in rows}) and all(math.isfinite(r.value) for r in rows)


def test_no_verdict_rests_on_it_and_the_page_has_its_section(preferred: tuple[RunDir, Plan]) -> None:
    run_dir, plan = preferred
    for name in RECIPES:
        found = run_dir.read_json(f"audit/{ARM}/{name}.json")
        assert found["kind"] == "preference" and found["verdict"]["verdict"] is None
        assert (
            found["bound"]["epsilon_lower"] <= found["bound"]["ceiling"] and found["bound"]["canaries"] == 100
        )
        assert found["records"]["n"] == 30
    assert "which preference pairs were in the training data" in report.run(run_dir, plan, QUIET).read_text()


def test_where_all_arms_are_dpo_arms_its_recipe_may_carry_the_verdicts(
    preferred: tuple[RunDir, Plan], tmp_path: Path, toy_model_dir: Path
) -> None:
    steps = Schedule(8, 2, 0.005)
    grid = Grid((8.0,), dpo=("sigmoid",), stages=())
    training = Training(steps, steps, dpo_private=steps, dpo_nonprivate=steps, lora=Lora(rank=2))
    plan = plan_of(toy_model_dir, grid=grid, training=training, primary="pair_margin")
    recipe.check_candidates(plan.suite)
    run_dir = pipeline.train(plan, tmp_path, QUIET, workers=1)
    pipeline.attack(run_dir, plan, QUIET, "preference")
    verdicts = {row["arm"]: row["verdict"] for row in run_dir.read_json(audit.SUMMARY)["rows"]}
    assert verdicts == {"dpo-sigmoid-inf": None, "dpo-sigmoid-eps8": "no power"}


def test_arms_of_single_answers_are_refused_in_one_line(preferred: tuple[RunDir, Plan]) -> None:
    run_dir, plan = preferred
    for stage in (attack.run, audit.run):
        with pytest.raises(UsageError, match="arm sft-inf: expected a DPO arm") as error:
            stage(run_dir, plan, QUIET, "preference", arms=["sft-inf"])
        assert error.value.exit_code == 2 and "\n" not in str(error.value)


def test_a_run_without_preferences_leaves_it_out_and_goes_on(
    toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(toy_model_dir, grid=Grid(()))
    done: list[str] = []
    monkeypatch.setattr("dpaudit.stages.evaluate.run", lambda *_: done.append("eval"))
    monkeypatch.setattr("dpaudit.stages.judge.run", lambda *_, **__: done.append("judge"))
    run_dir = pipeline.everything(plan, tmp_path, QUIET, workers=1)
    assert done == ["eval", "judge"] and run_dir.file("report/index.html").is_file()
    with pytest.raises(UsageError, match="expected a DPO arm"):
        pipeline.attack(run_dir, plan, QUIET, "preference")


def test_another_start_makes_the_scores_stale_and_a_missing_one_is_one_line(
    preferred: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    import shutil

    run_dir, plan = RunDir(tmp_path / "copy"), preferred[1]
    shutil.copytree(preferred[0].path, run_dir.path)
    made_by = recipe.load("pair_margin")
    assert scores.scores_are_current(run_dir, ARM, made_by)
    start = run_dir.file("train/sft-inf/adapter/adapter_model.safetensors")
    start.write_bytes(run_dir.file(f"train/{ARM}/adapter/adapter_model.safetensors").read_bytes())
    assert not scores.scores_are_current(run_dir, ARM, made_by)
    with pytest.raises(UsageError, match=r"sft-inf/adapter.*dpaudit attack preference"):
        audit.run(run_dir, plan, QUIET, "preference")
    shutil.rmtree(run_dir.file("train/sft-inf"))
    with pytest.raises(UsageError, match=r"train/sft-inf.*dpaudit train") as error:
        attack.run(run_dir, plan, QUIET, "preference")
    assert error.value.exit_code == 2


def test_nothing_written_holds_a_text_or_a_secret(preferred: tuple[RunDir, Plan]) -> None:
    run_dir, _ = preferred
    candidates = prepare.load_candidates(run_dir)
    words = {p.chosen for pairs in candidates.pairs.values() for p in pairs} | {
        c.secret for c in candidates.canaries
    }
    files = [*run_dir.file("attack").rglob("*.parquet"), *run_dir.file(f"audit/{ARM}").glob("*.json")]
    assert len(files) == 2 * len(RECIPES)
    for file in files:
        content = file.read_bytes()
        assert not any(word.encode() in content for word in words if word)


def test_the_arms_of_the_plan(preferred: tuple[RunDir, Plan]) -> None:
    assert [arm.name for arm in suite.arms(preferred[1].suite)] == ["sft-inf", ARM]
