"""Shadow models of toy arms: whose halves they learn from, what they copy, what is kept and what is
refused.
"""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpaudit.commands import states
from dpaudit.errors import GuardError, PartialError, UsageError
from dpaudit.stages.attack import attack, shadows
from dpaudit.stages.integrity import custody
from dpaudit.stages.prepare import prepare
from dpaudit.stages.prepare.lessons import examples_of
from dpaudit.stages.train import train
from dpaudit.storage import exclusive, run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEPS = Schedule(batch=8, steps=3, learning_rate=0.01)


def make_plan(model: Path, **changes: Any) -> Plan:
    training = Training(STEPS, STEPS, dpo_nonprivate=STEPS, clip=0.5, micro_batch=16, lora=Lora(rank=2))
    chosen = Suite(
        name="shadowed",
        training=training,
        model=Model(str(model), max_length=80),
        data=Data(preference="builtin:clinic", patients=24, heldout=4),
        candidates=Candidates(canaries=7, records=4, extraction=4, extraction_repetitions=2),
        grid=Grid(epsilons=(4.0,), dpo=("sigmoid",), dpo_epsilons=(float("inf"),)),
    )
    return Plan(replace(chosen, **changes), seed=3)


def arm_of(plan: Plan, name: str) -> Arm:
    return next(arm for arm in plan.suite.grid.arms if arm.name == name)


