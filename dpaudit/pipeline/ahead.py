"""What a plan will do, spend and take, before anything is spent."""

import heapq
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from dpaudit.errors import GuardError, PartialError, UsageError
from dpaudit.machines.place import Place
from dpaudit.pipeline import claims_ahead
from dpaudit.stages.prepare.jobs import ArmJob
from dpaudit.stages.train import forecast, training_set, trials
from dpaudit.stages.train.forecast import Forecast
from dpaudit.stages.train.train import default_workers
from dpaudit.stages.train.trials import Taken
from dpaudit.storage import exclusive
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

BUSY = 0.3  # of a core that other work takes, from which on it is told
Rows = list[dict[str, Any]]


def told(
    plan: Plan,
    progress: Progress,
    workers: int | None = None,
    on: Place | None = None,
    is_measured: bool = True,
    is_whole: bool = True,
) -> dict[str, Any]:
    """`forecast`: rows of arms. `claims_ahead`: what each test of a claim will find. `takes`: rows of memory
    and time of each arm, of all, and of `attack mia`, measured here. `not_measured`: in words, what is not.

    `workers` arms train at once. `is_whole`: attacks, benchmarks and the judge come after the training.
    """
    with forecast.prepared(plan, progress) as run_dir:
        found = forecast.of(plan, run_dir, progress)
        foretold = {"forecast": found.rows, "claims_ahead": claims_ahead.rows(plan, found)}
        if not is_measured:
            return {**foretold, "not_measured": "time, as --no-measure says"}
        at_once = workers or default_workers(plan.suite.model.base) if on is None else 1
        rows, left = _measured(plan, found, run_dir, progress, min(at_once, len(found.jobs)), on)
        if rows and is_whole:
            rows, left = _with_stages(plan, rows, run_dir, progress)
        return {**foretold, "takes": rows, "not_measured": "; ".join(left) or None}


def _measured(
    plan: Plan, found: Forecast, run_dir: RunDir | None, progress: Progress, at_once: int, on: Place | None
) -> tuple[Rows, list[str]]:
    """Rows of the arms and of all of them; none, and why, where nothing can be measured."""
    why = trials.unreachable(plan, at_once)
    if why is not None:
        return [], [f"time: {why}"]
    _tell_load(progress)
    try:
        taken = _trials(plan, found, run_dir, progress, at_once)
    except (PartialError, GuardError) as error:
        return [], [f"time: {error}"]
    except UsageError as error:
        if run_dir is not None:
            raise
        return [], [f"time: no data to take lengths from: {error}"]
    apart = at_once > 1 or on is not None
    rows = [_row(job, taken[job.arm.name], apart) for job in found.jobs]
    seconds = {row["what"]: row["seconds"] for row in rows}
    how = f"{at_once} at once" if on is None else "one after another, as measured here"
    whole = {
        "what": f"all arms, {how}",
        "peak_memory_mb": sum(sorted(row["peak_memory_mb"] for row in rows)[-at_once:]),
        "seconds": together(found.jobs, seconds, at_once),
        "processor_seconds": sum(row["processor_seconds"] for row in rows),
    }
    return [*rows, whole], []


def _trials(
    plan: Plan, found: Forecast, run_dir: RunDir | None, progress: Progress, at_once: int
) -> dict[str, Taken]:
    """What every arm takes, by units of the run's corpus; without one by the first rows of the data."""
    lessons = {job.arm.lesson: job.arm for job in found.jobs}
    with ExitStack() as stack:
        folder = stack.enter_context(exclusive.scratch())
        if run_dir is None:
            progress.say(f"lengths are those of the first {trials.SAMPLE:,} rows; canaries are not in them")
            first = {name: trials.first_units(plan, arm.method) for name, arm in lessons.items()}
            return trials.measured(plan, found.jobs, first, found.axes, at_once, folder, progress)
        units = {
            name: stack.enter_context(training_set.loaded(run_dir, plan, arm.method, arm.twin, None)).units
            for name, arm in lessons.items()
        }
        return trials.measured(plan, found.jobs, units, found.axes, at_once, folder, progress)


def _row(job: ArmJob, taken: Taken, apart: bool) -> dict[str, Any]:
    clock, processor = taken.seconds(job, apart).tolist()
    return {
        "what": job.arm.name,
        "device": taken.device,
        "threads": taken.threads,
        "peak_memory_mb": taken.peak_memory_mb,
        "seconds": clock,
        "processor_seconds": processor,
    }


def _with_stages(
    plan: Plan, rows: Rows, run_dir: RunDir | None, progress: Progress
) -> tuple[Rows, list[str]]:
    """The rows with those of the stages after the training that are measured, and what is not."""
    from dpaudit.stages.attack import foretold

    asked, left = plan.suite.attacks, [f"attack {kind}" for kind in plan.suite.attacks if kind != "mia"]
    if "mia" in asked and run_dir is not None:
        keys = ("seconds", "processor_seconds")
        try:
            took = dict(zip(keys, foretold.seconds(run_dir, plan, progress).tolist(), strict=True))
            whole = {key: rows[-1][key] + took[key] for key in keys}
            rows = [*rows, {"what": "attack mia", **took}, {"what": "arms and attack mia", **whole}]
        except PartialError as error:
            left.insert(0, f"attack mia: {error}")
    elif "mia" in asked:
        left.insert(0, "attack mia: no corpus is drawn under training.population")
    left += ["shadow models"] * bool(plan.suite.shadows) + ["eval"] + ["judge"] * bool(plan.suite.judging)
    return rows, [f"time of {', '.join(left)}"]


def together(jobs: Sequence[ArmJob], seconds: dict[str, float], at_once: int) -> float:
    """When the last of the arms is done, where as many train at once and each waits for the one that it
    begins from, as `system.parallel` does it.
    """
    waiting, running, now = list(jobs), list[tuple[float, str]](), 0.0
    while waiting or running:
        undone = {job.arm.name for job in waiting} | {name for _, name in running}
        ready = [job for job in waiting if job.start is None or job.start.name not in undone]
        if ready and len(running) < at_once:
            waiting.remove(ready[0])
            heapq.heappush(running, (now + seconds[ready[0].arm.name], ready[0].arm.name))
        else:
            now, _ = heapq.heappop(running)
    return now


def _tell_load(progress: Progress) -> None:
    """Says where other work keeps this machine busy: what is measured now takes longer than alone."""
    cores = os.cpu_count() or 1
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > BUSY * cores:
        progress.say(
            f"note: this machine is at other work (load {load:.1f} on {cores} cores): times are measured as "
            f"it is now, and are shorter where it is left alone"
        )
