"""The benchmarks that a suite names: whether each can be asked, and how it is asked."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from dpaudit import content
from dpaudit.data import choices
from dpaudit.errors import Gathering, UsageError
from dpaudit.findings.quality import Asking, Skipped, TaskAsked, TasksAsked
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Evaluation, Task, path_or_builtin
from dpaudit.system.progress import Progress

TASKS = "evaluate/tasks.json"


def check_tasks(tasks: Sequence[Task], are_known: bool = False) -> None:
    """Raises UsageError, or Mistakes, where a task is not one of ours, names no file that is there, or has
    items that do not fit.

    Items of builtin:clinic pass: they are made with the corpus, and left out with a line where the data are
    others. `are_known` asks lm-eval too, which takes seconds, whether it knows the others.
    """
    mistakes, known = Gathering(), content.listing("suites/tasks")
    for task in tasks:
        mistakes.passes(_check_task, task)
    others = [task.name for task in tasks if task.name not in known and task.data is None]
    if are_known and others:
        from dpaudit.models import harness

        mistakes.passes(harness.check_known, others)
    mistakes.end()


def _check_task(task: Task) -> None:
    """Raises UsageError, or Mistakes, for a task on a file that is not there or has items that do not fit."""
    if _is_ours(task) and not _wants_clinic(task):
        choices.check(_own_file(task), content.load_yaml(content.listing("suites/tasks")[task.name]))


def write_tasks(run_dir: RunDir, plan: Plan, progress: Progress) -> dict[str, Path]:
    """Writes what the benchmarks are (configuration, digest of the data) and returns each task's data file.

    A task whose items are not there is left out, and the reason kept: adapters that took hours wait for no
    file.
    """
    known = content.listing("suites/tasks")
    files: dict[str, Path] = {}
    asked: dict[str, TaskAsked] = {}
    skipped: list[Skipped] = []
    for task in plan.suite.evaluation.tasks:
        own = _is_ours(task)
        try:
            if own:
                files[task.name] = _data_file(run_dir, plan, task)
        except UsageError as error:
            progress.say(f"skipped: {error}")
            skipped.append(Skipped(task.name, error.expected, error.got))
            continue
        asked[task.name] = TaskAsked(
            config=content.load_yaml(known[task.name]) if own else None,
            data=_digest(files[task.name]) if own else None,
            how=asking(plan.suite.evaluation),
        )
    TasksAsked(asked, tuple(skipped)).write(run_dir, TASKS)
    return files


def digest_of_items(task: Task) -> str:
    """The digest of a task's file. Raises UsageError where it is not there."""
    return _digest(_own_file(task))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]


def asking(evaluation: Evaluation) -> Asking:
    """How a suite has items asked."""
    return Asking(version("lm-eval"), evaluation.limit, evaluation.fewshot, evaluation.chat_template)


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
            f"a JSONL file with the items of {task.name}",
            got,
            f"{way}, or skip the task: --set 'evaluation.tasks=[]'",
        )
    return path
