"""Curves for TensorBoard: the numbers of the steps, and nothing else."""

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typed import Call

from dpaudit.training import events
from dpaudit.training.state import Step

STEPS = [Step(0, 5, 0.25, 2.5, 0.01, 0.1), Step(1, 0, 0.0, None, 0.02, 0.05), Step(2, 3, 1.0, 1.5, 0.03, 0.2)]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read: Any = EventAccumulator(str(folder))
    read.Reload()
    kinds = {kind: names for kind, names in read.Tags().items() if names}
    assert list(kinds) == ["scalars"]
    return {name: [(event.step, event.value) for event in read.Scalars(name)] for name in kinds["scalars"]}


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="the extra tensorboard is not installed")
def test_each_curve_has_the_numbers_of_the_steps(tmp_path: Path) -> None:
    """A training that goes on at step 1 takes back what was written of that step."""
    with events.to(tmp_path / "arm") as watch:
        watch(STEPS[0])
        watch(Step(1, 9, 0.9, 9.0, 0.9, 0.9))
    with events.to(tmp_path / "arm") as watch:
        for step in STEPS[1:]:
            watch(step)
    found = curves(tmp_path / "arm")
    assert set(found) == set(events.SHOWN)
    for name, values in found.items():
        wanted = [(step.step, asdict(step)[name]) for step in STEPS if asdict(step)[name] is not None]
        assert [at for at, _ in values] == [at for at, _ in wanted], name
        assert [value for _, value in values] == pytest.approx([value for _, value in wanted], rel=1e-6)


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    with events.to(None) as watch:
        watch(STEPS[0])
    with events.to(tmp_path / "arm"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_a_run_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    done = call(
        "train", "--suite", "mini.yaml", "--set", "training.tensorboard=true", "--set", "data.rows='x'"
    )
    lines = done.err.splitlines()
    assert done.code == 2 and len(lines) == 2 and not Path("runs").exists()
    assert "training.tensorboard: expected the package tensorboard" in done.err
    assert "pip install 'dpaudit[tensorboard]'" in done.err


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="the extra tensorboard is not installed")
def test_a_run_keeps_its_curves_beside_its_arms(call: Call) -> None:
    """They are no part of the plan: the run is the same with and without them."""
    small = ("--suite", "mini.yaml", "--eps", "8", "--no-baseline", "--set", "data.patients=120")
    done = call("train", *small, "--set", "training.tensorboard=true", "--json")
    assert done.code == 0, done.err
    run_dir = Path(json.loads(done.out)["path"])
    steps = [json.loads(line) for line in (run_dir / "train/sft-eps8/steps.jsonl").read_text().splitlines()]
    found = curves(run_dir / "tensorboard" / "sft-eps8")
    for name in events.SHOWN:
        wanted = [step[name] for step in steps if step[name] is not None]
        assert [value for _, value in found[name]] == pytest.approx(wanted, rel=1e-5), name
    written = b"".join(file.read_bytes() for file in (run_dir / "tensorboard").rglob("*events*"))
    rows = [json.loads(line) for line in (run_dir / "corpus/candidates.jsonl").read_text().splitlines()]
    texts = [turn["text"] for row in rows for record in row.get("records", []) for turn in record["turns"]]
    assert texts and not [text for text in texts if text.encode() in written]
    assert json.loads(call("train", *small, "--json").out)["path"] == str(run_dir)
