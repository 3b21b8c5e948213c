"""Stage evaluate on tasks with free answers: their measures, and going on after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fabricate
import pytest
from test_evaluate import QUIET, adapters, later, make_run  # noqa: F401

from dpaudit.errors import UsageError
from dpaudit.findings.contamination import Contamination
from dpaudit.findings.quality import Comparisons, Measured
from dpaudit.models import harness
from dpaudit.stages import benchmarks, evaluate, outputs, tries
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Task
from dpaudit.system.progress import Progress

COMPARED = ("sft-inf", "sft-eps8")
DIALOGUES = [
    {
        "id": f"d{n}",
        "conversations": [
            {"from": "human", "value": f"Which dose of paracetamol for fever {n}?"},
            {"from": "gpt", "value": f"Take paracetamol 500 mg. Do not take more than {n + 2} a day."},
        ],
    }
    for n in range(8)
]
SHORT = """
task: short_answer
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: answer
generation_kwargs: {until: ["."], do_sample: false, max_gen_toks: 4}
num_fewshot: 0
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""


def own_tasks(folder: Path) -> tuple[Task, ...]:
    """The tasks for free answers, with answers of a few tokens, and one of the user's own."""
    there = folder / "suites/tasks"
    there.mkdir(parents=True)
    for name in ("free_answers_file", "refusals_file"):
        text = Path("suites/tasks", f"{name}.yaml").read_text()
        (there / f"{name}.yaml").write_text(text.replace("128", "8").replace("64", "8"))
    (there / "short_answer.yaml").write_text(SHORT)
    dialogues, short = folder / "dialogues.jsonl", folder / "short.jsonl"
    dialogues.write_text("".join(json.dumps(row) + "\n" for row in DIALOGUES))
    short.write_text("".join(json.dumps({"question": f"Q{n}?", "answer": f"A{n}"}) + "\n" for n in range(6)))
    return (
        Task("free_answers_file", str(dialogues)),
        Task("refusals_file", str(dialogues)),
        Task("short_answer", str(short)),
    )


@pytest.fixture(scope="module")
def evaluated(
    toy_model_dir: Path,
    adapters: dict[str, Path],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunDir, Plan]:
    folder = tmp_path_factory.mktemp("kinds")
    arms = {name: adapters[name] for name in COMPARED}
    run_dir, plan = make_run(folder, toy_model_dir, arms, own_tasks(folder))
    before, load = Path.cwd(), harness.load_tasks
    loads: list[set[str]] = []

    def counted(specs: dict, *rest: Path) -> dict:
        loads.append(set(specs))
        return load(specs, *rest)

    os.chdir(folder)
    harness.load_tasks = counted  # type: ignore[assignment]
    try:
        evaluate.run(run_dir, plan, QUIET)
    finally:
        harness.load_tasks = load
        os.chdir(before)
    assert loads == [{"free_answers_file", "refusals_file", "short_answer"}]  # once, for all that need them
    return run_dir, plan


def test_free_answers_are_measured_item_by_item_and_compared(evaluated: tuple[RunDir, Plan]) -> None:
    run_dir, _ = evaluated
    measured = {name: Measured.read(run_dir, f"evaluate/{name}.json") for name in ("base", *COMPARED)}
    figures = {
        row.measure: row for row in measured["base"].quality.measures if row.task == "free_answers_file"
    }
    invented = [figures.pop("drug_invented"), figures.pop("dose_invented")]
    assert {(row.items, row.left_out, row.alone) for row in invented} == {(0, 8, "every reference has it")}
    assert list(figures) == ["rouge_l", "drug", "dose", "warning", "number"]
    assert all((row.items, row.left_out, row.alone) == (8, 0, None) for row in figures.values())
    (refusal,) = (row for row in measured["base"].quality.measures if row.task == "refusals_file")
    assert (refusal.measure, refusal.value, refusal.lower) == ("refusal", 0.0, 0.0)
    assert refusal.upper is not None and 0.2 < refusal.upper < 0.5  # none of eight
    (accuracy,) = measured["base"].quality.tasks
    assert (
        accuracy.task == "short_answer"
        and accuracy.log_odds is None
        and accuracy.chance == pytest.approx(1 / 6)
    )
    summary = Comparisons.read(run_dir, "evaluate/summary.json")
    assert {(row.task, row.measure) for row in summary.measures} == {
        *(("free_answers_file", name) for name in figures),
        ("refusals_file", "refusal"),
    }
    for row in summary.measures:
        ours, theirs = (
            [score.value for score in measured[name].scores[row.task][row.measure]]
            for name in (row.arm, row.against)
        )
        assert row.difference == pytest.approx(sum(ours) / 8 - sum(theirs) / 8)
        assert row.lower <= row.difference <= row.upper and row.p_holm >= row.p_value
    assert {row.task for row in summary.pairs if row.measure == "accuracy"} == {"short_answer"}
    assert not [row for row in summary.pairs if row.measure == "log_odds"]
    found = Contamination.read(run_dir, "evaluate/contamination.json").tasks
    assert [(task.task, task.items) for task in found] == [
        ("free_answers_file", 8), ("refusals_file", 8), ("short_answer", 6),
    ]  # fmt: skip


def test_no_answer_is_left_in_the_run(evaluated: tuple[RunDir, Plan]) -> None:
    run_dir, _ = evaluated
    assert {path.suffix for path in run_dir.file("evaluate").iterdir()} == {".json"}
    written = "".join(path.read_text() for path in run_dir.file("evaluate").glob("*.json"))
    assert "paracetamol" not in written and "Which dose" not in written


