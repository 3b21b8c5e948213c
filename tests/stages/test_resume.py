"""A killed arm goes on to the same bytes as an unbroken one; its checkpoints say no less than was spent."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpaudit.commands import overview
from dpaudit.errors import PartialError, UsageError
from dpaudit.page import tables
from dpaudit.stages.prepare import prepare
from dpaudit.stages.train import train
from dpaudit.storage import exclusive, run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEPS = Schedule(batch=8, steps=9, learning_rate=0.01)
FINAL = (
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "adapter/README.md",
    "privacy.json",
)
KILLS = 20


def make_plan(model: Path, **training: Any) -> Plan:
    settings: dict[str, Any] = {
        "private": STEPS,
        "nonprivate": STEPS,
        "dpo_private": STEPS,
        "clip": 0.5,
        "lora": Lora(rank=2, dropout=0.1),
        "checkpoint_every": 2,
        **training,
    }
    chosen = Suite(
        name="toy",
        training=Training(**settings),
        model=Model(str(model), max_length=80),
        data=Data(preference="builtin:clinic", patients=24, heldout=4),
        candidates=Candidates(canaries=6, records=4, extraction=4, extraction_repetitions=2),
        grid=Grid(epsilons=(4.0,), dpo=("sigmoid",), dpo_epsilons=(4.0,)),
    )
    return Plan(chosen, seed=3, insecure_seed=5)


def prepared(plan: Plan, runs: Path) -> RunDir:
    run_dir = run_store.open_or_create(plan.to_json(), "toy", runs)
    if not run_dir.file("corpus/manifest.json").is_file():
        prepare.run(run_dir, plan, QUIET)
    return run_dir


def final_bytes(run_dir: RunDir, arm: str) -> dict[str, bytes]:
    """What an arm leaves, without seals and the hashes of its run's corpus, whose keys are others in every
    run, and times.
    """
    found = {name: run_dir.file(f"train/{arm}/{name}").read_bytes() for name in FINAL}
    ledger = json.loads(found["privacy.json"])
    del ledger["inputs"], ledger["custody"]
    steps = run_dir.read_lines(f"train/{arm}/steps.jsonl")
    found["privacy.json"] = json.dumps(ledger).encode()
    found["steps"] = json.dumps(
        [{k: v for k, v in step.items() if k != "seconds"} for step in steps]
    ).encode()
    return found


def left_behind(run_dir: RunDir) -> list[str]:
    states = run_dir.secret_file("states")
    return [p.name for p in run_dir.file("train").iterdir() if p.name.startswith(".")] + [
        p.name for p in (states.iterdir() if states.is_dir() else ())
    ]


class StopAfter(Progress):
    """Interrupts training after so many steps in all."""

    def __init__(self, steps: int) -> None:
        super().__init__(quiet=True)
        self.left = steps

    def task(self, description: str, total: int | None = None) -> Any:
        from contextlib import contextmanager

        def advance(n: int = 1) -> None:
            self.left -= n * description.startswith("training")
            if self.left <= 0:
                raise KeyboardInterrupt

        @contextmanager
        def opened() -> Any:
            yield advance

        return opened()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("arm", ["sft-eps4", "sft-inf", "dpo-sigmoid-eps4"])
def test_an_interrupted_arm_ends_with_the_same_bytes(
    arm: str, optimizer: str, toy_model_dir: Path, tmp_path: Path
) -> None:
    """Dropout, optimizer, sampler and noise go on; interrupted at a checkpoint, after it, and before the
    first.
    """
    steps = replace(STEPS, optimizer=optimizer, momentum=0.9)  # type: ignore[arg-type]
    plan = make_plan(toy_model_dir, private=steps, nonprivate=steps, dpo_private=steps)
    unbroken = prepared(plan, tmp_path / "unbroken")
    train.run(unbroken, plan, QUIET, only=[arm])
    broken = prepared(plan, tmp_path / "broken")
    for stop in (1, 3, 5, 8):
        with pytest.raises(KeyboardInterrupt):
            train.run(broken, plan, StopAfter(stop), only=[arm])
        assert not broken.file(f"train/{arm}").exists()
    train.run(broken, plan, QUIET, only=[arm])
    assert final_bytes(broken, arm) == final_bytes(unbroken, arm)
    assert left_behind(broken) == []


def interrupted(model: Path, runs: Path, stop: int = 5) -> tuple[RunDir, Plan]:
    plan = make_plan(model)
    run_dir = prepared(plan, runs)
    with pytest.raises(KeyboardInterrupt):
        train.run(run_dir, plan, StopAfter(stop), only=["sft-eps4"])
    return run_dir, plan


def test_a_checkpoint_holds_its_ledger_and_one_secret_state(toy_model_dir: Path, tmp_path: Path) -> None:
    run_dir, plan = interrupted(toy_model_dir, tmp_path)
    place = run_dir.file("train/.sft-eps4.partial")
    assert sorted(p.name for p in place.iterdir()) == ["4", "privacy.json"]
    ledger = run_dir.read_json("train/.sft-eps4.partial/privacy.json")
    assert ledger["steps_done"] == 4
    declarations.keep(run_dir, plan)
    shown = tables.as_text(overview.details(run_dir, plan))
    assert "training: stopped before its end" in shown and "to go on type: the command that began" in shown
    assert re.search(r"^sft-eps4 +4 +9$", shown, re.M) and re.search(r"^sft-inf +0 +9$", shown, re.M)
    with exclusive.writing(run_dir, "train"):
        assert "training: at work now" in tables.as_text(overview.details(run_dir, plan))
    assert 3.9 < ledger["epsilon_pld"] <= 4  # of all planned steps: never less than was spent
    states = list(run_dir.secret_file("states").iterdir())
    assert [p.name for p in states] == ["sft-eps4.4.json"]
    assert states[0].stat().st_mode & 0o777 == 0o600
    assert states[0].parent.stat().st_mode & 0o777 == 0o700
    secret = states[0].read_text()
    noise = json.loads(secret)["noise"]
    assert all(noise.encode() not in p.read_bytes() for p in place.rglob("*") if p.is_file())


def test_generators_come_first_then_the_ledger_then_the_weights(
    toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between any two of them leaves no weights that a ledger does not cover."""
    import safetensors.torch

    order: list[str] = []
    write, save = RunDir.write_json, safetensors.torch.save_file

    def spy(run: RunDir, name: str, *rest: Any, **options: Any) -> None:
        if name.endswith(".partial/privacy.json"):
            order.append("ledger")
        if name.startswith("secret/states/"):
            order.append("generators")
        write(run, name, *rest, **options)

    monkeypatch.setattr(RunDir, "write_json", spy)
    monkeypatch.setattr(
        safetensors.torch, "save_file", lambda *rest: (order.append("weights"), save(*rest))[1]
    )
    interrupted(toy_model_dir, tmp_path, stop=3)
    assert order[:3] == ["generators", "ledger", "weights"]


