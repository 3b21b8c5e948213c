"""Train: one LoRA adapter per arm of the grid, each with its privacy ledger."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from dpaudit.errors import UsageError
from dpaudit.machines import elsewhere
from dpaudit.machines.place import Place
from dpaudit.models.number_formats import is_slow
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import TrainedArm, inputs_of
from dpaudit.stages.prepare.jobs import ArmJob, is_trls, jobs_of, with_starts
from dpaudit.stages.prepare.lessons import expected_units
from dpaudit.stages.train import training_set
from dpaudit.stages.train.arm import checkpoints, train_arm
from dpaudit.storage import notes
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, is_noised
from dpaudit.suite.plan import Plan
from dpaudit.system import parallel
from dpaudit.system.progress import Progress

SLOW = (
    "model.dtype bfloat16: this processor is slower in it than in float32; on one without instructions for "
    "it, training took eight times as long as with --set model.dtype=float32"
)


def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    only: list[str] | None = None,
    workers: int | None = None,
    micro_batch: int | None = None,
    on: Place | None = None,
) -> None:
    """Trains every arm of the plan's grid, or those named in `only`, that is not there yet or is stale.

    Writes train/ARM with privacy.json, train.json, steps.jsonl and adapter/, as a whole or not at all; an arm
    that was killed continues from its last checkpoint. All settings are checked before the first arm trains.
    `workers` arms train side by side, each in a process of its own (None: as many as there are cores where
    the model is small, else one), or `on` other machines; results do not depend on it, nor on `micro_batch`,
    which goes before the plan's. Raises UsageError for an arm that is not of the grid, a batch above the
    population, an arm without schedule; GuardError where a training guard fires; PartialError where memory
    runs out or surely would. Under `torchrun` its processes train each arm together.
    """
    from dpaudit.training import ranks

    several = ranks.of_environment()
    jobs = several.once(lambda: _waiting_jobs(run_dir, plan, only))
    if not jobs:
        return
    if several.count > 1:
        _check_joint(plan, jobs, on)
        workers = 1
    if on is None:
        several.once(lambda: require_room(plan, [job.arm for job in jobs], workers, micro_batch))
    say = progress.say if several.first else None
    if say is not None:
        _warn(run_dir, plan, jobs, say)
    lessons = {job.arm.lesson: job.arm for job in jobs}
    with ExitStack() as stack:
        data = several.together(
            lambda: {
                name: stack.enter_context(
                    training_set.loaded(run_dir, plan, arm.method, arm.twin, say, progress)
                )
                for name, arm in lessons.items()
            }
        )
        trainings = [_training(run_dir, plan, job, data[job.arm.lesson], micro_batch) for job in jobs]
        spread(trainings, run_dir, plan, progress, workers, on, "training")


def _training(
    run_dir: RunDir, plan: Plan, job: ArmJob, data: training_set.TrainingSet, micro_batch: int | None
) -> parallel.Job:
    after = _title(job.start) if job.start else None
    arguments = (run_dir, plan, job, data, micro_batch)
    return parallel.Job(_title(job.arm), job.schedule.steps, train_arm, arguments, after)


def spread(
    jobs: list[parallel.Job],
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    workers: int | None,
    on: Place | None,
    beside: str,
) -> None:
    """Does jobs of a run side by side, here or `on` other machines; `beside`: where the files of a call on
    other machines lie, in a folder that the holder of the stage's lock sweeps.
    """
    from dpaudit.models import hf

    base = plan.suite.model.base
    if on is None:
        parallel.run(jobs, default_workers(base) if workers is None else workers, progress)
    else:
        elsewhere.run(jobs, on, run_dir, beside, progress, light=hf.is_small(base))


def require_room(plan: Plan, arms: Sequence[Arm], workers: int | None, micro_batch: int | None) -> None:
    """Raises PartialError, with what to type, where this machine has too little memory to train these arms.
    Nothing is loaded.
    """
    from dpaudit.models import memory
    from dpaudit.training import ranks

    training = plan.suite.training
    training = replace(training, micro_batch=micro_batch or training.micro_batch)
    at_once = min(len(arms), default_workers(plan.suite.model.base) if workers is None else workers)
    is_noisy = any(is_noised(arm, training.unit) for arm in arms)
    memory.require_room(plan.suite.model, training, is_noisy, ranks.on_one_device() * max(1, at_once))


def _warn(run_dir: RunDir, plan: Plan, jobs: list[ArmJob], say: Callable[[str], None]) -> None:
    """Says which arms are a second release, and that this processor is slow."""
    for job in jobs:
        if job.arm.private and notes.trained(run_dir, job.arm.name):
            say(
                f"note: {job.arm.name} was trained before; training it again is a second release on the same "
                f"records, and its epsilon counts one"
            )
    if is_slow(plan.suite.model.dtype):
        say(SLOW)


def _title(arm: Arm) -> str:
    return f"training {arm.name}"


def _waiting_jobs(run_dir: RunDir, plan: Plan, only: list[str] | None) -> list[ArmJob]:
    """The jobs of the arms that are not there yet or are stale; leftovers of the others are removed.

    The methods that they start from are counted too.
    """
    arms = with_starts(plan, plan.suite.grid.named(only))
    custody.require(run_dir, plan)
    weights.require_base(run_dir, plan)
    waiting: list[Arm] = []
    for arm in arms:
        current = TrainedArm(run_dir, arm.name).is_current(inputs_of(plan, arm))
        if not current or plan.suite.grid.start_of(arm) in waiting:
            waiting.append(arm)
        else:
            checkpoints(run_dir, arm.name).clear()
    lessons = {arm.lesson: arm for arm in with_starts(plan, waiting)}
    unit = plan.suite.training.unit
    counts = {name: expected_units(run_dir, arm.method, unit, arm.twin) for name, arm in lessons.items()}
    return jobs_of(plan, waiting, counts)


def _check_joint(plan: Plan, jobs: list[ArmJob], on: Place | None) -> None:
    """Raises UsageError for an arm that several processes cannot train together."""
    if on is not None:
        raise UsageError(
            f"--on {on}",
            "one process that hands out arms",
            "several, under torchrun",
            "leave one of them out",
        )
    for job in jobs:
        if is_trls(plan.suite.training, job.arm):
            raise UsageError(
                f"arm {job.arm.name}",
                "an arm of dpaudit's own trainer under torchrun",
                "an arm that TRL trains, in one process",
                "leave it out with --arm, or train it without torchrun",
            )


def default_workers(base: str) -> int:
    """How many arms train at once: one a core for a model so small that it cannot keep more cores busy."""
    from dpaudit.models import hf

    return (os.cpu_count() or 1) if hf.is_small(base) else 1
