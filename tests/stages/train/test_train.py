"""Stage train on a toy model: what it writes, skips, refuses and never leaves half made."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

from dpaudit import content
from dpaudit.errors import GuardError, UsageError
from dpaudit.stages import evaluate, judge
from dpaudit.stages.attack import attack, shadows
from dpaudit.stages.integrity import custody
from dpaudit.stages.prepare import prepare
from dpaudit.stages.prepare.candidates import load_membership, load_training
from dpaudit.stages.prepare.lessons import expected_units
from dpaudit.stages.train import merge, train, training_set
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Grid, Method
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Judging, Lora, Model, Schedule, Suite, Training, Unit
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEPS = Schedule(batch=8, steps=3, learning_rate=0.01)


def make_plan(model: Path, **training: Any) -> Plan:
    settings = {
        "private": STEPS,
        "nonprivate": STEPS,
        "dpo_private": replace(STEPS, steps=2),
        "clip": 0.5,
        "micro_batch": 16,
        "lora": Lora(rank=2),
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
    return Plan(chosen, seed=3)


def judged_by_few(plan: Plan, model: Path, folder: Path) -> Plan:
    """The plan with a toy judge that is asked seven controls of a kind, where what it says does not
    matter.
    """
    rules = content.load_yaml(content.find("judges", "likelihood")) | {"model": str(model)}
    del rules["adapter"]
    few = rules["controls"] | {"count": 7, "least": 7}
    rubric = folder / "few.yaml"
    rubric.write_text(yaml.safe_dump(rules | {"name": "few", "controls": few}))
    return replace(plan, suite=replace(plan.suite, judging=Judging(rubric=str(rubric))))


def prepared(plan: Plan, runs: Path) -> RunDir:
    run_dir = run_store.open_or_create(plan.to_json(), "toy", runs)
    declarations.keep(run_dir, plan)
    prepare.run(run_dir, plan, QUIET)
    return run_dir


@pytest.fixture(scope="module")
def finished(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    """A run with all arms trained. Tests only read it."""
    plan = make_plan(toy_model_dir)
    run_dir = prepared(plan, tmp_path_factory.mktemp("runs"))
    train.run(run_dir, plan, QUIET, workers=1)
    return run_dir, plan


ARMS = ["sft-inf", "sft-eps4", "dpo-sigmoid-eps4"]


def test_every_arm_is_there_and_nothing_else(finished: tuple[RunDir, Plan]) -> None:
    run_dir, plan = finished
    assert [arm.name for arm in plan.suite.grid.arms] == ARMS
    assert sorted(p.name for p in run_dir.file("train").iterdir()) == sorted(ARMS)
    for arm in ARMS:
        folder = run_dir.file(f"train/{arm}")
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


@pytest.mark.parametrize("arm", ARMS)
def test_the_ledger_adds_up(arm: str, finished: tuple[RunDir, Plan]) -> None:
    """Claim, mechanism and both accountants' epsilon belong together, and the claim is kept but not
    wasted.
    """
    from dpaudit.privacy.accountants import epsilon_rdp, epsilon_spent
    from dpaudit.privacy.mechanism import Mechanism

    run_dir, plan = finished
    ledger = run_dir.read_json(f"train/{arm}/privacy.json")
    found = ledger["mechanism"]
    schedule = plan.suite.training.dpo_private if arm.startswith("dpo") else STEPS
    assert schedule is not None
    assert ledger["steps_done"] == found["steps"] == schedule.steps
    assert found["sampling_rate"] == ledger["expected_batch"] / ledger["population"]
    assert ledger["population_assumed"] is True
    assert ledger["sampler"] == "poisson"
    assert ledger["reproducible_noise"] is False
    if arm == "sft-inf":
        assert (ledger["claim"]["epsilon"], ledger["epsilon_pld"], ledger["epsilon_rdp"]) == ("inf",) * 3
        assert found["noise_multiplier"] == 0
        assert found["clip"] is None
        return
    assert ledger["claim"] == {"epsilon": 4, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"}
    mechanism = Mechanism(**found)
    assert ledger["epsilon_pld"] == pytest.approx(epsilon_spent(mechanism, 1e-5), rel=1e-9)
    assert ledger["epsilon_rdp"] == pytest.approx(epsilon_rdp(mechanism, 1e-5), rel=1e-9)
    assert 0.99 * 4 <= ledger["epsilon_pld"] <= 4


@pytest.mark.parametrize("arm", ARMS)
def test_training_figures_and_steps(arm: str, finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    figures = run_dir.read_json(f"train/{arm}/train.json")
    assert figures["inputs"] == run_dir.digests(custody.INPUTS)
    assert figures["tokens"] > 0
    assert figures["seconds"] > 0
    assert figures["peak_memory_mb"] > 50
    assert figures["trainable_parameters"] == 2 * 2 * (4 * 64 + 3 * 96)  # layers x rank x (in + out)
    assert "weights moved" in figures["guards"]
    assert ("noise on every trainable weight" in figures["guards"]) == (arm != "sft-inf")
    steps = run_dir.read_lines(f"train/{arm}/steps.jsonl")
    assert [step["step"] for step in steps] == list(range(len(steps)))
    keys = {"step", "units", "clipped_share", "loss", "learning_rate", "seconds"}
    assert all(step.keys() == keys for step in steps)


def test_no_file_holds_infinity_that_json_does_not_know(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    with pytest.raises(AssertionError, match="Infinity"):
        json.loads("[Infinity]", parse_constant=refuse)
    paths = list(run_dir.file("train").rglob("*.json*"))
    assert len(paths) >= 3 * len(ARMS)
    for path in paths:
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(line, parse_constant=refuse)


def test_population_does_not_depend_on_the_coins(finished: tuple[RunDir, Plan]) -> None:
    """24 patients less the held-out ones; of 4 flipped patients, 6 canaries and 4 extraction canaries half
    each.
    """
    run_dir, _ = finished
    rows = run_dir.read_lines("corpus/candidates.jsonl")
    certain = sum(row["kind"] == "certain" for row in rows)
    assert len(rows) - certain == 14
    ledger = run_dir.read_json("train/sft-eps4/privacy.json")
    assert ledger["population"] == certain + 7
    coins = load_membership(run_dir)
    run_dir.write_json("secret/coins.json", {"coins": dict.fromkeys(coins, True)})
    try:
        assert expected_units(run_dir, "sft", "patient") == certain + 7
    finally:
        run_dir.write_json("secret/coins.json", {"coins": coins})


def test_record_units_count_each_record(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    rows = run_dir.read_lines("corpus/candidates.jsonl")
    expected = sum(len(row["records"]) * (1 if row["kind"] == "certain" else 0.5) for row in rows)
    assert expected_units(run_dir, "sft", "record") == int(expected)


def test_adapters_load_and_differ(finished: tuple[RunDir, Plan]) -> None:
    from safetensors.numpy import load_file

    run_dir, plan = finished
    weights = [load_file(run_dir.file(f"train/{arm}/adapter/adapter_model.safetensors")) for arm in ARMS]
    assert len(weights[0]) == 28
    for name, first in weights[0].items():
        assert not (first == weights[1][name]).all(), name
    config = json.loads(run_dir.file("train/sft-inf/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == plan.suite.model.base


def test_an_adapter_brings_the_tokenizer_that_it_was_trained_with(
    finished: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets the folder alone asks the model in its own form; nothing is looked up, and nothing is
    cut.
    """
    import socket

    import transformers

    from dpaudit.models import tokenizers

    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    run_dir, plan = finished
    expected = tokenizers.load_tokenizer(plan.suite.model.base)
    for arm in ARMS:
        folder = run_dir.file(f"train/{arm}/adapter")
        found = transformers.AutoTokenizer.from_pretrained(folder)
        assert found.chat_template == expected.chat_template
        assert (found.get_vocab(), found.pad_token) == (expected.get_vocab(), expected.pad_token)
        assert 'AutoTokenizer.from_pretrained("FOLDER")' in (folder / "README.md").read_text()
        backend = json.loads((folder / "tokenizer.json").read_text())
        assert backend["truncation"] is None and backend["padding"] is None


