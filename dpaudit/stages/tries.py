"""The history of a run's benchmarks, in stage evaluate: what was measured with other settings stays."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dpaudit.findings.finding import format_of
from dpaudit.findings.quality import Measured, TasksAsked
from dpaudit.findings.tries import Tried, Tries, Try
from dpaudit.storage.rundir import RunDir

FILE = "evaluate/tries.json"


def of(run_dir: RunDir) -> tuple[Try, ...]:
    """The tries so far; empty where another version counted them."""
    if not run_dir.file(FILE).is_file() or format_of(run_dir, FILE) != Tries.FORMAT:
        return ()
    return Tries.read(run_dir, FILE).tries


def keep(run_dir: RunDir, asked: TasksAsked, measured: Mapping[str, Measured]) -> Sequence[str]:
    """Adds what was measured now to evaluate/tries.json, and returns a line for every benchmark that was
    measured with several settings. `measured` is by model.
    """
    before = of(run_dir)
    now = before
    for task in asked.tasks:
        now = _with(now, _try(task, asked, measured))
    if now != before:
        Tries(now).write(run_dir, FILE)
    counts = {task: sum(one.task == task for one in now) for task in asked.tasks}
    return [
        f"note: {task} was measured {count} times, with other settings or items; the page shows all"
        for task, count in counts.items()
        if count > 1
    ]


def counted(tries: Sequence[Try]) -> tuple[Tried, ...]:
    """Every benchmark with its tries."""
    by_task = {task: tuple(one for one in tries if one.task == task) for task in {t.task: 0 for t in tries}}
    return tuple(Tried(task, len(of_task), of_task[:-1]) for task, of_task in by_task.items())


def _try(task: str, asked: TasksAsked, measured: Mapping[str, Measured]) -> Try:
    digest = next(iter(measured.values())).asked[task]
    figures = {
        name: row for name, found in measured.items() for row in found.quality.tasks if row.task == task
    }
    measures = {
        name: rows
        for name, found in measured.items()
        if (rows := tuple(row for row in found.quality.measures if row.task == task))
    }
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Try(task, date, digest, asked.tasks[task].data, asked.tasks[task].how, figures, measures)


def _with(tries: tuple[Try, ...], new: Try) -> tuple[Try, ...]:
    """The tries with a new one, which goes on with the last of its benchmark if the settings are the same."""
    at = max((at for at, one in enumerate(tries) if one.task == new.task), default=None)
    if at is None or tries[at].digest != new.digest:
        return (*tries, new)
    last = tries[at]
    if (last.figures, last.measures) == (new.figures, new.measures):
        return tries
    whole = replace(new, figures=last.figures | new.figures, measures=last.measures | new.measures)
    return (*tries[:at], whole, *tries[at + 1 :])