def weights(shadow: shadows.Shadow) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(shadow.folder / "adapter" / "adapter_model.safetensors"))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def trained(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    """A run with its arms trained. Tests copy it."""
    plan = make_plan(toy_model_dir)
    run_dir = run_store.open_or_create(plan.to_json(), "toy", tmp_path_factory.mktemp("runs"))
    prepare.run(run_dir, plan, QUIET)
    train.run(run_dir, plan, QUIET, workers=1)
    return run_dir, plan


@pytest.fixture
def run(trained: tuple[RunDir, Plan], tmp_path: Path) -> tuple[RunDir, Plan]:
    """A copy of the run whose secrets are out of reach."""
    run_dir = RunDir(tmp_path / "copy")
    shutil.copytree(trained[0].path, run_dir.path, ignore=shutil.ignore_patterns("secret"))
    return run_dir, trained[1]


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_every_candidate_is_in_half_of_any_even_number_of_shadows(count: int) -> None:
    plan, arm = Plan(Suite("s", Training(STEPS, STEPS))), Arm("sft", "sft", float("inf"))
    names = [f"c{i}" for i in range(11)]
    drawn = [shadows.members(plan, arm, names, number) for number in range(count)]
    assert Counter(name for one in drawn for name in one) == dict.fromkeys(names, count // 2)
    assert {len(one) for one in drawn} == {5, 6}
    assert drawn == [shadows.members(plan, arm, reversed(names), number) for number in range(count)]
    assert len(set(drawn)) == count
    assert shadows.members(replace(plan, seed=1), arm, names, 0) != drawn[0]


def test_halves_are_independent_of_one_another() -> None:
    """Two candidates are together in a quarter to a half of 2,000 pairs: 49 of 99 others, +- 3 standard
    errors.
    """
    plan, arm = Plan(Suite("s", Training(STEPS, STEPS))), Arm("sft", "sft", 1.0)
    names = [f"c{i}" for i in range(100)]
    drawn = [shadows.members(plan, arm, names, 2 * j) for j in range(2000)]
    together = np.mean([("c0" in one) == ("c1" in one) for one in drawn])
    assert abs(together - 49 / 99) < 3 * 0.5 / 2000**0.5
    assert abs(np.mean(["c0" in one for one in drawn]) - 0.5) < 3 * 0.5 / 2000**0.5


def test_shadows_are_whole_resumed_and_made_anew(run: tuple[RunDir, Plan]) -> None:
    """More shadows leave the earlier ones alone; a kill costs the one that was at work; stale ones are
    trained again.
    """
    run_dir, plan = run
    arm = arm_of(plan, "sft-inf")
    shadows.ensure(run_dir, plan, QUIET, arm, 2, workers=1)
    two = shadows.present(run_dir, arm)
    assert [one.folder.name for one in two] == ["shadow-000", "shadow-001"]
    rows = run_dir.read_lines("corpus/candidates.jsonl")
    candidates = {row["id"] for row in rows if row["kind"] != "certain"}
    assert two[0].members | two[1].members == candidates and not two[0].members & two[1].members
    assert not same(weights(two[0]), weights(two[1]))
    before = {one.folder: one.folder.stat().st_ino for one in two}

    leftover = run_dir.new_folder(f"attack/{arm.name}/shadows/shadow-002")
    shadows.ensure(run_dir, plan, QUIET, arm, 4, workers=1)
    four = shadows.present(run_dir, arm)
    assert len(four) == 4 and four[:2] == two and not leftover.exists()
    assert {one.folder: one.folder.stat().st_ino for one in two} == before
    assert not list(run_dir.path.glob("**/.*.tmp")) and not list(run_dir.path.glob("**/.units*"))
    listed = [row for row in states.output_rows(run_dir) if "shadow-" in row["file"]]
    assert len(listed) == 4 and {row["state"] for row in listed} == {"current"}

    third = weights(four[2])
    shutil.rmtree(four[2].folder)
    assert shadows.present(run_dir, arm) == two  # its twin alone would unbalance the halves
    shadows.ensure(run_dir, plan, QUIET, arm, 4, workers=1)
    assert same(weights(shadows.present(run_dir, arm)[2]), third)

    ledger = run_dir.read_json("train/sft-inf/privacy.json")
    run_dir.write_json("train/sft-inf/privacy.json", ledger | {"again": 1}, custody.INPUTS)
    assert shadows.present(run_dir, arm) == []
    with pytest.raises(
        UsageError,
        match=r"at least 4 shadow adapters of sft-inf, got 0; dpaudit attack mia --run .* --arm sft-inf",
    ):
        shadows.require(run_dir, arm, 4)


@pytest.mark.slow
def test_processes_train_the_same_shadows_as_one(run: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir, plan = run
    arm, other = arm_of(plan, "sft-inf"), RunDir(tmp_path / "other")
    shutil.copytree(run_dir.path, other.path)
    shadows.ensure(run_dir, plan, QUIET, arm, 2, workers=2)
    shadows.ensure(other, plan, QUIET, arm, 2, workers=1)
    pairs = zip(shadows.present(run_dir, arm), shadows.present(other, arm), strict=True)
    for one, two in pairs:
        assert one.members == two.members and same(weights(one), weights(two))
    paths = shadows.inputs(run_dir, shadows.present(run_dir, arm))
    assert len(paths) == 4 and all(run_dir.file(path).is_file() for path in paths)


@pytest.mark.parametrize("name", ["sft-eps4", "dpo-sigmoid-inf"])
def test_a_shadow_copies_the_training_that_is_claimed(
    name: str, run: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, clip, rate and steps are the ledger's, the units all certain ones and half of the rest."""
    from dpaudit.training import loop

    run_dir, plan = run
    seen: list[tuple[Any, ...]] = []
    real = loop.train

    def watched(model: Any, units: Any, schedule: Any, mechanism: Any, **options: Any) -> Any:
        seen.append((len(units), schedule, mechanism, options["objective"].loss))
        return real(model, units, schedule, mechanism, **options)

    monkeypatch.setattr(loop, "train", watched)
    shadows.ensure(run_dir, plan, QUIET, arm_of(plan, name), 2, workers=1)
    told = run_dir.read_json(f"train/{name}/privacy.json")["mechanism"]
    for _, schedule, mechanism, loss in seen:
        assert schedule == STEPS and loss == ("sft" if name.startswith("sft") else "sigmoid")
        assert mechanism.noise_multiplier == told["noise_multiplier"]
        assert mechanism.sampling_rate == told["sampling_rate"]
        assert mechanism.clip == (told["clip"] or float("inf"))
    rows = run_dir.read_lines("corpus/candidates.jsonl")
    has = [row for row in rows if examples_of(row, "sft" if name.startswith("sft") else "dpo")]
    certain = sum(row["kind"] == "certain" for row in has)
    assert seen[0][0] + seen[1][0] == certain + len(has)


def test_what_can_have_no_shadows_is_one_line(run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = run
    arm = arm_of(plan, "sft-inf")
    for count in (0, 1, 3):
        with pytest.raises(UsageError, match="--shadows: expected an even number of at least 2"):
            shadows.ensure(run_dir, plan, QUIET, arm, count)
    chained = replace(plan, suite=replace(plan.suite, grid=replace(plan.suite.grid, chain=True)))
    with pytest.raises(UsageError, match=r"an arm that starts at the base.*continues from sft-inf"):
        shadows.ensure(run_dir, chained, QUIET, arm_of(chained, "dpo-sigmoid-inf"), 2)
    assert shadows.refusal(plan, Arm("dpo", "kto", float("inf"))) is not None
    with (
        exclusive.writing(run_dir, "shadows"),
        pytest.raises(UsageError, match="got another dpaudit, process"),
    ):
        shadows.ensure(run_dir, plan, QUIET, arm, 2)
    shutil.rmtree(run_dir.file("train/sft-inf"))
    with pytest.raises(UsageError, match="dpaudit train"):
        shadows.ensure(run_dir, plan, QUIET, arm, 2)


def test_a_recipe_over_shadows_is_left_out_or_refused(run: tuple[RunDir, Plan]) -> None:
    from io import StringIO

    from rich.console import Console

    from dpaudit.signals import recipe

    run_dir, plan = run
    arm, told = arm_of(plan, "sft-inf"), StringIO()
    console = Console(file=told, width=200)
    chosen = [replace(one, minimum_canaries=3) for one in recipe.load_all("mia")]
    kept = attack.applicable(run_dir, plan, arm, chosen, Progress(console=console))
    left_out = {one.name for one in chosen} - {one.name for one in kept}
    assert left_out == {"lira_online", "lira_offline", "rmia"}
    assert "sft-inf: skipped: needs 4 shadow models" in told.getvalue()
    assert "(--shadows 16 trains sixteen): lira_offline, lira_online" in told.getvalue()
    with pytest.raises(UsageError, match="at least 2 shadow adapters of sft-inf, got 0"):
        attack.applicable(run_dir, plan, arm, [recipe.load("rmia")], QUIET, ["rmia"])
    shadows.ensure(run_dir, plan, QUIET, arm, 2, workers=1)
    fitting = {one.name for one in attack.applicable(run_dir, plan, arm, chosen, QUIET)}
    assert "rmia" in fitting and "lira_online" not in fitting


def test_a_failed_shadow_leaves_nothing_half_made(
    run: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.models import adapter_files

    run_dir, plan = run
    arm = arm_of(plan, "sft-inf")

    def fail(*_: object) -> None:
        raise GuardError("a guard fired")

    monkeypatch.setattr(adapter_files, "save_adapter", fail)
    with pytest.raises(GuardError):
        shadows.ensure(run_dir, plan, QUIET, arm, 2, workers=1)
    assert list(run_dir.file(f"attack/{arm.name}/shadows").iterdir()) == []


def test_membership_is_told_and_no_text(run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = run
    arm = arm_of(plan, "sft-inf")
    shadows.ensure(run_dir, plan, QUIET, arm, 2, workers=1)
    (one, _) = shadows.present(run_dir, arm)
    known = json.loads((one.folder / "membership.json").read_text())
    assert (
        set(known) == {"members", "seconds", "base", "inputs", "shadow", "files", "custody"}
        and sorted(one.members) == known["members"]
    )
    assert set(known["inputs"]) == {"plan.json", "corpus/manifest.json", "train/sft-inf/privacy.json"}
    card = (one.folder / "adapter/README.md").read_text()
    assert "Shadow model of sft-inf" in card and "must not be released" in card


def test_out_of_memory_is_one_line_and_the_shadows_before_it_stay(
    run: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, plan = run
    arm, trained = arm_of(plan, "sft-inf"), shadows._train

    def greedy(plan: Plan, sources: Any, number: int, *others: Any) -> None:
        if number == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        trained(plan, sources, number, *others)

    monkeypatch.setattr(shadows, "_train", greedy)
    with pytest.raises(
        PartialError, match=r"training shadow 2 of sft-inf: expected .* type the command again"
    ):
        shadows.ensure(run_dir, plan, QUIET, arm, 4, workers=1)
    assert len(shadows.present(run_dir, arm)) == 2
    assert not list(run_dir.path.glob("**/.*.tmp"))
