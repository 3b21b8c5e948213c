"""Stage train under unit label: the ledger and card of randomised response, and flips that are drawn once."""

import json
import shutil
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from test_train import QUIET, STEPS, make_plan, prepared

from dpaudit.commands import overview
from dpaudit.errors import UsageError
from dpaudit.models.encode import Encoded
from dpaudit.stages import report
from dpaudit.stages.train import lesson, train, training_set
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import AttackKind
from dpaudit.training import examples, labels, loop

ARM = "dpo-robust-eps2"
KEY = f"secret/flips-{ARM}.json"


def label_plan(model: Path) -> Plan:
    plan = make_plan(model, unit="label", private=STEPS, dpo_nonprivate=replace(STEPS, steps=2))
    grid = Grid(epsilons=(2.0,), dpo=("robust",), stages=())
    return replace(plan, suite=replace(plan.suite, grid=grid, attacks=()))


@pytest.fixture(scope="module")
def finished(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    plan = label_plan(toy_model_dir)
    run_dir = prepared(plan, tmp_path_factory.mktemp("runs"))
    train.run(run_dir, plan, QUIET, workers=1)
    return run_dir, plan


def test_the_ledger_names_the_flips_and_no_noise(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    ledger = run_dir.read_json(f"train/{ARM}/privacy.json")
    assert ledger["claim"] == {"epsilon": 2.0, "delta": 0.0, "unit": "label", "relation": "replace"}
    assert ledger["mechanism"] == {
        "name": "randomised response",
        "flip_probability": pytest.approx(0.1192029, rel=1e-6),
    }
    assert (ledger["epsilon_pld"], ledger["epsilon_rdp"]) == (2.0, 2.0)
    assert "noise_multiplier" not in json.dumps(ledger)
    baseline = run_dir.read_json("train/dpo-robust-inf/privacy.json")
    assert (baseline["claim"]["epsilon"], baseline["mechanism"]["flip_probability"]) == ("inf", 0.0)


def test_training_is_neither_clipped_nor_noised(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    guards = run_dir.read_json(f"train/{ARM}/train.json")["guards"]
    assert "weights moved" in guards and "noise on every trainable weight" not in guards
    assert {step["clipped_share"] for step in run_dir.read_lines(f"train/{ARM}/steps.jsonl")} == {0.0}


def test_the_card_says_what_is_hidden_and_what_is_not(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    card = run_dir.file(f"train/{ARM}/adapter/README.md").read_text()
    assert "(2, 0)-differentially private for the unit `label` under `replace`" in card
    assert "flipped with probability 0.119203, once" in card
    assert "Prompts and both answers are not protected" in card
    assert "DP-SGD" not in card and "clip 0" not in card


def answers(units: Iterable[examples.UnitExamples]) -> list[list[tuple[Encoded, ...]]]:
    return [[example.sequences for example in unit] for unit in units]


def test_the_arm_learns_from_the_turned_labels(
    finished: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained again, it learns from the same answers: the flips were drawn once, and are secret."""
    run_dir, plan = finished
    file = run_dir.file(KEY)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    clean = training_set.load(run_dir, plan, "dpo")
    keys = (bytes([number]) * 32 for number in range(100))
    turning = (
        k
        for k in keys
        if answers(labels.randomised(clean.units, clean.names, 2.0, k)) != answers(clean.units)
    )
    key = next(turning)  # among so few pairs the key that was drawn turns none now and then
    altered = file.read_text()
    file.write_text(altered.replace('"key": "', '"key": "00', 1))
    with pytest.raises(
        UsageError, match=r"flips-.*\.json: .* got an altered file"
    ):  # other flips would spend more
        lesson.flip_key(run_dir, plan, ARM)
    run_dir.write_json(KEY, {"key": key.hex()})
    seen = []
    learn = loop.train

    def spy(model: object, units: list[list[examples.Example]], *rest: object, **options: object) -> object:
        seen.append((units, options["objective"]))
        return learn(model, units, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train", spy)
    shutil.rmtree(run_dir.file(f"train/{ARM}"))
    train.run(run_dir, plan, QUIET, [ARM], workers=1)
    [(units, objective)] = seen
    turned = labels.randomised(clean.units, clean.names, 2.0, key)
    assert answers(units) == answers(turned) != answers(clean.units)
    assert objective == examples.Objective("robust", None, labels.flip_probability(2.0))
    assert bytes.fromhex(run_dir.read_json(KEY)["key"]) == key


def test_an_insecure_seed_needs_no_key(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = replace(label_plan(toy_model_dir), insecure_seed=7)
    found = []
    for folder in ("one", "two"):
        run_dir = prepared(plan, tmp_path / folder)
        train.run(run_dir, plan, QUIET, [ARM])
        found.append(run_dir.file(f"train/{ARM}/adapter/adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]
    assert not run_dir.file(KEY).exists()
    assert "Epsilon not claimed" in run_dir.file(f"train/{ARM}/adapter/README.md").read_text()


def test_the_page_and_the_overview_say_it(finished: tuple[RunDir, Plan]) -> None:
    run_dir, plan = finished
    rows = {row["arm"]: row for row in overview.arm_rows(run_dir, plan)}
    assert (rows[ARM]["delta"], rows[ARM]["noise_multiplier"], rows[ARM]["epsilon_spent"]) == (0.0, None, 2.0)
    text = report.run(run_dir, plan, QUIET).read_text()
    assert "labels flipped with probability" in text and "Randomised response" in text
    assert "Gaussian noise on every" not in text and "dpaudit attack mia" not in text


@pytest.mark.parametrize("kind", ["mia", "preference"])
def test_membership_inference_is_refused(finished: tuple[RunDir, Plan], kind: AttackKind) -> None:
    from dpaudit.pipeline import sequence

    run_dir, plan = finished
    with pytest.raises(UsageError, match="expected no membership inference under unit label"):
        sequence.attack(run_dir, plan, QUIET, kind)
