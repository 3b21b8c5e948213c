"""Stages that go on from one another: what they start at, what their ledgers add up to, and what is
refused.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpaudit.errors import UsageError
from dpaudit.pipeline import sequence
from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.ledger import Ledger
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stages.audit import chain
from dpaudit.stages.prepare.jobs import ArmJob, outside_stages
from dpaudit.stages.train import merge, start
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, Grid
from dpaudit.suite.plan import ASSUMED_PUBLIC, Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEPS = Schedule(batch=8, steps=2, learning_rate=0.01)
SLOW = replace(STEPS, learning_rate=1e-5)  # what it starts at still shows in what it ends with
ARMS = ["cpt-eps2", "sft-eps4", "dpo-sigmoid-eps8"]
SFT = Grid(epsilons=(8.0,), baseline=False)
CHAIN = Grid(epsilons=(8.0,), baseline=False, dpo=("sigmoid",), stages=("cpt", "sft"), chain=True)
DPO = Grid(epsilons=(8.0,), baseline=False, dpo=("sigmoid",), stages=())


def make_plan(
    base: Path, grid: Grid, start: Path | None = None, public: bool = False, **training: Any
) -> Plan:
    settings: dict[str, Any] = {
        "private": STEPS,
        "nonprivate": STEPS,
        "cpt_private": STEPS,
        "dpo_private": SLOW,
        "clip": 0.5,
        "lora": Lora(rank=2, alpha=8),
        **training,
    }
    chosen = Suite(
        name="toy",
        training=Training(**settings),
        model=Model(str(base), max_length=80, start=str(start) if start else None, assume_public=public),
        data=Data(preference="builtin:clinic", text="builtin:clinic", patients=24, heldout=4),
        candidates=Candidates(canaries=6, records=4, extraction=4, extraction_repetitions=1),
        grid=grid,
        attacks=(),
        judging=None,
    )
    return Plan(chosen, seed=3)


def go(plan: Plan, runs: Path, only: list[str] | None = None) -> RunDir:
    return sequence.train(plan, runs, QUIET, only, workers=1)


def ledger_of(run_dir: RunDir, arm: str) -> dict[str, Any]:
    return run_dir.read_json(f"train/{arm}/privacy.json")


def weights_of(run_dir: RunDir, arm: str) -> dict[str, torch.Tensor]:
    return load_file(run_dir.file(f"train/{arm}/adapter/adapter_model.safetensors"))


def spent(ledger: dict[str, Any], *, alone: bool = False) -> float:
    """What the accountant makes of the ledger's mechanism, with its stages unless `alone`."""
    stages = () if alone else tuple(Mechanism(**stage) for stage in ledger["stages"])
    return epsilon_spent(Mechanism(**ledger["mechanism"], stages=stages), ledger["claim"]["delta"])


def refused(plan: Plan, runs: Path, match: str, only: list[str] | None = None) -> None:
    """One line, and no run that was not there before."""
    before = sorted(runs.glob("*"))
    with pytest.raises(UsageError, match=match) as caught:
        go(plan, runs, only)
    assert "\n" not in str(caught.value)
    assert sorted(runs.glob("*")) == before