def test_a_checkpoint_of_another_plan_is_refused_and_kept(toy_model_dir: Path, tmp_path: Path) -> None:
    run_dir, _ = interrupted(toy_model_dir, tmp_path)
    other = make_plan(toy_model_dir, clip=0.4)
    theirs = prepared(other, tmp_path)
    shutil.copytree(run_dir.file("train/.sft-eps4.partial"), theirs.file("train/.sft-eps4.partial"))
    shutil.copytree(run_dir.secret_file("states"), theirs.secret_file("states"))
    with pytest.raises(
        UsageError,
        match=r"4/state.json: expected the file as this run wrote it, got a file that another run sealed",
    ):
        train.run(theirs, other, QUIET, only=["sft-eps4"])
    assert theirs.file("train/.sft-eps4.partial/4/state.safetensors").is_file()


def test_a_checkpoint_without_its_generators_is_refused(toy_model_dir: Path, tmp_path: Path) -> None:
    """New noise after the old steps would be safe, the old noise a second time on other data would not:
    nobody guesses.
    """
    run_dir, plan = interrupted(toy_model_dir, tmp_path)
    shutil.rmtree(run_dir.secret_file("states"))
    with pytest.raises(UsageError, match="expected the checkpoint's generators"):
        train.run(run_dir, plan, QUIET, only=["sft-eps4"])


@pytest.mark.parametrize(
    "file", ["train/.sft-eps4.partial/4/state.safetensors", "secret/states/sft-eps4.4.json"]
)
def test_a_torn_checkpoint_is_told_in_one_line(file: str, toy_model_dir: Path, tmp_path: Path) -> None:
    run_dir, plan = interrupted(toy_model_dir, tmp_path)
    os.truncate(run_dir.file(file), 9)
    with pytest.raises(
        UsageError, match=rf"{file}: expected .* got (an altered file|a syntax error in line [0-9])"
    ):
        train.run(run_dir, plan, QUIET, only=["sft-eps4"])