def test_what_was_measured_of_free_answers_stays_whatever_is_asked_for_later(
    evaluated: tuple[RunDir, Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another list of tasks, a smaller limit, another prompt, and a file that is gone."""
    first, plan = evaluated
    monkeypatch.chdir(first.path.parent)
    shutil.copytree(first.path, tmp_path / "run")
    run_dir, (free, refusals, short) = RunDir(tmp_path / "run"), plan.suite.evaluation.tasks
    before = Measured.read(run_dir, "evaluate/sft-inf.json")

    def asked(**changed: object) -> tuple[Measured, str]:
        evaluate.run(run_dir, later(run_dir, declarations.plan_of(run_dir), **changed), Progress())
        return Measured.read(run_dir, "evaluate/sft-inf.json"), capsys.readouterr().err

    alone = [{"name": short.name, "data": short.data}]
    found, told = asked(tasks=alone, limit=3)
    assert sorted(found.quality.measures, key=str) == sorted(before.quality.measures, key=str)
    assert (found.items, found.scores) == (before.items, before.scores)
    assert "kept: free_answers_file, which" in told and "kept: short_answer was asked with all" in told
    found, told = asked(tasks=[{"name": refusals.name, "data": refusals.data}], chat_template=False, limit=3)
    (refused,) = (row for row in found.quality.measures if row.task == "refusals_file")
    assert (refused.items, refused.left_out) == (3, 5) and len(found.items["short_answer"]) == 6
    assert "refusals_file was measured 2 times" in told and "short_answer was" not in told
    tried = {one.task: one for one in tries.counted(tries.of(run_dir))}
    assert {task: one.times for task, one in tried.items()} == {
        "free_answers_file": 1, "refusals_file": 2, "short_answer": 1,
    }  # fmt: skip
    (earlier,) = tried["refusals_file"].earlier
    assert earlier.figures == {} and earlier.measures["sft-inf"][0].items == 8
    gone = Path(str(free.data))
    gone.rename(tmp_path / "kept.jsonl")
    try:
        found, told = asked()
    finally:
        (tmp_path / "kept.jsonl").rename(gone)
    assert "skipped: evaluation.tasks: free_answers_file" in told
    assert {row.task for row in found.quality.measures} == {"free_answers_file", "refusals_file"}
    compared = Comparisons.read(run_dir, "evaluate/summary.json").measures
    assert {row.task for row in compared} == set()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (['{"id": "a", "prompt": "q", "chosen": "c", "rejected": "r"}'], "got a preference pair"),
        ([json.dumps(DIALOGUES[0]), json.dumps(DIALOGUES[0])], "2: id: expected an id that occurs once"),
        (['{"id": "a", "text": "Only text."}'], "a row without question and answer"),
    ],
)
def test_rows_that_are_no_questions_are_refused_before_training(
    rows: list[str], told: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows) + "\n")
    with pytest.raises(UsageError) as caught:
        benchmarks.check_tasks([Task("free_answers_file", str(file))])
    assert told in str(caught.value) and "Only text" not in str(caught.value)


def test_an_unknown_measure_is_refused_with_those_that_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = own_tasks(tmp_path)
    file = tmp_path / "suites/tasks/refusals_file.yaml"
    file.write_text(file.read_text().replace("[refusal]", "[politeness]"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UsageError, match=r"metadata\.measures: expected names among rouge_l, .* got politeness"
    ):
        benchmarks.check_tasks(tasks)


@pytest.mark.slow
def test_a_killed_command_goes_on_with_the_items_that_were_not_answered(
    toy_model_dir: Path,
    adapters: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    """SIGKILL in the middle of the first task of the first model: what was answered is not asked again."""
    tasks = own_tasks(tmp_path)
    slow = tmp_path / "suites/tasks/short_answer.yaml"
    slow.write_text(SHORT.replace("max_gen_toks: 4", "max_gen_toks: 60").replace('["."]', "[]"))
    rows = [{"question": f"Q{n}?", "answer": f"A{n}"} for n in range(160)]
    Path(str(tasks[2].data)).write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_dir, _ = make_run(tmp_path / "runs", toy_model_dir, {"sft-inf": adapters["sft-inf"]}, tasks[2:])
    log = run_dir.file("evaluate/.base.answers")
    command = [sys.executable, "-m", "dpaudit", "eval", "--run", run_dir.name]
    started = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while (not log.is_file() or log.read_bytes().count(b"\n") < 8) and time.monotonic() < until:
        assert started.poll() is None, started.stderr.read() if started.stderr else ""
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    kept = log.read_bytes().split(b"\n")[:-1]
    assert 8 <= len(kept) < 160 and not run_dir.file("evaluate/base.json").exists()
    assert log.stat().st_mode & 0o077 == 0
    assert outputs.results(run_dir) == ["evaluate/tasks.json"]  # readers of results pass it by
    asked = asked_in(tmp_path, run_dir)
    assert asked == [160 - len(kept), 160, 160]  # the base, the arm, and half of the arm
    base = Measured.read(run_dir, "evaluate/base.json")
    assert len(base.items["short_answer"]) == 160 and not log.exists()


def asked_in(folder: Path, run_dir: RunDir) -> list[int]:
    """Goes on in this process; how many answers each model was asked for."""
    from lm_eval.models.huggingface import HFLM

    asked: list[int] = []
    generate = HFLM.generate_until

    def counted(self: object, requests: list, **options: object) -> list:
        asked.append(len(requests))
        return generate(self, requests, **options)  # type: ignore[arg-type]

    before = Path.cwd()
    os.chdir(folder)
    HFLM.generate_until = counted  # type: ignore[method-assign,assignment]
    try:
        plan = fabricate.declarations.plan_of(run_dir)
        evaluate.run(run_dir, plan, QUIET)
    finally:
        HFLM.generate_until = generate  # type: ignore[method-assign]
        os.chdir(before)
    return asked
