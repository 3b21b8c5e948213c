"""Stage evaluate: benchmarks and held-out bits per byte of the base and every trained arm, and arms compared
in pairs.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit import content
from dpaudit.data import choices
from dpaudit.data.corpus import Record
from dpaudit.errors import Gathering, UsageError
from dpaudit.judging import quality
from dpaudit.judging.quality import BASE, HeldOut, Item
from dpaudit.stages.integrity import custody, weights
from dpaudit.storage.rundir import RunDir, alone, missing
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Task, path_or_builtin
from dpaudit.system.progress import Advance, Progress

if TYPE_CHECKING:
    from dpaudit.models.harness import Answers
    from dpaudit.models.hf import HFModel

TASKS = "evaluate/tasks.json"
SUMMARY = "evaluate/summary.json"
SETTINGS = declarations.input_of("evaluation")


@alone("evaluate")
def run(run_dir: RunDir, plan: Plan, progress: Progress) -> None:
    """Writes evaluate/ARM.json for the base and every trained arm, and evaluate/summary.json.

    Outputs hold ids and numbers, never a text. A task whose items are not there is left out with a line.
    Raises UsageError where no arm is trained.
    """
    trained = require_ready(run_dir, plan)
    files = _write_tasks(run_dir, plan, progress)
    names = [BASE, *(arm.name for arm in trained)]
    base = weights.of_base(plan.suite.model.base)
    pending = [name for name in names if not _is_current(run_dir, name, base)]
    if pending:
        with run_dir.read_now(dict.fromkeys(file for name in pending for file in _weights(name))):
            _evaluate(run_dir, plan, pending, files, base, progress)
    _mark_uninformative(run_dir, trained)
    made_from = [*map(_output, names), SETTINGS]
    if not run_dir.is_current(SUMMARY, made_from):
        run_dir.write_json(SUMMARY, _summary(run_dir, plan, trained), made_from)


def require_ready(run_dir: RunDir, plan: Plan) -> list[Arm]:
    """The trained arms. Raises UsageError where there is none, or where a file of the run or the base is
    another one.
    """
    trained = trained_arms(run_dir, plan)
    custody.require(run_dir, plan)
    weights.require_base(run_dir, plan)
    return trained


def trained_arms(run_dir: RunDir, plan: Plan) -> list[Arm]:
    """The arms of the plan whose adapters exist. Raises UsageError where there is none."""
    planned = plan.suite.grid.arms
    trained = [arm for arm in planned if run_dir.file(adapter_file(arm.name)).is_file()]
    if not trained:
        raise missing(run_dir.file(adapter_file(planned[0].name) if planned else "train"))
    return trained


def adapter_file(arm: str) -> str:
    return f"train/{arm}/adapter/adapter_model.safetensors"


def inputs(name: str) -> list[str]:
    """What evaluate/NAME.json is made from. The manifest holds keyed digests of the private files."""
    return [*_weights(name), SETTINGS, TASKS]


def _weights(name: str) -> list[str]:
    return ["plan.json", "corpus/manifest.json", *([] if name == BASE else [adapter_file(name)])]


def _is_current(run_dir: RunDir, name: str, base: dict[str, str]) -> bool:
    """Whether a model's figures are there and of these weights of the base."""
    if not run_dir.is_current(_output(name), inputs(name)):
        return False
    return bool(run_dir.read_json(_output(name)).get("base", base) == base)


def load_model(run_dir: RunDir, plan: Plan, names: Sequence[str]) -> "HFModel":
    """The base of the plan, loaded once, with the adapters of the named arms beside it."""
    from dpaudit.models.hf import HFModel

    model = HFModel.as_trained(plan.suite.model)
    for name in names:
        if name != BASE:
            model.add_adapter(name, run_dir.file(adapter_file(name)).parent)
    return model


def heldout_bits(model: "HFModel", records: Sequence[Record], max_length: int) -> list[HeldOut]:
    """Bits over the answer tokens (closing tokens included) and bytes of the answers, record by record.

    A record of which no answer fits into `max_length` tokens has no bytes to divide by and is left out.
    """
    import numpy as np

    from dpaudit.models.encode import counted_mask, encode

    encoded = [encode(record.turns, model.tokenizer, max_length) for record in records]
    scores = model.token_scores(encoded, counted=[counted_mask(item.answer_mask) for item in encoded])
    rows = []
    for record, item, score in zip(records, encoded, scores, strict=True):
        nats = -score.logprob[np.array(item.answer_mask)].astype(np.float64).sum()
        if item.answer_bytes:
            rows.append(HeldOut(record.id, float(nats) / math.log(2), item.answer_bytes))
    return rows


def check_tasks(tasks: Sequence[Task], are_known: bool = False) -> None:
    """Raises UsageError, or Mistakes, where a task is not one of ours, names no file that is there, or has
    items that do not fit.

    Items of builtin:clinic pass: they are made with the corpus, and left out with a line where the data are
    others. `are_known` asks lm-eval too, which takes seconds, whether it knows the others.
    """
    told, known = Gathering(), content.listing("suites/tasks")
    for task in tasks:
        told.passes(_check_task, task)
    others = [task.name for task in tasks if task.name not in known and task.data is None]
    if are_known and others:
        from dpaudit.models import harness

        told.passes(harness.check_known, others)
    told.end()


