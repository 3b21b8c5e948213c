"""The benchmarks that a suite names: whether each can be asked, and how it is asked."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpaudit import content
from dpaudit.data import choices, free_answers, reading
from dpaudit.data.shared_keys import is_shared, named_keys, shared_of, unused
from dpaudit.errors import Gathering, UsageError
from dpaudit.findings.finding import format_of
from dpaudit.findings.quality import BASE, Asking, Measured, Skipped, TaskAsked, TasksAsked
from dpaudit.judging import free
from dpaudit.storage import exclusive
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Evaluation, Task, path_or_builtin
from dpaudit.system.progress import Progress

TASKS = "evaluate/tasks.json"
Loaded = Callable[[], dict[str, Any]]  # as `read_once` gives it


def check_tasks(tasks: Sequence[Task]) -> None:
    """Raises UsageError, or Mistakes, where a task is neither one of ours nor one of lm-eval's, names no file
    that is there, or has items that do not fit.

    Items of builtin:clinic pass: they are made with the corpus, and left out with a line where the data are
    others. Those of lm-eval's own tasks are for `check_items`.
    """
    mistakes, known = Gathering(), content.listing("suites/tasks")
    for task in tasks:
        mistakes.passes(_check_task, task)
    others = [task.name for task in tasks if task.name not in known and task.data is None]
    if others:
        from dpaudit.models import known_tasks

        for name in others:
            mistakes.passes(known_tasks.file_of, name, sorted(known))
    mistakes.end()


def check_lengths(tasks: Sequence[Task], window: int) -> None:
    """Raises UsageError, or Mistakes, where answers to items of a file may be as long as a model's window."""
    from dpaudit.models import harness

    mistakes, known = Gathering(), content.listing("suites/tasks")
    for config in (content.load_yaml(known[task.name]) for task in tasks if task.name in known):
        written = config["task"], config["output_type"], config.get("generation_kwargs"), window
        mistakes.passes(harness.check_answers, *written)
    mistakes.end()


def check_items(evaluation: Evaluation, tasks: Sequence[Task], is_training_next: bool = False) -> None:
    """Raises UsageError or PartialError, before a model is loaded or trained, where the items of a task of
    lm-eval's own cannot be had or lack a field, and where a task has fewer worked examples than asked for.
    Items may be fetched for that.
    """
    known = content.listing("suites/tasks")
    hows = {task.name: asking(evaluation, task) for task in tasks}
    specs: dict[str, dict[str, Any] | None] = {task.name: None for task in tasks if task.name not in known}
    files = {
        task.name: _own_file(task)
        for task in tasks
        if task.name in known and hows[task.name].fewshot and not _wants_clinic(task)
    }
    specs |= {name: content.load_yaml(known[name]) for name in files}
    if not specs:
        return
    from dpaudit.models import fewshot, harness

    with exclusive.scratch() as cache:
        loaded = harness.load_tasks(
            specs, prepared(specs, files, cache), cache, files, sorted(known), is_training_next
        )
        for name, task in loaded.items():
            fewshot.set_examples(name, task, hows[name].fewshot)


def of_lm_eval(tasks: Sequence[Task]) -> list[str]:
    """The names of the tasks whose items are lm-eval's to fetch."""
    known = content.listing("suites/tasks")
    return [task.name for task in tasks if task.name not in known]


def _check_task(task: Task) -> None:
    """Raises UsageError, or Mistakes, for a task on a file that is not there or has items that do not fit."""
    if not _is_ours(task):
        return
    config = content.load_yaml(content.listing("suites/tasks")[task.name])
    _check_measures(task.name, config)
    if _wants_clinic(task):
        return
    file = _own_file(task)
    if _are_dialogues(config):
        deque(free_answers.items(str(file)), maxlen=0)
    else:
        choices.check(file, config)


def _check_measures(name: str, config: Mapping[str, Any]) -> None:
    """Raises UsageError for a measure of free answers that is not known."""
    for measure in _metadata(config).get("measures", ()):
        if measure not in free.MEASURES:
            raise UsageError(
                f"suites/tasks/{name}.yaml: metadata.measures",
                f"names among {', '.join(free.MEASURES)}",
                f"{measure!s:.40}",
            )