def test_model_cards_say_the_claim_and_nothing_counted(finished: tuple[RunDir, Plan]) -> None:
    run_dir, plan = finished
    card = run_dir.file("train/sft-eps4/adapter/README.md").read_text().replace(plan.suite.model.base, "BASE")
    ledger = run_dir.read_json("train/sft-eps4/privacy.json")
    digest = hashlib.sha256(
        run_dir.file("train/sft-eps4/adapter/adapter_model.safetensors").read_bytes()
    ).hexdigest()
    assert f"Weights: SHA-256 `{digest}`" in card and ledger["adapter_sha256"] == digest
    card = card.replace(digest, "")  # its digits are nobody's figures
    assert "(4, 1e-05)-differentially private for the unit `patient`" in card
    assert "mechanism: DP-SGD" in card and "unit: `patient`; neighbouring relation: `add_or_remove`" in card
    # With the claim, any of these would tell the population, which was counted from the data.
    assert f"{ledger['epsilon_pld']:.6g}" not in card
    for told in (ledger["epsilon_rdp"], *ledger["mechanism"].values()):
        assert told == ledger["mechanism"]["clip"] or f"{told:.4g}" not in card.replace("(4, 1e-05)", "")
    assert "loss" not in card.replace("privacy loss distribution", "")
    assert "must not be released" in run_dir.file("train/sft-inf/adapter/README.md").read_text()


