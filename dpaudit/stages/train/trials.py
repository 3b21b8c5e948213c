"""What every arm will take: a trial of each kind of training, in a process of its own as arms have it.

Nothing is learned, and no generator of this process is touched.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import unit_of
from dpaudit.errors import PartialError, UsageError
from dpaudit.stages.prepare import corpus
from dpaudit.stages.prepare.jobs import ArmJob, is_trls
from dpaudit.stages.prepare.lessons import METHODS
from dpaudit.stages.train import lesson, start, training_set
from dpaudit.stages.train.arm import by_trl, peak_memory_mb
from dpaudit.suite.grid import Method, is_noised
from dpaudit.suite.plan import Plan
from dpaudit.system import parallel
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.training.axes import Axes
    from dpaudit.training.examples import UnitExamples
    from dpaudit.training.trial import Seconds, Trial

SAMPLE = 1000  # rows whose lengths stand for all, where the data are not read as a whole
STEPS_OF_TRL = 4  # the first of them warms up


@dataclass(frozen=True)
class Taken:
    """What one kind of training takes here."""

    device: str
    threads: int
    peak_memory_mb: float  # of the device; on a processor of the process
    process: "Seconds"  # until a process of its own has begun
    load: "Seconds"  # of the model
    trial: "Trial"

    def seconds(self, job: ArmJob, apart: bool) -> "Seconds":
        """The whole training of an arm of this kind; `apart`: in a process of its own."""
        once = self.load + self.trial.before + (self.process if apart else 0.0)
        return once + self.trial.reference * job.population + self.trial.step * job.schedule.steps


def kind_of(plan: Plan, job: ArmJob) -> tuple[Any, ...]:
    """Arms of one kind differ in noise and seed alone, which change neither time nor memory."""
    noised = is_noised(job.arm, plan.suite.training.unit)
    return job.arm.lesson, job.arm.loss, noised, is_trls(plan.suite.training, job.arm), job.schedule


def measured(
    plan: Plan,
    jobs: Sequence[ArmJob],
    units: "Mapping[str, Sequence[UnitExamples]]",
    axes: int,
    at_once: int,
    folder: Path,
    progress: Progress,
) -> dict[str, Taken]:
    """Arm -> what it takes, measured with as many processes at once as will train. `units` are read by other
    processes; `axes` canaries along axes are in half of the time; `folder` takes what they find.

    Raises PartialError or GuardError where a trial ends before its time.
    """
    kinds = {kind_of(plan, job): job for job in reversed(jobs)}
    files = {kind: folder / f"trial-{number}.json" for number, kind in enumerate(kinds)}
    trials = [
        parallel.Job(
            f"measuring a few passes of {job.arm.name}",
            1,
            _try,
            (plan, job, units[job.arm.lesson], axes, files[kind]),
        )
        for kind, job in reversed(kinds.items())
    ]
    parallel.run(trials, at_once, progress, apart=True)
    found = {kind: _read(file) for kind, file in files.items()}
    return {job.arm.name: found[kind_of(plan, job)] for job in jobs}


def _try(
    plan: Plan,
    job: ArmJob,
    units: "Sequence[UnitExamples]",
    axes: int,
    file: Path,
    advance: Callable[[int], None],
) -> None:
    import numpy as np
    import psutil
    import torch

    from dpaudit.models import memory
    from dpaudit.training import trial

    process = np.array([time.time() - psutil.Process().create_time(), time.process_time()])
    load, model = trial.timed(lambda: start.fresh(plan, plan.seed))
    parts = {"process": process, "load": load, **vars(_trial(plan, job, units, axes, model))}
    where = [memory.place().name, torch.get_num_threads(), peak_memory_mb()]
    file.write_text(json.dumps([where, {name: part.tolist() for name, part in parts.items()}]))
    advance(1)


def _read(file: Path) -> Taken:
    import numpy as np

    from dpaudit.training.trial import Trial

    (device, threads, peak), told = json.loads(file.read_text())
    parts = {name: np.array(part) for name, part in told.items()}
    process, load = parts.pop("process"), parts.pop("load")
    return Taken(device, threads, peak, process, load, Trial(**parts))


def _trial(plan: Plan, job: ArmJob, units: "Sequence[UnitExamples]", axes: int, model: Any) -> "Trial":
    from dpaudit.training import losses, trial

    training, arm = plan.suite.training, job.arm
    objective, rows = lesson.objective_of(plan, arm), training.micro_batch
    if is_trls(training, arm):
        return _of_trl(plan, job, units, objective, model)
    noised = is_noised(arm, training.unit)
    return trial.measure(
        model,
        units,
        job.schedule,
        job.mechanism,
        objective,
        rows,
        _axes(plan, units, axes, model) if axes and noised else None,
        arm.method == "dpo" and losses.needs_reference(arm.loss),
    )


def _axes(plan: Plan, units: "Sequence[UnitExamples]", count: int, model: Any) -> "Axes":
    """As many axes as the plan has, every second one in."""
    import numpy as np

    from dpaudit.models import fused
    from dpaudit.training import axes

    longest = max(sum(len(e.sequences) for e in units[i]) for i in range(min(len(units), SAMPLE)))
    included = np.arange(count) % 2 == 0
    return axes.spread(fused.trainable(model), included, min(longest, axes.SEQUENCES_MOST), plan.seed)


def _of_trl(plan: Plan, job: ArmJob, units: Any, objective: Any, model: Any) -> "Trial":
    import numpy as np

    from dpaudit.training import trial

    short = replace(job, schedule=replace(job.schedule, steps=STEPS_OF_TRL))
    rows, nobody = plan.suite.training.micro_batch, lambda n: None
    took, result = trial.timed(lambda: by_trl(plan, short, model, units, objective, rows, nobody))
    steps = [step.seconds for step in result.steps]
    step = took / took[0] * float(np.median(steps[1:]))
    return trial.Trial(np.maximum(took - took / took[0] * sum(steps), 0), np.zeros(2), step)


def unreachable(plan: Plan, at_once: int) -> str | None:
    """Why no trial can be made here; None where one can."""
    from dpaudit.models import hf, memory

    model, training = plan.suite.model, plan.suite.training
    try:
        if not model.is_random:
            hf.place_of(model.base)
        noised = any(is_noised(arm, training.unit) for arm in plan.suite.grid.arms)
        memory.require_room(model, training, noised, at_once)
    except UsageError as error:
        return f"{model.base}: {error.got}"
    except PartialError as error:
        return str(error)
    return None


def first_units(plan: Plan, method: Method) -> "list[UnitExamples]":
    """The units of the first rows of a method's data, without canaries: of data that are not read whole."""
    data, part = plan.suite.data, next(part for part, name in METHODS.items() if name == method)
    origin = {"records": data.source, "pairs": data.preference, "texts": data.text}[part]
    by_unit: dict[str, list[Any]] = {}
    for _, record in islice(corpus.rows_of(plan, part, origin or ""), SAMPLE):
        by_unit.setdefault(unit_of(record, plan.suite.training.unit), []).append(record)
    return [examples for _, examples in training_set.encoded_units(plan, by_unit.items())]
