"""`dpaudit eval` on an adapter or a merged model that no run trained."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_evaluate import choice_rows
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.errors import UsageError
from dpaudit.suite.suite import Evaluation, Task
from dpaudit.system.progress import Progress

TASK = "medqa_us_file"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    file, keys = tmp_path / "items.jsonl", ("id", "question", "choices", "answer")
    file.write_text("".join(json.dumps({k: row[k] for k in keys}) + "\n" for row in choice_rows()))
    return file


def asked(*words: object) -> Any:
    return CliRunner().invoke(app, ["eval", *map(str, words)])


def test_an_adapter_is_asked_beside_its_base_and_a_merged_model_says_the_same(
    world: Path, merged: Path, toy_model_dir: Path, items: Path, tmp_path: Path
) -> None:
    task = ("--task", f"{TASK}={items}", "--set", "evaluation.limit=8")
    free = tmp_path / "free.jsonl"
    rows = ({"question": f"Which dose for fever {n}?", "answer": "500 mg."} for n in range(9))
    free.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = (*task, "--task", f"refusals_file={free}")
    done = asked("--adapter", world / "adapter", *task, "--out", tmp_path / "a", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "a/quality.json").read_text())
    name = str(world / "adapter")
    assert found["model"]["name"] == name and list(found["figures"]) == ["base", name]
    assert [row["items"] for rows in found["figures"].values() for row in rows] == [8, 8]
    assert {(row["arm"], row["against"]) for row in found["compared"]} == {(name, "base")}
    (refused,) = found["measures"][name]
    assert (refused["measure"], refused["items"], refused["left_out"]) == ("refusal", 8, 1)
    assert {(row["arm"], row["against"], row["word"]) for row in found["changes"]} == {
        (name, "base", "cannot tell")
    }
    assert "fever" not in json.dumps(found)
    margins = {model: [item[2] for item in of[TASK]] for model, of in found["items"].items()}
    assert margins["base"] != margins[name]
    done = asked("--model", merged, "--base", toy_model_dir, *task, "--out", tmp_path / "m")
    assert done.exit_code == 0, done.output
    assert "refusals_file: refusal" in done.output and "refusal (more is better)" in done.output
    assert "benchmark" in done.output and "cannot tell: " in done.output
    assert "cannot tell: p 1.000 after Holm's correction" in done.output  # of refusals
    whole = json.loads((tmp_path / "m/quality.json").read_text())
    assert [item[2] for item in whole["items"][str(merged)][TASK]] == pytest.approx(margins[name], abs=1e-3)
    other = asked("--model", merged, "--base", toy_model_dir, *task, "--out", tmp_path / "a")
    assert isinstance(other.exception, UsageError) and "no result of another model" in str(other.exception)
    written = (tmp_path / "a/quality.json").read_text()
    for words, lost in (
        (("--task", f"pubmedqa_file={pubmed(tmp_path)}"), f"got that of {TASK}, refusals_file"),
        (task[:4], "got that of refusals_file"),
        ((*task[:2], *task[4:]), "one of others, which would be lost"),
        ((*task, "--set", "evaluation.fewshot=1"), "one of others, which would be lost"),
    ):
        again = asked("--adapter", world / "adapter", *words, "--out", tmp_path / "a")
        assert isinstance(again.exception, UsageError) and lost in str(again.exception)
        assert (tmp_path / "a/quality.json").read_text() == written


def test_a_model_without_a_base_is_measured_alone_and_says_so(
    toy_model_dir: Path, items: Path, tmp_path: Path
) -> None:
    words = ("--model", toy_model_dir, "--task", f"{TASK}={items}", "--task", f"refusals_file={items}")
    done = asked(*words, "--out", tmp_path / "alone")
    assert done.exit_code == 0, done.output
    assert "note: nothing is compared, since no --base was named" in done.output
    assert "cannot tell" not in done.output and "or its base" not in done.output
    found = json.loads((tmp_path / "alone/quality.json").read_text())
    assert found["model"]["base"] is None and found["compared"] == found["changes"] == []
    assert list(found["figures"]) == list(found["measures"]) == [str(toy_model_dir)]
    fewer = asked(*words[:4], "--out", tmp_path / "alone")
    assert isinstance(fewer.exception, UsageError) and "got that of refusals_file" in str(fewer.exception)


def test_a_stopped_command_goes_on_at_the_item(
    world: Path, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the second model, then before the first has all answers."""
    from lm_eval.models.huggingface import HFLM

    from dpaudit.models import harness
    from dpaudit.stages import evaluate_outside
    from dpaudit.stages.audited import Audited

    evaluation = Evaluation((Task(TASK, str(items)),))
    request = evaluate_outside.Request(Audited(world / "adapter"), evaluation, tmp_path / "out")
    counts: list[int] = []
    ask, answer = HFLM.loglikelihood, harness.answer

    def counted(self: Any, requests: list, **options: Any) -> Any:
        counts.append(len(requests))
        return ask(self, requests, **options)

    def stopped(*arguments: Any) -> Any:
        if counts:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(HFLM, "loglikelihood", counted)
    monkeypatch.setattr(harness, "answer", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_outside.run(request, Progress(quiet=True))
    log = tmp_path / "out/.base.answers"
    assert counts == [48] and log.stat().st_mode & 0o077 == 0 and len(log.read_bytes().splitlines()) == 48
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:20]))
    monkeypatch.setattr(harness, "answer", answer)
    counts.clear()
    found = evaluate_outside.run(request, Progress(quiet=True))
    assert counts == [28, 48] and len(found.items["base"][TASK]) == 12
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["quality.json"]


