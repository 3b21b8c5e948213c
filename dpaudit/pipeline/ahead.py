"""What a plan will do, spend and take, before anything is spent."""

import heapq
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.errors import GuardError, PartialError, UsageError
from dpaudit.machines.place import Place
from dpaudit.pipeline import claims_ahead, data_ahead, disk_ahead, further, judge_ahead
from dpaudit.stages.prepare.jobs import ArmJob
from dpaudit.stages.train import forecast, training_set, trials
from dpaudit.stages.train.forecast import Forecast
from dpaudit.stages.train.train import default_workers, require_room
from dpaudit.stages.train.trials import Taken
from dpaudit.storage import exclusive
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

BUSY = 0.3  # of a core that other work takes, from which on it is told
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a plan before it is carried out. `workers` arms train at once, or `on` other machines;
    `only` these arms are trained. `is_whole`: attacks, benchmarks and the judge come after the training; the
    judge may ask `allow_egress`.
    """

    workers: int | None = None
    on: Place | None = None
    is_measured: bool = True
    is_whole: bool = True
    only: Sequence[str] | None = None
    allow_egress: Sequence[str] = ()


def told(plan: Plan, wanted: Wanted, runs: Path, progress: Progress) -> dict[str, Any]:
    """`forecast`: rows of arms. `learned`: rows of what each method learns from. `claims_ahead`: what each
    test of a claim will find. `takes`: rows of memory and time of each arm, of all, and of `attack mia`,
    measured here. `disk`: about how many bytes the run takes. `judge_ahead`: what the judge will be asked.
    `not_measured`: in words, what is not. `warnings`: what to know or change before anything is spent.

    Raises UsageError as training itself would, or Mistakes where there is more to mend.
    """
    try:
        return _told(plan, wanted, runs, progress)
    except UsageError as error:
        raise further.mistakes(plan, error) from None


def _told(plan: Plan, wanted: Wanted, runs: Path, progress: Progress) -> dict[str, Any]:
    with forecast.prepared(plan, progress) as run_dir:
        found = forecast.of(plan, run_dir, progress, wanted.only)
        at_once = min(_at_once(plan, wanted), len(found.jobs))
        claims, learned = claims_ahead.rows(plan, found), data_ahead.rows(found, run_dir)
        judge, left = judge_ahead.rows(plan, found, run_dir) if wanted.is_whole else ([], [])
        disk = disk_ahead.rows(plan, found, run_dir, at_once, judge if wanted.is_whole else None)
        takes, not_measured = _takes(plan, wanted, found, run_dir, at_once, progress)
    if run_dir is None:
        left = [
            "what is cut, patients, the share of canaries: no data are read under training.population",
            *left,
        ]
    return {
        "forecast": found.rows,
        "learned": learned,
        "claims_ahead": claims,
        **takes,
        "disk": disk,
        "judge_ahead": judge,
        "not_measured": "; ".join([*not_measured, *left]) or None,
        "warnings": [
            *data_ahead.warnings(plan, found, learned),
            *claims_ahead.warnings(claims),
            *disk_ahead.warnings(disk, runs),
            *_too_little_memory(plan, wanted, found),
            *(judge_ahead.warnings(plan, wanted.allow_egress) if wanted.is_whole else ()),
        ],
    }


def _at_once(plan: Plan, wanted: Wanted) -> int:
    return 1 if wanted.on is not None else wanted.workers or default_workers(plan.suite.model.base)


def _takes(
    plan: Plan, wanted: Wanted, found: Forecast, run_dir: RunDir | None, at_once: int, progress: Progress
) -> tuple[dict[str, Rows], list[str]]:
    """Rows of memory and time, and what is not measured."""
    if not wanted.is_measured:
        return {}, ["time, as --no-measure says"]
    rows, left = _measured(plan, found, run_dir, progress, at_once, wanted.on)
    if rows and wanted.is_whole:
        rows, left = _with_stages(plan, rows, run_dir, progress, wanted.only)
    return {"takes": rows}, left


def _too_little_memory(plan: Plan, wanted: Wanted, found: Forecast) -> list[str]:
    """What training would end with for too little memory, if it would; other machines look for themselves."""
    if wanted.on is not None:
        return []
    try:
        require_room(plan, [job.arm for job in found.jobs], wanted.workers, None)
    except PartialError as error:
        return [f"training would not begin: {error}"]
    except UsageError:  # a model that is not here, which is told where it is measured
        return []
    return []


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
    plan: Plan, rows: Rows, run_dir: RunDir | None, progress: Progress, only: Sequence[str] | None
) -> tuple[Rows, list[str]]:
    """The rows with those of the stages after the training that are measured, and what is not."""
    from dpaudit.stages.attack import foretold

    asked, left = plan.suite.attacks, [f"attack {kind}" for kind in plan.suite.attacks if kind != "mia"]
    if "mia" in asked and run_dir is not None:
        keys = ("seconds", "processor_seconds")
        try:
            took = dict(zip(keys, foretold.seconds(run_dir, plan, progress, only).tolist(), strict=True))
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
