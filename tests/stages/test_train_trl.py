"""Stage train with a loss that couples pairs: trained by TRL without privacy, refused with it."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_train import QUIET, STEPS, make_plan, prepared

from dpaudit.errors import UsageError
from dpaudit.pipeline import gate
from dpaudit.stages.train import train
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan

OPEN = Grid(epsilons=(float("inf"),), dpo=("kto",), stages=())


def trl_plan(model: Path, grid: Grid = OPEN, **training: object) -> Plan:
    plan = make_plan(model, dpo_nonprivate=replace(STEPS, steps=2), **training)
    return replace(plan, suite=replace(plan.suite, grid=grid))


def test_kto_without_privacy(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = trl_plan(toy_model_dir)
    gate._check_losses(plan.suite)
    run_dir = prepared(plan, tmp_path)
    train.run(run_dir, plan, QUIET)
    folder = run_dir.file("train/dpo-kto-inf")
    assert {p.name for p in folder.iterdir()} == {
        "adapter",
        "manifest.json",
        "privacy.json",
        "steps.jsonl",
        "train.json",
    }
    assert {p.name for p in (folder / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    ledger = run_dir.read_json("train/dpo-kto-inf/privacy.json")
    assert (ledger["claim"]["epsilon"], ledger["sampler"], ledger["steps_done"]) == (
        "inf",
        "shuffled, by TRL",
        2,
    )
    assert "must not be released" in (folder / "adapter/README.md").read_text()
    assert len(run_dir.read_lines("train/dpo-kto-inf/steps.jsonl")) == 2


@pytest.mark.parametrize("loss", ["kto", "aot", "aot_unpaired"])
def test_a_private_arm_among_others_is_refused(loss: str, toy_model_dir: Path) -> None:
    grid = replace(OPEN, epsilons=(4.0, float("inf")), dpo=("sigmoid", loss))
    with pytest.raises(UsageError, match=rf"grid\.dpo: {loss}: .*train it with --eps inf"):
        gate._check_losses(trl_plan(toy_model_dir, grid).suite)


def test_deepspeed_without_a_dpo_arm_is_refused(toy_model_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"training\.deepspeed: expected a non-private DPO arm"):
        gate._check_losses(trl_plan(toy_model_dir, Grid(), deepspeed="zero1").suite)