def _check_task(task: Task) -> None:
    """Raises UsageError, or Mistakes, for a task on a file that is not there or has items that do not fit."""
    if _is_ours(task) and not _wants_clinic(task):
        choices.check(_own_file(task), content.load_yaml(content.listing("suites/tasks")[task.name]))


def _write_tasks(run_dir: RunDir, plan: Plan, progress: Progress) -> dict[str, Path]:
    """Writes what the benchmarks are (configuration, digest of the data) and returns each task's data file.

    A task whose items are not there is left out, and the reason kept: adapters that took hours wait for no
    file.
    """
    known = content.listing("suites/tasks")
    files: dict[str, Path] = {}
    described: dict[str, Any] = {}
    skipped: list[dict[str, str]] = []
    for task in plan.suite.evaluation.tasks:
        own = _is_ours(task)
        try:
            if own:
                files[task.name] = _data_file(run_dir, plan, task)
        except UsageError as error:
            progress.say(f"left out: {error}")
            skipped.append({"task": task.name, "expected": error.expected, "got": error.got})
            continue
        described[task.name] = {
            "config": content.load_yaml(known[task.name]) if own else None,
            "data": hashlib.sha256(files[task.name].read_bytes()).hexdigest()[:32] if own else None,
            "lm-eval": version("lm-eval"),
            "limit": plan.suite.evaluation.limit,
        }
    run_dir.write_json(TASKS, {"tasks": described, "skipped": skipped})
    return files


def _is_ours(task: Task) -> bool:
    """Whether the task is a YAML of suites/tasks/, which needs a file. Raises UsageError for data that nobody
    reads.
    """
    known = content.listing("suites/tasks")
    if task.name not in known and task.data is not None:
        raise UsageError(
            f"evaluation.tasks: {task.name}",
            f"one of {', '.join(sorted(known))} with data",
            "a task that brings its own",
            "remove `data` or name a YAML of suites/tasks/",
        )
    return task.name in known


def _wants_clinic(task: Task) -> bool:
    return task.data is not None and path_or_builtin(task.data) is None


def _data_file(run_dir: RunDir, plan: Plan, task: Task) -> Path:
    if not _wants_clinic(task):
        _check_task(task)
        return _own_file(task)
    path = run_dir.file("corpus/choices.jsonl")
    if not path.is_file() or not path.stat().st_size:
        raise UsageError(
            f"evaluation.tasks: {task.name}",
            "its items, which are made with builtin:clinic",
            "a run on other data",
            "name a file of items in a new run, or leave it so",
        )
    return path


def _own_file(task: Task) -> Path:
    where = f"evaluation.tasks: {task.name}: data"
    if task.data is None:
        raise UsageError(
            where,
            "the file that holds its items",
            "no value",
            "add `data: FILE.jsonl`, or builtin:clinic for clinic_choice",
        )
    path = Path(task.data)
    if not path.is_file() or not path.stat().st_size:
        got = "an empty file" if path.is_file() else "a folder" if path.is_dir() else "no such file"
        way = "name the file itself" if path.is_dir() else f"put them at {path}"
        raise UsageError(
            where,
            f"a JSONL file with the items of {task.name}",
            got,
            f"{way}, or leave the task out: --set 'evaluation.tasks=[]'",
        )
    return path


def _evaluate(
    run_dir: RunDir,
    plan: Plan,
    names: Sequence[str],
    files: Mapping[str, Path],
    base: dict[str, str],
    progress: Progress,
) -> None:
    """Writes the figures of the named models. What the same weights were already asked in the same way is
    kept.
    """
    described = run_dir.read_json(TASKS)["tasks"]
    asked = {task: _digest(row) for task, row in described.items()}
    known = {name: _known(run_dir, name, base) for name in names}
    wanted = {
        name: [task for task in asked if known[name].get("asked", {}).get(task) != asked[task]]
        for name in names
    }
    open_names = [name for name in names if wanted[name] or not known[name]]
    records = _heldout(run_dir)
    for name in names:
        if name not in open_names:
            _write(run_dir, name, asked, known[name], base)
    if not open_names:
        return
    specs = {task: described[task]["config"] for task in asked if any(task in wanted[name] for name in names)}
    steps = sum(len(wanted[name]) + 1 for name in open_names)
    with (
        run_dir.work_folder("evaluate/cache") as cache,
        progress.task("evaluating", steps) as advance,
    ):
        model = load_model(run_dir, plan, open_names)
        ask = _asker(model, specs, files, cache, plan, advance)
        for name in open_names:
            with model.active(None if name == BASE else name):
                answers = ask(wanted[name])
                rows = _heldout_rows(known[name]) or heldout_bits(model, records, plan.suite.model.max_length)
            advance()
            now = {
                "tasks": {t: quality.accuracy_figures(a.items, a.chance) for t, a in answers.items()},
                "items": {task: found.items for task, found in answers.items()},
                "bits_per_byte": quality.bits_figures(rows, _clusters(records)),
                "heldout_left_out": len(records) - len(rows),
                "heldout": rows,
            }
            _write(run_dir, name, asked, _together(known[name], now), base)