@pytest.fixture(scope="module")
def chained(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    """The DPO arm of a chain of three, asked for alone. Tests only read it."""
    plan = make_plan(toy_model_dir, CHAIN)
    return go(plan, tmp_path_factory.mktemp("runs"), only=["dpo-sigmoid-eps8"]), plan


# ---- a chain in one run


def test_an_arm_that_is_asked_for_alone_brings_its_starts(chained: tuple[RunDir, Plan]) -> None:
    assert sorted(p.name for p in chained[0].file("train").iterdir()) == sorted(ARMS)


def test_every_ledger_holds_the_stages_before_it(chained: tuple[RunDir, Plan]) -> None:
    run_dir, _ = chained
    before: list[dict[str, Any]] = []
    for arm, claim in zip(ARMS, (2, 4, 8), strict=True):
        ledger = ledger_of(run_dir, arm)
        assert ledger["stages"] == before
        assert ledger["epsilon_pld"] == pytest.approx(spent(ledger), rel=1e-9)
        assert 0.99 * claim < ledger["epsilon_pld"] <= claim
        if before:
            assert spent(ledger, alone=True) < 0.95 * ledger["epsilon_pld"]
        before.append(ledger["mechanism"])


def test_every_arm_starts_with_the_weights_of_the_one_before(chained: tuple[RunDir, Plan]) -> None:
    """The last one's steps are so small that its end still shows its start; the middle one's are not."""
    run_dir, _ = chained
    cpt, sft, dpo = (weights_of(run_dir, arm) for arm in ARMS)
    for name, wanted in sft.items():
        assert 0 < (dpo[name] - wanted).abs().max() < 1e-4 < (sft[name] - cpt[name]).abs().max()


def test_what_nobody_looked_at_from_inside_is_named_stage_by_stage(
    chained: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run_dir, plan = RunDir(shutil.copytree(chained[0].path, tmp_path / "copy")), chained[1]
    dpo = Arm("dpo", "sigmoid", 8.0)
    named = chain.unseen(run_dir, plan, dpo)
    assert [text.split(" (")[0] for text in named] == [*reversed(ARMS)]
    assert all("(no canaries along axes: " in text and "a fifth of them" in text for text in named)
    run_dir.file("train/sft-eps4/axes.npy").write_bytes(b"")  # as if this stage had had them
    assert [text.split(" (")[0] for text in chain.unseen(run_dir, plan, dpo)] == [ARMS[2], ARMS[0]]
    assert chain.trainings(plan, dpo)[1:] == (Arm("sft", "sft", 4.0), Arm("cpt", "cpt", 2.0))


def test_a_start_whose_ledger_was_edited_is_refused(chained: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir, plan = RunDir(tmp_path / chained[0].name), chained[1]
    shutil.copytree(chained[0].path, run_dir.path)
    shutil.rmtree(run_dir.file("train/dpo-sigmoid-eps8"))
    ledger = ledger_of(run_dir, "sft-eps4")
    ledger["mechanism"]["noise_multiplier"] = 9.0
    run_dir.file("train/sft-eps4/privacy.json").write_text(json.dumps(ledger))
    refused(
        plan, tmp_path, "sft-eps4/privacy.json: expected the file as this run wrote it, got .*; restore it"
    )
    assert not run_dir.file("train/dpo-sigmoid-eps8").exists()


OTHER = {"noise_multiplier": 9.0, "sampling_rate": 0.1, "steps": 1, "clip": 1.0}


@pytest.mark.parametrize("edit", [{}, {"stages": []}, {"steps_done": 1}, {"mechanism": OTHER}])
def test_what_counts_as_edited(edit: dict[str, Any], chained: tuple[RunDir, Plan]) -> None:
    run_dir, plan = chained
    *earlier, before, last = (ledger_of(run_dir, arm)["mechanism"] for arm in ARMS)
    stages = tuple(Mechanism(**one) for one in (*earlier, before))
    mechanism = Mechanism(**last, stages=(replace(stages[-1], stages=stages[:-1]),))
    ended, begun = (next(a for a in plan.suite.grid.arms if a.name == name) for name in (ARMS[2], ARMS[1]))
    job = ArmJob(ended, SLOW, mechanism, 20, True, begun)
    kept = Ledger.from_json(ledger_of(run_dir, "sft-eps4") | edit)
    if not edit:
        start.check(job, kept)
        return
    with pytest.raises(UsageError, match="expected the ledger that this arm's claim was composed with"):
        start.check(job, kept)


def test_a_chain_under_unit_record_is_refused(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = make_plan(toy_model_dir, CHAIN, unit="record")
    refused(
        plan,
        tmp_path,
        "training.unit: expected patient where stages continue from one another .*same people, got record",
    )


# ---- an adapter of an earlier run as the start


def test_a_start_from_another_run_is_composed(
    chained: tuple[RunDir, Plan], toy_model_dir: Path, tmp_path: Path
) -> None:
    start = chained[0].file("train/sft-eps4")
    both = [outside_stages(make_plan(toy_model_dir, DPO, place)) for place in (start, start / "adapter")]
    assert len(both[0]) == 2 and both[0] == both[1]
    plan = make_plan(toy_model_dir, DPO, start)
    run_dir = go(plan, tmp_path)
    ledger = ledger_of(run_dir, "dpo-sigmoid-eps8")
    _, before = chain.unseen(run_dir, plan, Arm("dpo", "sigmoid", 8.0))
    assert before == "2 trainings before this run, of which the ledger alone is known"
    earlier = [ledger_of(chained[0], arm)["mechanism"] for arm in ARMS[:2]]
    assert ledger["stages"] == earlier and ledger["start_assumed_public"] is False
    assert 0.99 * 8 < spent(ledger) == pytest.approx(ledger["epsilon_pld"], rel=1e-9)
    assert ledger["epsilon_pld"] <= 8
    ended, began = weights_of(run_dir, "dpo-sigmoid-eps8"), weights_of(chained[0], "sft-eps4")
    assert all((ended[name] - began[name]).abs().max() < 1e-4 for name in began)


def test_a_start_without_a_ledger(toy_adapter_dir: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    """Refused, unless somebody says that its data were public: then the ledger, the card and every table say
    who did.
    """
    refused(
        make_plan(toy_model_dir, SFT, toy_adapter_dir),
        tmp_path,
        "--start .*: expected an adapter with its ledger",
    )
    plan = make_plan(toy_model_dir, SFT, toy_adapter_dir, public=True)
    run_dir = go(plan, tmp_path)
    ledger = ledger_of(run_dir, "sft-eps8")
    assert ledger["stages"] == [] and ledger["start_assumed_public"] is True
    assert plan.caveat == ASSUMED_PUBLIC
    _, before = chain.unseen(run_dir, plan, Arm("sft", "sft", 8.0))
    assert before == "the adapter that this run began with, which has no ledger and was taken as public"
    assert "taken for public" in run_dir.file("train/sft-eps8/adapter/README.md").read_text()


def start_with(adapter: Path, folder: Path, changes: dict[str, Any], noise: float = 4.0) -> Path:
    """A copy of an adapter with a ledger that adds up, of unit patient unless `changes` say otherwise."""
    shutil.copytree(adapter, folder)
    step = {"noise_multiplier": noise, "sampling_rate": 0.1, "steps": 5, "clip": 0.5}
    claim = {"epsilon": 8.0, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"} | changes.pop(
        "claim", {}
    )
    ledger = {
        "arm": {"method": "sft", "loss": "sft", "epsilon": 8.0, "seed": 0},
        "claim": claim,
        "mechanism": step,
        "stages": [],
        "steps_done": 5,
        "epsilon_pld": epsilon_spent(Mechanism(**step), claim["delta"], claim["relation"])
        if noise
        else "inf",  # type: ignore[arg-type]
        **changes,
    }
    (folder / "privacy.json").write_text(json.dumps(ledger))
    return folder


OPEN = {
    "claim": {"epsilon": "inf"},
    "mechanism": {"noise_multiplier": 0.0, "sampling_rate": 0.1, "steps": 5, "clip": None},
}


@pytest.mark.parametrize(
    ("changes", "noise", "training", "wanted"),
    [
        (
            {"claim": {"unit": "record"}},
            4.0,
            {},
            "expected unit patient under add_or_remove, to compose with this run, got unit record under "
            "add_or_remove",
        ),
        (
            {"claim": {"relation": "replace"}},
            4.0,
            {},
            "expected unit patient under add_or_remove, .* got unit patient under replace",
        ),
        (OPEN, 0.0, {}, "expected a private start for private arms, got a start trained without privacy"),
        ({}, 4.0, {"lora": Lora(rank=3)}, "expected an adapter with r = 3, as in the plan, got r = 2"),
        (
            {},
            4.0,
            {"lora": Lora(rank=2, alpha=16)},
            "expected an adapter with lora_alpha = 16, as in the plan, got lora_alpha = 8",
        ),
        (
            {},
            4.0,
            {"lora": Lora(rank=2, alpha=8, rslora=True)},
            "expected an adapter with use_rslora = True, .* got use_rslora = False",
        ),
        (
            {},
            4.0,
            {"lora": Lora(rank=2, alpha=8, targets=("q_proj",))},
            "expected an adapter of the plan's layers",
        ),
        (
            {"claim": {"epsilon": 30.0}},
            0.3,
            {},
            "arm sft-eps8: expected a claim above the epsilon of .* that the stages before it spent, got 8; "
            "raise --eps",
        ),
        (
            {"arm": {"method": "dpo"}, "claim": {"unit": "record"}},
            4.0,
            {"unit": "record"},
            "expected a start by sft under unit record, got a start by dpo; stages over different data",
        ),
        ({"steps_done": 4}, 4.0, {}, "expected a ledger of all 5 steps, got a ledger of 4 steps"),
        ({"epsilon_pld": 0.01}, 4.0, {}, "expected at least the epsilon that its mechanism and stages spend"),
        ({"claim": {"epsilon": 0.01}}, 4.0, {}, "expected at most the claimed epsilon 0.01 as epsilon_pld"),
        (
            {"base_files": {"model.safetensors": "0" * 32}},
            4.0,
            {},
            "expected the base that .* with another .*; restore that model",
        ),
    ],
)
def test_starts_that_do_not_fit(
    changes: dict[str, Any],
    noise: float,
    training: dict[str, Any],
    wanted: str,
    toy_adapter_dir: Path,
    toy_model_dir: Path,
    tmp_path: Path,
) -> None:
    start = start_with(toy_adapter_dir, tmp_path / "start", dict(changes), noise)
    (tmp_path / "runs").mkdir()
    refused(make_plan(toy_model_dir, SFT, start, **training), tmp_path / "runs", wanted)


def test_an_open_start_serves_open_arms(toy_adapter_dir: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    start = start_with(toy_adapter_dir, tmp_path / "start", dict(OPEN), 0.0)
    run_dir = go(make_plan(toy_model_dir, Grid(epsilons=(), baseline=True), start), tmp_path / "runs")
    assert ledger_of(run_dir, "sft-inf")["epsilon_pld"] == "inf"


# ---- train, merge, train: the first origin system's chain


@pytest.fixture(scope="module")
def merged(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model that an arm of unit record was merged into, and that arm's ledger. Tests only read it."""
    folder = tmp_path_factory.mktemp("merged")
    plan = make_plan(toy_model_dir, replace(SFT, epsilons=(3.0,)), unit="record")
    run_dir = go(plan, folder / "runs")
    merge.run(merge.of_run(run_dir, plan, "sft-eps3"), folder / "model", "2GB", QUIET)
    return folder / "model", ledger_of(run_dir, "sft-eps3")


def test_training_on_a_merged_model_composes_with_its_ledger(
    merged: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    base, earlier = merged
    plan = make_plan(base, replace(SFT, epsilons=(6.0,)), unit="record")
    run_dir = go(plan, tmp_path)
    ledger = ledger_of(run_dir, "sft-eps6")
    _, before = chain.unseen(run_dir, plan, Arm("sft", "sft", 6.0))
    assert before == "a training before this run, of which the ledger alone is known"
    assert ledger["stages"] == [earlier["mechanism"]]
    assert 0.99 * 6 < ledger["epsilon_pld"] <= 6
    assert ledger["epsilon_pld"] == pytest.approx(spent(ledger), rel=1e-9)
    assert spent(ledger, alone=True) < 0.95 * 6
    refused(
        make_plan(base, replace(SFT, epsilons=(2.0,)), unit="record"),
        tmp_path,
        "arm sft-eps2: expected a claim above the epsilon of 3",
    )


def test_a_merged_model_of_another_unit_is_refused(
    merged: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    refused(
        make_plan(merged[0], SFT), tmp_path, "expected unit patient under add_or_remove, .* got unit record"
    )
    refused(make_plan(merged[0], DPO, unit="record"), tmp_path, "expected a start by dpo under unit record")


def test_a_merged_model_without_its_own_ledger_is_refused(
    merged: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(merged[0], tmp_path / "model")
    (tmp_path / "runs").mkdir()
    plan = make_plan(tmp_path / "model", SFT, unit="record")
    file = tmp_path / "model" / "privacy.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"epsilon_pld": 2.9999}))
    refused(plan, tmp_path / "runs", "expected the ledger that config.json names .* got an edited")
    file.unlink()
    refused(plan, tmp_path / "runs", "expected the ledger that the model was written with, got no such file")


# ---- seeds


def test_seeds_train_different_adapters_each_with_its_ledger(toy_model_dir: Path, tmp_path: Path) -> None:
    """Other initial weights, units drawn and noise; the corpus and its coins are the run's."""
    plan = make_plan(toy_model_dir, replace(CHAIN, stages=("sft",), seeds=2))
    run_dir = go(plan, tmp_path)
    names = ["sft-eps8", "sft-eps8-s1", "sft-eps4", "sft-eps4-s1", "dpo-sigmoid-eps8", "dpo-sigmoid-eps8-s1"]
    assert sorted(p.name for p in run_dir.file("train").iterdir()) == sorted(names)
    for arm in names[::2]:
        first, second = (weights_of(run_dir, name) for name in (arm, f"{arm}-s1"))
        assert not any(torch.equal(first[name], second[name]) for name in first)
        one, two = (ledger_of(run_dir, name) for name in (arm, f"{arm}-s1"))
        assert (one["arm"]["seed"], two["arm"]["seed"]) == (0, 1)
        assert {key: one[key] for key in ("mechanism", "stages", "epsilon_pld")} == {
            key: two[key] for key in ("mechanism", "stages", "epsilon_pld")
        }
    # each goes on from the start of its own seed
    for end, begin in (("dpo-sigmoid-eps8", "sft-eps4"), ("dpo-sigmoid-eps8-s1", "sft-eps4-s1")):
        ended, began = weights_of(run_dir, end), weights_of(run_dir, begin)
        assert all((ended[name] - began[name]).abs().max() < 1e-4 for name in began)


# ---- what a start does to those that go on from it


def test_an_arm_is_trained_again_when_what_it_started_from_is(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = make_plan(toy_model_dir, replace(CHAIN, stages=("sft",)))
    run_dir = go(plan, tmp_path)
    kept = {name: file.stat().st_mtime_ns for name, file in _adapters(run_dir).items()}
    assert {name: file.stat().st_mtime_ns for name, file in _adapters(go(plan, tmp_path)).items()} == kept
    shutil.rmtree(run_dir.file("train/sft-eps4"))
    again = {name: file.stat().st_mtime_ns for name, file in _adapters(go(plan, tmp_path)).items()}
    assert again["sft-eps8"] == kept["sft-eps8"]
    assert again["sft-eps4"] != kept["sft-eps4"] and again["dpo-sigmoid-eps8"] != kept["dpo-sigmoid-eps8"]


def _adapters(run_dir: RunDir) -> dict[str, Path]:
    return {
        file.parts[-3]: file for file in run_dir.file("train").glob("*/adapter/adapter_model.safetensors")
    }


@pytest.mark.parametrize("fault", ["no weights", "cut short", "no settings"])
def test_a_broken_adapter_folder_is_told_in_one_line(
    fault: str, toy_adapter_dir: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    start = start_with(toy_adapter_dir, tmp_path / "start", dict(OPEN), 0.0)
    place = next(start.rglob("adapter_model.safetensors"))
    if fault == "no settings":
        (place.parent / "adapter_config.json").write_text("{", encoding="utf-8")
    elif fault == "no weights":
        place.unlink()
    else:
        place.write_bytes(place.read_bytes()[:200])
    told = {
        "no weights": "no such file|an adapter folder",
        "cut short": "expected adapter_model.safetensors in safetensors, whole",
        "no settings": "expected adapter_config.json with a JSON object",
    }[fault]
    refused(make_plan(toy_model_dir, Grid(epsilons=(), baseline=True), start), tmp_path / "runs", told)
