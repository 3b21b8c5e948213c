"""Forecast: what every arm will do, spend and take, without training anything and without leaving anything
behind.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.stages.prepare import axes, prepare
from dpaudit.stages.prepare.dialogues import Tally
from dpaudit.stages.prepare.jobs import ArmJob, jobs_of, with_starts
from dpaudit.stages.prepare.lessons import examples_of, expected_units
from dpaudit.stages.train.train import default_workers
from dpaudit.stages.train.training_set import encoded_units
from dpaudit.storage import exclusive, run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Method, is_noised
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.memory import Memory


@dataclass(frozen=True)
class Learned:
    """What arms of a method may learn from, canaries left out: all rows of the data that are not held out,
    however coins fall. `tally` is of all of them; None where the tokenizer is not here.
    """

    units: int  # expected, canaries among them
    rows: int
    patients: int  # that are named
    named: int  # rows that name one
    tally: Tally | None


@dataclass(frozen=True)
class Forecast:
    """What a plan's arms will do and spend; `rows`: one an arm, with what it starts from, noise, rate, steps,
    clip, and estimated memory in GiB.
    """

    jobs: list[ArmJob]
    axes: int  # canaries along axes of the weights, of every arm that adds noise
    rows: list[dict[str, Any]]
    learned: dict[Method, Learned] = field(default_factory=dict)  # empty where no data are read


@contextmanager
def prepared(plan: Plan, progress: Progress) -> Iterator[RunDir | None]:
    """The plan's run with its corpus, gone when the block ends; None under a declared
    `training.population`, where no data are read.
    """
    if plan.suite.training.population:
        yield None
        return
    with exclusive.scratch() as folder:
        run_dir = run_store.open_or_create(plan.to_json(), plan.suite.name, folder)
        prepare.run(run_dir, plan, progress)
        yield run_dir


def of(plan: Plan, run_dir: RunDir | None, progress: Progress, only: Sequence[str] | None = None) -> Forecast:
    """The forecast of what `prepared` gave, of all arms or of those named in `only` and what they start
    from. Raises UsageError as training itself would.
    """
    every, arms = plan.suite.grid.arms, with_starts(plan, plan.suite.grid.named(only))
    lessons, unit = {arm.lesson: arm for arm in every}, plan.suite.training.unit
    if run_dir is None:
        counts = dict.fromkeys(lessons, plan.suite.training.population or 0)
    else:
        counts = {name: expected_units(run_dir, arm.method, unit, arm.twin) for name, arm in lessons.items()}
    inside = axes.needed(plan, counts)
    if (inside.count or inside.short) and (run_dir is None or not inside.short):  # `prepare` said why
        why = inside.short or "on top of the units; noise and rate are the same without them"
        progress.say(f"canaries along axes of the weights: {inside.count}; {why}")
    jobs = jobs_of(plan, arms, counts)
    needed = {noised: _memory(plan, noised) for noised in {is_noised(job.arm, unit) for job in jobs}}
    rows = [
        _row(plan, job, needed[is_noised(job.arm, unit)])
        | {"axes": _axes(plan, inside, job, needed.get(True))}
        for job in jobs
    ]
    learned = {}
    if run_dir is not None:
        methods = dict.fromkeys(arm.method for arm in arms)
        learned = {method: _learned(run_dir, plan, method, counts, progress) for method in methods}
    return Forecast(jobs, inside.count, rows, learned)


def rows(plan: Plan, progress: Progress) -> list[dict[str, Any]]:
    """The rows of a plan's forecast."""
    with prepared(plan, progress) as run_dir:
        return of(plan, run_dir, progress).rows


def here(plan: Plan, workers: int | None) -> str:
    """Where arms train without other machines, in words, with the memory that is free there."""
    from dpaudit.models import memory

    place, at_once = memory.place(), workers or default_workers(plan.suite.model.base)
    free = f"{place.free / memory.GIB:,.1f} GiB free"
    return f"on this machine, {at_once} at once: {place.name}, {free}"


def _axes(plan: Plan, inside: axes.Axes, job: ArmJob, needed: "Memory | None") -> int:
    """How many canaries along axes an arm has. Raises UsageError for more than the weights hold."""
    if not is_noised(job.arm, plan.suite.training.unit) or not inside.count:
        return 0
    if needed is not None and inside.count > needed.trainable_parameters:
        raise UsageError(
            "candidates.gradient",
            f"at most {needed.trainable_parameters:,}, as many as the adapter has weights",
            f"{inside.count:,}",
            "lower it, or raise training.lora.rank",
        )
    return inside.count


def _memory(plan: Plan, noised: bool) -> "Memory":
    from dpaudit.models import memory

    return memory.estimate(plan.suite.model, plan.suite.training, noised)


def _learned(
    run_dir: RunDir, plan: Plan, method: Method, counts: dict[str, int], progress: Progress
) -> Learned:
    """Encodes all rows to see what is cut of them; what is, is said: before hours of training."""
    from dpaudit.models import memory

    model, tally, named = plan.suite.model, Tally(), Counter[str]()
    lesson = method if method in counts else f"{method}-twin"

    def records() -> Iterator[Record]:
        for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
            yield from examples_of(row, method) if row["kind"] != "canary" else ()

    total = 0
    for record in records():
        total += 1
        named.update([record.patient] if record.patient is not None else [])
    found = Learned(counts[lesson], total, len(named), named.total(), tally)
    if memory.is_absent(model):
        return replace(found, tally=None)
    with progress.task(f"encoding what {method} learns from", total) as advance:
        for _ in tally.passing(encoded_units(plan, ((r.id, [r]) for r in records()))):
            advance(1)
    for line in tally.lines(model, method):
        progress.say(line)
    return found


def _row(plan: Plan, job: ArmJob, needed: "Memory") -> dict[str, Any]:
    training, mechanism = plan.suite.training, job.mechanism
    noised = is_noised(job.arm, training.unit)
    return {
        "arm": job.arm.name,
        "start": job.start.name if job.start else plan.suite.model.start or "base",
        "epsilon": job.arm.epsilon if job.arm.private else "inf",
        "noise_multiplier": mechanism.noise_multiplier if noised else None,
        "sampling_rate": mechanism.sampling_rate,
        "steps": mechanism.steps,
        "batch": job.schedule.batch,
        "clip": training.clip if noised else None,
        "trainable_parameters": needed.trainable_parameters,
        "memory_gib": round(needed.total / 2**30, 2),
    }