def pubmed(folder: Path) -> Path:
    file = folder / "pubmed.jsonl"
    file.write_text('{"id": "a", "question": "Is it?", "context": "It was.", "answer": "maybe"}\n')
    return file


def test_a_slip_is_one_line_and_leaves_nothing(
    world: Path, toy_model_dir: Path, items: Path, tmp_path: Path
) -> None:
    adapter, out = ("--adapter", world / "adapter"), ("--out", tmp_path / "q")
    wrapped, bad = tmp_path / "arm", tmp_path / "bad.jsonl"
    wrapped.mkdir()
    (wrapped / "adapter").symlink_to(world / "adapter")
    bad.write_text(items.read_text().replace('"answer": ', '"answer": 7'))
    for words, told in (
        (adapter, "no --task"),
        ((*adapter, "--task", f"{TASK}={bad}"), "bad.jsonl:1: answer"),
        ((*adapter, "--task", f"{TASK}={tmp_path / 'none.jsonl'}"), "no such file"),
        ((*adapter, "--task", "clinic_choice=builtin:clinic"), "no such file"),
        ((*adapter, "--run", "x"), "a run, or a model trained elsewhere"),
        ((*adapter, "--task", f"{TASK}={items}", "--set", "model.base=x"), "a key of evaluation"),
        (
            ("--model", toy_model_dir, "--base", f"{toy_model_dir}/", "--task", f"{TASK}={items}"),
            "expected another model than --model, to compare it with, got the same; leave --base out",
        ),
        (("--adapter", wrapped, "--task", f"{TASK}={items}"), "got the folder above it; --adapter"),
        (
            (*adapter, "--base", "nosuchdir", "--task", f"{TASK}={items}"),
            "--base nosuchdir: expected a model",
        ),
        (
            ("--model", "nosuchdir", "--base", toy_model_dir, "--task", f"{TASK}={items}"),
            "--model nosuchdir: expected a model",
        ),
        (("--base", toy_model_dir), "--adapter or --model beside it"),
    ):
        done = asked(*words, *(out if words[0] != "--base" else ()))
        assert isinstance(done.exception, UsageError) or done.exit_code == 2, (words, done.output)
        assert told in f"{done.exception} {done.output}", (words, str(done.exception))
        assert not (tmp_path / "q").exists()