def _digest(described: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _known(run_dir: RunDir, name: str, base: dict[str, str]) -> dict[str, Any]:
    """What evaluate/NAME.json tells of the very weights that are there now, whatever it was asked; empty
    where there is none.
    """
    if not run_dir.file(_output(name)).is_file():
        return {}
    found = run_dir.read_json(_output(name))
    same = all(found["inputs"].get(file) == run_dir.digest(file) for file in _weights(name))
    return found if same and found.get("base") == base else {}


def _heldout_rows(known: dict[str, Any]) -> list[HeldOut]:
    return [HeldOut(*row) for row in known.get("heldout", ())]


def _together(known: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What is known of a model with what it answered now, which goes before."""
    return now | {key: known.get(key, {}) | now[key] for key in ("tasks", "items")}


def _write(
    run_dir: RunDir, name: str, asked: Mapping[str, str], found: dict[str, Any], base: dict[str, str]
) -> None:
    """Writes a model's figures: of the tasks that are asked for, and of them alone."""
    result = {
        "arm": name,
        "tasks": {task: found["tasks"][task] for task in asked},
        "bits_per_byte": found["bits_per_byte"],
        "heldout_left_out": found["heldout_left_out"],
        "items": {task: found["items"][task] for task in asked},
        "heldout": found["heldout"],
        "base": base,
        "asked": dict(asked),
    }
    run_dir.write_json(_output(name), result, inputs(name))


def _asker(
    model: "HFModel",
    specs: Mapping[str, Any],
    files: Mapping[str, Path],
    cache: Path,
    plan: Plan,
    advance: Advance,
) -> "Callable[[Sequence[str]], dict[str, Answers]]":
    """A function that has the active model answer named tasks; lm-eval is not even imported where there is
    none.
    """
    if not specs:
        return lambda _: {}
    from dpaudit.models import harness

    tasks = harness.load_tasks(specs, files, cache)
    lm = harness.harness_model(model, plan.suite.evaluation.batch)

    def ask(names: Sequence[str]) -> dict[str, harness.Answers]:
        answers = {}
        for name in names:
            answers[name] = harness.answer(lm, name, tasks[name], plan.suite.evaluation.limit)
            advance()
        return answers

    return ask


def _mark_uninformative(run_dir: RunDir, trained: Sequence[Arm]) -> None:
    """Sets each task's "uninformative": neither the base nor a non-private arm (else any arm) is above
    chance.

    A house formulary is at chance for the base and far above it for an arm that learned it, and says much.
    """
    results = {name: run_dir.read_json(_output(name)) for name in (BASE, *(arm.name for arm in trained))}
    learned = [arm for arm in trained if not arm.private] or trained
    telling = [results[name]["tasks"] for name in (BASE, *(arm.name for arm in learned))]
    for name, result in results.items():
        decided = {
            task: not any(tasks[task]["above_chance"] for tasks in telling) for task in result["tasks"]
        }
        if any(result["tasks"][task]["uninformative"] != flag for task, flag in decided.items()):
            for task, flag in decided.items():
                result["tasks"][task]["uninformative"] = flag
            run_dir.write_json(_output(name), result, inputs(name))


def _summary(run_dir: RunDir, plan: Plan, trained: Sequence[Arm]) -> dict[str, Any]:
    results = {name: run_dir.read_json(_output(name)) for name in (BASE, *(arm.name for arm in trained))}
    heldout = {name: [HeldOut(*row) for row in result["heldout"]] for name, result in results.items()}
    pairs, ladders = quality.references(trained), quality.ladders(trained)
    margin = plan.suite.evaluation.margin
    compared: list[dict[str, Any]] = []
    trends: list[dict[str, Any]] = []
    for task, figures in results[BASE]["tasks"].items():
        answers = {name: [Item(*row) for row in result["items"][task]] for name, result in results.items()}
        compared += quality.task_pairs(task, answers, pairs, margin, figures["uninformative"])
        for ladder in ladders:
            trends += quality.task_trends(task, answers, ladder)
    if heldout[BASE]:
        clusters = _clusters(_heldout(run_dir))
        compared += quality.bits_pairs(heldout, pairs, clusters)
        for ladder in ladders:
            trends += quality.bits_trends(heldout, ladder, clusters)
    return {"margin": margin, "confidence": quality.CONFIDENCE, "pairs": compared, "trend": trends}


def _heldout(run_dir: RunDir) -> list[Record]:
    return [Record.from_json(row) for row in run_dir.read_lines("corpus/heldout.jsonl")]


def _clusters(records: Sequence[Record]) -> dict[str, str]:
    return {record.id: record.patient or record.id for record in records}


def _output(name: str) -> str:
    return f"evaluate/{name}.json"