def test_the_cards_snippet_loads_the_adapter(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    folder = run_dir.file("train/sft-eps4/adapter")
    snippet = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(snippet.replace("FOLDER", str(folder)), names)
    assert names["model"].peft_config["default"].r == 2
    assert names["tokenizer"]("fever").input_ids


def test_a_finished_run_is_skipped_and_never_trained_again_unasked(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    plan = make_plan(toy_model_dir)
    run_dir = prepared(plan, tmp_path)
    train.run(run_dir, plan, QUIET, only=["sft-inf"])
    assert [p.name for p in run_dir.file("train").iterdir()] == ["sft-inf"]
    weights = run_dir.file("train/sft-inf/adapter/adapter_model.safetensors")
    before = weights.read_bytes()
    train.run(run_dir, plan, QUIET, only=["sft-inf"])
    assert weights.read_bytes() == before
    manifest = run_dir.read_json("corpus/manifest.json")
    run_dir.write_json("corpus/manifest.json", {**manifest, "changed": True}, ["plan.json"])
    with pytest.raises(
        UsageError, match=r"sft-inf/manifest.json: .* got a manifest of another plan or corpus; .* delete"
    ):
        train.run(run_dir, plan, QUIET, only=["sft-inf"])
    assert weights.read_bytes() == before
    shutil.rmtree(run_dir.file("train/sft-inf"))  # the way out that the message names
    train.run(run_dir, plan, QUIET, only=["sft-inf"])
    assert weights.read_bytes() != before  # sampling comes from the system
    assert run_dir.is_current("train/sft-inf/train.json", custody.INPUTS)


def test_an_arm_that_began_with_another_adapter_than_the_present_start_is_refused(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    """What is compared with its start would be compared with something else, and nobody would see it."""
    start = Path(shutil.copytree(toy_adapter_dir, tmp_path / "start"))
    plan = make_plan(toy_model_dir, lora=Lora(rank=2, alpha=8))
    model = replace(plan.suite.model, start=str(start), assume_public=True)
    plan = judged_by_few(replace(plan, suite=replace(plan.suite, model=model)), toy_model_dir, tmp_path)
    run_dir = prepared(plan, tmp_path / "runs")
    train.run(run_dir, plan, QUIET, only=["sft-inf"])
    file = start / "adapter_model.safetensors"
    before, weights = file.read_bytes(), load_file(file)
    stages: list[Callable[[], object]] = [
        lambda: train.run(run_dir, plan, QUIET, only=["sft-inf"]),
        lambda: attack.run(run_dir, plan, QUIET, "extract", recipes=["extraction"]),
        lambda: evaluate.run(run_dir, plan, QUIET),
        lambda: judge.run(run_dir, plan, QUIET),
    ]
    save_file({name: 2 * weight for name, weight in weights.items()}, file, {"format": "pt"})
    for stage in stages:
        with pytest.raises(
            UsageError,
            match=r"train\.json: expected an adapter that began with the adapter that .*start is now, got a "
            r"start with another adapter_model\.safetensors; restore that adapter, or delete .*train",
        ):
            stage()
    file.unlink()
    with pytest.raises(UsageError, match=r"another adapter_model\.safetensors|no adapter at"):
        evaluate.run(run_dir, plan, QUIET)
    file.write_bytes(before)
    for stage in stages:
        stage()


def test_an_arm_of_another_base_than_the_present_one_is_refused(toy_model_dir: Path, tmp_path: Path) -> None:
    """Its adapter says nothing on another base: an attack would find no member, and the claim would stand."""
    base = Path(shutil.copytree(toy_model_dir, tmp_path / "base"))
    plan = judged_by_few(make_plan(base), toy_model_dir, tmp_path)
    run_dir = prepared(plan, tmp_path / "runs")
    train.run(run_dir, plan, QUIET, only=["sft-inf"])
    stages: list[Callable[[], object]] = [
        lambda: train.run(run_dir, plan, QUIET, only=["sft-inf"]),
        lambda: attack.run(run_dir, plan, QUIET, "extract", recipes=["extraction"]),
        lambda: train.run(run_dir, plan, QUIET, only=["sft-eps4"]),
        lambda: evaluate.run(run_dir, plan, QUIET),
        lambda: judge.run(run_dir, plan, QUIET),
        lambda: shadows.ensure(run_dir, plan, QUIET, plan.suite.grid.arms[0], 2, workers=1),
        lambda: merge.run(
            merge.of_run(run_dir, plan, "sft-inf", str(base)), tmp_path / "merged", "1GB", QUIET
        ),
        lambda: merge.run(
            merge.of_folder(run_dir.file("train/sft-inf/adapter")), tmp_path / "again", "1GB", QUIET
        ),
    ]
    file = base / "model.safetensors"
    before, weights = file.read_bytes(), load_file(file)
    save_file({name: 2 * weight for name, weight in weights.items()}, file, {"format": "pt"})
    other = file.read_bytes()
    for stage in stages:
        with pytest.raises(
            UsageError,
            match=r"train\.json: expected an adapter of the model that .*base is now, got a base with "
            r"another model\.safetensors",
        ):
            stage()
    assert not run_dir.file("attack").exists()
    for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
        known = (base / name).read_text()
        (base / name).write_text(known + " ")
        others = ", ".join(sorted((name, file.name)))
        with pytest.raises(UsageError, match=f"got a base with another {others};"):
            evaluate.run(run_dir, plan, QUIET)
        (base / name).write_text(known)
    file.unlink()
    with pytest.raises(UsageError) as caught:
        merge.run(merge.of_run(run_dir, plan, "sft-inf"), tmp_path / "merged", "1GB", QUIET)
    assert "\n" not in str(caught.value)
    file.write_bytes(before)
    for stage in stages:
        stage()
    figures = run_dir.read_json("evaluate/base.json")["quality"]["bits_per_byte"]
    file.write_bytes(other)
    shutil.rmtree(run_dir.file("train"))
    train.run(run_dir, plan, QUIET, only=["sft-inf"])
    assert not shadows.present(run_dir, plan.suite.grid.arms[0])
    evaluate.run(run_dir, plan, QUIET)
    assert run_dir.read_json("evaluate/base.json")["quality"]["bits_per_byte"] != figures


def test_the_insecure_seed_fixes_the_weights_and_withdraws_the_claim(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    plan = replace(make_plan(toy_model_dir), insecure_seed=5)
    found = []
    for folder in ("one", "two"):
        run_dir = prepared(plan, tmp_path / folder)
        train.run(run_dir, plan, QUIET, only=["sft-eps4"])
        found.append(run_dir.file("train/sft-eps4/adapter/adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]
    assert run_dir.read_json("train/sft-eps4/privacy.json")["reproducible_noise"] is True
    card = run_dir.file("train/sft-eps4/adapter/README.md").read_text()
    assert "Epsilon not claimed: the noise is reproducible" in card
    assert "-differentially private" not in card


def test_a_declared_population_sets_the_rate(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = make_plan(toy_model_dir, population=64)
    run_dir = prepared(plan, tmp_path)
    train.run(run_dir, plan, QUIET, only=["sft-eps4"])
    ledger = run_dir.read_json("train/sft-eps4/privacy.json")
    assert (ledger["population"], ledger["population_assumed"]) == (64, False)
    assert ledger["mechanism"]["sampling_rate"] == 8 / 64
    card = run_dir.file("train/sft-eps4/adapter/README.md").read_text()
    assert "0.125" not in card and "population" not in card  # a card goes out with the adapter


# ---- what the arms learn from


@pytest.mark.parametrize("unit", ["patient", "record"])
@pytest.mark.parametrize("method", ["sft", "dpo", "cpt"])
def test_units_are_those_of_a_list(method: Method, unit: Unit, toy_model_dir: Path, tmp_path: Path) -> None:
    """The slow double: every record of every unit that is in, grouped in one mapping."""
    from dpaudit.data.corpus import unit_of
    from dpaudit.models import tokenizers
    from dpaudit.models.encode import encode_record
    from dpaudit.training import examples

    plan = make_plan(toy_model_dir, unit=unit)
    data = replace(plan.suite.data, text="builtin:clinic")
    plan = replace(plan, suite=replace(plan.suite, data=data, model=replace(plan.suite.model, max_length=40)))
    run_dir = prepared(plan, tmp_path)
    tokenizer, groups = tokenizers.load_tokenizer(str(toy_model_dir)), dict[str, list[examples.Example]]()
    for record in load_training(run_dir, method):
        coded = examples.Example(encode_record(record, tokenizer, 40))
        groups.setdefault(unit_of(record, unit), []).append(coded)
    wanted = list(groups.values())
    found = training_set.load(run_dir, plan, method)
    assert list(found.units) == wanted and list(found.names) == list(groups)
    sequences = [s for examples in wanted for e in examples for s in e.sequences]
    assert found.truncated == sum(s.truncated for s in sequences) > 0
    [folder] = run_dir.path.glob(".units-*.tmp")
    assert folder.stat().st_mode & 0o777 == 0o700
    del found
    assert not folder.exists()


def test_plain_text_counts_once_a_canary(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = make_plan(toy_model_dir)
    plan = replace(plan, suite=replace(plan.suite, data=replace(plan.suite.data, text="builtin:clinic")))
    run_dir = prepared(plan, tmp_path)
    patients = [expected_units(run_dir, method, "patient") for method in ("cpt", "sft")]
    assert patients[0] == patients[1]
    rows = [row for row in run_dir.read_lines("corpus/candidates.jsonl") if row["kind"] != "canary"]
    texts = sum(len(row["texts"]) * (1 if row["kind"] == "certain" else 0.5) for row in rows)
    assert expected_units(run_dir, "cpt", "record") == int(texts + 10 / 2)  # 6 + 4 canaries, one text each


def test_a_trained_run_keeps_no_encoded_unit(finished: tuple[RunDir, Plan]) -> None:
    import gc

    gc.collect()
    assert not list(finished[0].path.glob(".*"))


def test_what_was_cut_is_told(finished: tuple[RunDir, Plan]) -> None:
    from dpaudit.commands import overview
    from dpaudit.page import tables

    run_dir, plan = finished
    rows = overview.arm_rows(run_dir, plan)
    told = [run_dir.read_json(f"train/{row['arm']}/train.json")["sequences_truncated"] for row in rows]
    assert [row["sequences_truncated"] for row in rows] == told and any(told)
    assert "cut short" in tables.as_text({"arms": rows})


# ---- bad input, and stops


@pytest.mark.parametrize(
    ("settings", "only", "message"),
    [
        (
            {"private": replace(STEPS, batch=5000)},
            None,
            r"training\.private\.batch: expected at most \d+ units",
        ),
        ({"dpo_private": None}, None, r"training\.dpo_private: expected batch, steps and learning_rate"),
        ({"lora": Lora(targets=("no_such_layer",))}, None, r"training\.lora\.targets: expected all-linear"),
        ({}, ["sft-eps3"], r"arm sft-eps3: expected one of sft-inf, sft-eps4, dpo-sigmoid-eps4"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(
    settings: dict[str, Any], only: list[str] | None, message: str, toy_model_dir: Path, tmp_path: Path
) -> None:
    plan = make_plan(toy_model_dir, **settings)
    run_dir = prepared(plan, tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        train.run(run_dir, plan, QUIET, only, workers=1)
    assert "\n" not in str(caught.value)
    assert not list(run_dir.path.glob("train/*"))
    assert not list(run_dir.path.glob("train/.*"))


class Interrupting(Progress):
    """Types Ctrl-C in the second step of training."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def task(self, description: str, total: int | None = None) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def interrupted() -> Any:
            steps = 0

            def advance(n: int = 1) -> None:
                nonlocal steps
                steps += n
                if description.startswith("training") and steps == 2:
                    raise KeyboardInterrupt

            yield advance

        return interrupted()


def test_an_interrupt_leaves_no_half_made_arm(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = make_plan(toy_model_dir)
    run_dir = prepared(plan, tmp_path)
    with pytest.raises(KeyboardInterrupt):  # one worker: beside it another arm could be whole before it hears
        train.run(run_dir, plan, Interrupting(), workers=1)
    assert not run_dir.file("train").exists()
    train.run(run_dir, plan, QUIET, only=["sft-inf"])
    assert run_dir.file("train/sft-inf/adapter/adapter_model.safetensors").is_file()


def test_the_ledger_is_written_before_the_weights(
    toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.models import adapter_files

    seen: list[bool] = []
    save = adapter_files.save_adapter

    def spy(model: Any, folder: Path, *rest: Any) -> None:
        seen.append((folder.parent / "privacy.json").is_file())
        save(model, folder, *rest)

    monkeypatch.setattr(adapter_files, "save_adapter", spy)
    plan = make_plan(toy_model_dir)
    train.run(prepared(plan, tmp_path), plan, QUIET, only=["sft-eps4"])
    assert seen == [True]


def test_a_guard_stops_the_arm(toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from dpaudit.training import dpsgd

    monkeypatch.setattr(
        dpsgd, "gaussian_noise", lambda layout, std, generator: torch.zeros(layout.coordinates)
    )
    plan = make_plan(toy_model_dir)
    run_dir = prepared(plan, tmp_path)
    with pytest.raises(GuardError, match="noise on"):
        train.run(run_dir, plan, QUIET, only=["sft-eps4"])
    assert not run_dir.file("train").exists()


def test_importing_the_stage_loads_no_torch() -> None:
    code = (
        "import sys, dpaudit.stages.train.train; sys.exit(any(m in sys.modules for m in ('torch', "
        "'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("slow", [True, False])
def test_a_slow_number_format_is_told_before_training(
    slow: bool, toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = StringIO()
    monkeypatch.setattr(train, "is_slow", lambda dtype: slow)
    plan = make_plan(toy_model_dir)
    said_to = Progress(console=Console(file=said, width=200))
    train.run(prepared(plan, tmp_path), plan, said_to, only=["sft-inf"], workers=1)
    assert ("--set model.dtype=float32" in said.getvalue()) == slow