def _are_dialogues(config: Mapping[str, Any]) -> bool:
    """Whether a task's file holds dialogues, or questions and answers, in any shape."""
    return bool(_metadata(config).get("form") == "dialogues")


def _metadata(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("metadata") or {}


def write_tasks(run_dir: RunDir, plan: Plan, progress: Progress) -> dict[str, Path]:
    """Writes what the benchmarks are (configuration, digest of the data) and returns each task's data file.

    A task whose items are not there is left out, and the reason kept: adapters that took hours wait for no
    file. What was measured before stays: a task that is not asked for any more, and the items beyond a
    smaller limit.
    """
    files: dict[str, Path] = {}
    asked: dict[str, TaskAsked] = {}
    skipped: list[Skipped] = []
    before = _measured_before(run_dir)
    for task in (*plan.suite.evaluation.tasks, *_staying(run_dir, plan, before)):
        try:
            file = _data_file(run_dir, plan, task) if _is_ours(task) else None
            how = _with_earlier(
                task, _asked(task, file, asking(plan.suite.evaluation, task)), before, plan, progress
            )
        except UsageError as error:
            progress.say(f"skipped: {error}")
            skipped.append(Skipped(task.name, error.expected, error.got))
            continue
        asked[task.name] = how
        if file is not None:
            files[task.name] = file
            for line in not_shared(task.name, how.config or {}, file):
                progress.say(line)
    TasksAsked(asked, tuple(skipped)).write(run_dir, TASKS)
    return files


def _asked(task: Task, file: Path | None, how: Asking) -> TaskAsked:
    if file is None:
        return TaskAsked(None, None, how)
    return TaskAsked(content.load_yaml(content.listing("suites/tasks")[task.name]), _digest(file), how)


def _measured_before(run_dir: RunDir) -> dict[str, TaskAsked]:
    """How each benchmark was asked that the base answered, and so every arm that was there."""
    base = f"evaluate/{BASE}.json"
    if not all(run_dir.file(file).is_file() for file in (TASKS, base)):
        return {}
    if format_of(run_dir, base) != Measured.FORMAT or format_of(run_dir, TASKS) != TasksAsked.FORMAT:
        return {}
    answered = Measured.read(run_dir, base).asked
    return {task: how for task, how in TasksAsked.read(run_dir, TASKS).tasks.items() if task in answered}


def _staying(run_dir: RunDir, plan: Plan, before: Mapping[str, TaskAsked]) -> list[Task]:
    """The benchmarks that were measured and are not among those asked for now, as they were last named."""
    named: dict[str, Task] = {}
    for entry in declarations.entries(run_dir, "evaluation"):
        for row in (entry.settings.get("evaluation") or {}).get("tasks") or ():
            named[row["name"]] = Task(**row)
    asked = [task.name for task in plan.suite.evaluation.tasks]
    return [named[name] for name in before if name not in asked and name in named]


def _with_earlier(
    task: Task, now: TaskAsked, before: Mapping[str, TaskAsked], plan: Plan, progress: Progress
) -> TaskAsked:
    """How a task is asked, given how it was: with as many items as it was, if nothing else differs; one that
    is not asked for any more just as it was. Raises UsageError where its items have changed since.
    """
    known = before.get(task.name)
    if known is None:
        return now
    if task not in plan.suite.evaluation.tasks:
        if (known.config, known.data) != (now.config, now.data):
            raise UsageError(
                f"evaluation.tasks: {task.name}",
                "the items that were asked before",
                "other items in the file",
                f"to ask these: --task {task.name}={task.data}",
            )
        progress.say(f"kept: {task.name}, which was measured before and is not among the tasks asked for now")
        return known
    limit, asked = known.how.limit, now.how.limit
    is_same = replace(known, how=replace(known.how, limit=asked, drawn=now.how.drawn)) == now
    if not is_same or asked is None or (limit is not None and limit <= asked):
        return now
    many = "all of its items" if limit is None else f"{limit:,} items"
    progress.say(f"kept: {task.name} was asked with {many}, more than the limit of {asked:,}: they all count")
    return known


def prepared(
    specs: Mapping[str, dict[str, Any] | None], files: Mapping[str, Path], folder: Path
) -> dict[str, Path]:
    """Task -> the file that lm-eval reads, in `folder`: the rows as this program reads them, whatever
    encoding and packing their file has, and dialogues as rows of question and answer.
    """
    return {task: _as_rows(file, folder / f"{task}.jsonl", specs[task] or {}) for task, file in files.items()}


def _as_rows(source: Path, target: Path, config: Mapping[str, Any]) -> Path:
    with target.open("w", encoding="utf-8") as out:
        for row in _rows(source, config):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return target


def _rows(source: Path, config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The items of a task's file."""
    if not _are_dialogues(config):
        yield from reading.fields_of(str(source))
        return
    for item in free_answers.items(str(source)):
        row = asdict(item)
        yield row | row.pop("shared")


def not_shared(name: str, config: Mapping[str, Any], file: Path) -> Iterator[str]:
    """A line for each column that looks like one that items share and is not used as such, or is used and has
    one value in all rows.
    """
    named = named_keys(_metadata(config))
    kinds = _metadata(config).get("groups", ())
    rows = list(reading.fields_of(str(file)))
    used = {key for row in rows for key in row if (is_shared(key) if named is None else key in named)}
    for key in sorted(used):
        if len(rows) > 1 and len({shared_of(row, [key]).get(key) for row in rows}) == 1:
            yield (
                f"note: {name}: all items have the same {key!r}, so they count as one draw; if they share no "
                f"passage and no patient, rename the column"
            )
    for key in unused(rows, used | choices.keys(config) | set(kinds)):
        yield (
            f"note: {name}: items that have the same {key!r} are counted as separate draws, since the column "
            f"is not read; if they share a passage or a patient, rename it to `passage` or `patient`"
        )


@contextmanager
def read_once(run_dir: RunDir, files: Mapping[str, Path]) -> Iterator[Loaded]:
    """Inside the block: a function that gives the benchmarks of evaluate/tasks.json as lm-eval holds them,
    by name. They are read when it is first called, and not again.
    """
    with ExitStack() as stack:

        @cache
        def loaded() -> dict[str, Any]:
            from dpaudit.models import harness

            folder = stack.enter_context(run_dir.work_folder("evaluate/cache"))
            specs = {task: how.config for task, how in TasksAsked.read(run_dir, TASKS).tasks.items()}
            return harness.load_tasks(specs, prepared(specs, files, folder), folder, files)

        yield loaded


def digest_of_items(task: Task) -> str:
    """The digest of a task's file. Raises UsageError where it is not there."""
    return _digest(_own_file(task))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]


def asking(evaluation: Evaluation, task: Task | None = None) -> Asking:
    """How a suite has items asked: those of one task, which may have settings of its own."""
    limit, shots, template = evaluation.limit, evaluation.fewshot, evaluation.chat_template
    if task is not None:
        limit = limit if task.limit is None else task.limit
        shots = shots if task.fewshot is None else task.fewshot
        template = template if task.chat_template is None else task.chat_template
    return Asking(version("lm-eval"), limit, shots, template, drawn=limit is not None)


def _is_ours(task: Task) -> bool:
    """Whether the task is a YAML of suites/tasks/, which needs a file. Raises UsageError for data that nobody
    reads.
    """
    known = content.listing("suites/tasks")
    if task.name not in known and task.data is not None:
        raise UsageError(
            f"evaluation.tasks: {task.name}",
            f"one of {', '.join(sorted(known))} with data",
            "a task with data of its own",
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
            "name a file of items in a new run, or keep the task skipped",
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
            f"a file with the items of {task.name}",
            got,
            f"{way}, or leave the task out",
        )
    return path