def test_a_checkpoint_with_another_start_is_refused(toy_model_dir: Path, tmp_path: Path) -> None:
    """Its first steps had the noise that the first start left room for; a ledger of the second would not tell
    it.
    """
    started = tmp_path / "started"
    for epsilon in (1.0, 3.0):
        plan = make_plan(toy_model_dir)
        plan = replace(plan, suite=replace(plan.suite, grid=Grid(epsilons=(epsilon,), baseline=False)))
        train.run(prepared(plan, started), plan, QUIET)
    arms = {p.name: p for p in started.glob("*/train/*")}
    start = tmp_path / "start"
    shutil.copytree(arms["sft-eps1"], start)
    plan = make_plan(toy_model_dir)
    plan = replace(
        plan,
        suite=replace(
            plan.suite,
            model=replace(plan.suite.model, start=str(start)),
            grid=Grid(epsilons=(4.0,), baseline=False),
        ),
    )
    run_dir = prepared(plan, tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        train.run(run_dir, plan, StopAfter(5))
    shutil.rmtree(start)
    shutil.copytree(arms["sft-eps3"], start)
    with pytest.raises(UsageError, match="expected a checkpoint with the start and the noise"):
        train.run(run_dir, plan, QUIET)
    with pytest.raises(UsageError, match="expected a start with noise that cannot be drawn again"):
        train.run(
            prepared(replace(plan, insecure_seed=None), tmp_path / "runs"),
            replace(plan, insecure_seed=None),
            QUIET,
        )


def test_a_checkpoint_on_other_base_weights_is_refused(toy_model_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = Path(shutil.copytree(toy_model_dir, tmp_path / "base"))
    run_dir, plan = interrupted(base, tmp_path / "runs")
    file = base / "model.safetensors"
    before, weights = file.read_bytes(), load_file(file)
    save_file({name: 2 * weight for name, weight in weights.items()}, file, {"format": "pt"})
    with pytest.raises(UsageError, match="expected a checkpoint with the start and the noise"):
        train.run(run_dir, plan, QUIET, only=["sft-eps4"])
    file.write_bytes(before)
    train.run(run_dir, plan, QUIET, only=["sft-eps4"])


def test_the_masks_of_dropout_are_secret_in_a_private_arm(toy_model_dir: Path, tmp_path: Path) -> None:
    """A stream that follows from --seed would give every unit of a step another mask once one unit more is
    drawn.
    """
    import safetensors.torch
    import torch

    plan = replace(make_plan(toy_model_dir), insecure_seed=None)
    run_dir = prepared(plan, tmp_path)
    seeds = {}
    for arm in ("sft-eps4", "sft-inf"):
        with pytest.raises(KeyboardInterrupt):
            train.run(run_dir, plan, StopAfter(3), only=[arm])
        kept = safetensors.torch.load_file(run_dir.file(f"train/.{arm}.partial/2/state.safetensors"))
        assert {name.split("/")[0] for name in kept} == {"weights", "optimizer"}
        state = json.loads(run_dir.secret_file(f"states/{arm}.2.json").read_text())["dropout"]
        generator = torch.Generator()
        generator.set_state(torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8))
        seeds[arm] = generator.initial_seed()
    assert seeds["sft-inf"] == plan.seed
    assert seeds["sft-eps4"] != plan.seed


def test_what_a_kill_left_after_the_last_step_is_tidied_up(toy_model_dir: Path, tmp_path: Path) -> None:
    run_dir, plan = interrupted(toy_model_dir, tmp_path)
    kept = tmp_path / "kept"
    shutil.copytree(run_dir.file("train/.sft-eps4.partial"), kept / "partial")
    shutil.copytree(run_dir.secret_file("states"), kept / "states")
    train.run(run_dir, plan, QUIET, only=["sft-eps4"])
    shutil.copytree(kept / "partial", run_dir.file("train/.sft-eps4.partial"))
    shutil.copytree(kept / "states", run_dir.secret_file("states"), dirs_exist_ok=True)
    train.run(run_dir, plan, QUIET, only=["sft-eps4"])
    assert left_behind(run_dir) == []


def test_out_of_memory_names_the_setting_and_the_run_goes_on(
    toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.training import engine

    run_dir, plan = interrupted(toy_model_dir, tmp_path)
    passes = engine.example_losses

    def greedy(model: Any, examples: Any, objective: Any) -> Any:
        if len(examples) > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return passes(model, examples, objective)

    monkeypatch.setattr(engine, "example_losses", greedy)
    with pytest.raises(PartialError, match="--micro-batch 128 to continue"):
        train.run(run_dir, plan, QUIET, only=["sft-eps4"])
    train.run(run_dir, plan, QUIET, only=["sft-eps4"], micro_batch=3)
    assert run_dir.read_json("train/sft-eps4/privacy.json")["steps_done"] == 9
