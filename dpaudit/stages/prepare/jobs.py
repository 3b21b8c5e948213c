"""What every arm of a grid will do and spend, known before the first step: schedule, mechanism, stages before
it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dpaudit.errors import Gathering, UsageError
from dpaudit.privacy.claim import Claim
from dpaudit.suite import suite
from dpaudit.suite.grid import Arm, is_noised, schedule_key
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Schedule
from dpaudit.training import labels

if TYPE_CHECKING:
    from dpaudit.privacy.ledger import Ledger
    from dpaudit.privacy.mechanism import Mechanism


@dataclass(frozen=True)
class ArmJob:
    """An arm with all that its ledger says before the first step."""

    arm: Arm
    schedule: Schedule
    mechanism: "Mechanism"  # with the stages before it
    population: int
    population_assumed: bool  # not declared: the expected number of units, counted from the data
    start: Arm | None = None  # the arm from whose adapter this one continues


def jobs_of(plan: Plan, arms: Sequence[Arm], counts: "dict[str, int]") -> list[ArmJob]:
    """The jobs of all arms; `counts` has the expected number of units of each lesson (a method, or that of a
    twin). Raises as `job_of` does, for all arms at once.
    """
    faults = Gathering()
    outside = outside_stages(plan)

    def job(arm: Arm) -> ArmJob:
        start = plan.suite.grid.start_of(arm)
        earlier = (job(start).mechanism,) if start else outside
        return job_of(plan, arm, schedule_of(plan.suite.training, arm), counts[arm.lesson], start, earlier)

    made = [faults.value(job, arm) for arm in arms]
    faults.end()
    return [one for one in made if one is not None]


def with_starts(plan: Plan, chosen: list[Arm]) -> list[Arm]:
    """The chosen arms and all that they start from, in the grid's order."""
    wanted = set(chosen)
    for arm in chosen:
        while (start := plan.suite.grid.start_of(arm)) is not None:
            wanted.add(start)
            arm = start
    return [arm for arm in plan.suite.grid.arms if arm in wanted]


def schedule_of(training: suite.Training, arm: Arm) -> Schedule:
    """The schedule of an arm's kind. Raises UsageError where the suite has none."""
    key = schedule_key(arm, training.unit)
    schedule: Schedule | None = getattr(training, key)
    if schedule is None:
        raise UsageError(
            f"training.{key}",
            f"batch, steps and learning_rate for {arm.name}",
            "no value",
        )
    return schedule if training.steps is None else replace(schedule, steps=training.steps)


def is_trls(training: suite.Training, arm: Arm) -> bool:
    """Whether TRL trains the arm, since its loss couples pairs or DeepSpeed is asked for; never a private
    one.
    """
    from dpaudit.training import losses

    wanted = arm.loss in losses.OPEN_ONLY or (training.deepspeed is not None and arm.method == "dpo")
    return wanted and not arm.private


def ledger_of(plan: Plan, job: ArmJob, steps_done: int, trainable_parameters: int) -> "Ledger":
    """The ledger of an arm: claim, mechanism, and what both accountants make of the steps that were done."""
    from dpaudit.privacy import ledger

    training, arm = plan.suite.training, job.arm
    epsilon = arm.epsilon if arm.private else math.inf
    named = {"method": arm.method, "loss": arm.loss, "epsilon": ledger.as_json(epsilon), "seed": arm.seed}
    made = ledger.made(
        Claim(epsilon, training.delta, training.unit, training.relation),
        job.mechanism,
        steps_done,
        named | ({"twin": True} if arm.twin else {}),
        expected_batch=job.schedule.batch,
        population=job.population,
        population_assumed=job.population_assumed,
        sampler="shuffled, by TRL" if is_trls(training, arm) else "poisson",
        reproducible_noise=plan.insecure_seed is not None,
        start_assumed_public=plan.suite.model.start is not None and plan.suite.model.assume_public,
        trainable_parameters=trainable_parameters,
    )
    return labels.ledger_of(made) if training.unit == labels.UNIT else made


def job_of(
    plan: Plan,
    arm: Arm,
    schedule: Schedule,
    counted: int,
    start: Arm | None = None,
    stages: "tuple[Mechanism, ...]" = (),
) -> ArmJob:
    """The job of an arm whose units were counted; the claim covers `stages`, which come before it.

    Canaries along axes of the weights come on top of the counted units: they are sampled at the same rate and
    change neither it nor the noise, so that the arm is the one that would have been trained without them.

    Raises UsageError for a batch above the population, a delta of 1 / population or more, and a claim out of
    reach.
    """
    from dpaudit.privacy.mechanism import Mechanism

    training = plan.suite.training
    population = training.population or counted
    faults, is_private = Gathering(), is_noised(arm, training.unit)
    faults.passes(_check_batch, f"training.{schedule_key(arm, training.unit)}.batch", schedule, population)
    if is_private:
        faults.passes(_check_delta, training, population)
        faults.passes(_check_reach, training, arm, stages)
    faults.end()
    rate = schedule.batch / population
    if is_private:
        spec = Claim(arm.epsilon, training.delta, training.unit, training.relation)
        try:
            sigma = _noise_multiplier(spec, rate, schedule.steps, stages)
        except ValueError as error:
            raise UsageError("grid.epsilons", "a claim that noise can keep", str(error)) from error
        acted = Mechanism(sigma, rate, schedule.steps, training.clip, stages)
    else:
        acted = Mechanism(0.0, rate, schedule.steps, float("inf"), stages)
    return ArmJob(arm, schedule, acted, population, training.population is None, start)


@lru_cache(maxsize=128)  # seeds, and the starts of several arms, ask for the same; an answer takes seconds
def _noise_multiplier(spec: Claim, rate: float, steps: int, stages: "tuple[Mechanism, ...]") -> float:
    from dpaudit.privacy import accountants

    return accountants.calibrate(spec, rate, steps, stages)


def _check_batch(key: str, schedule: Schedule, population: int) -> None:
    if schedule.batch > population:
        raise UsageError(
            key,
            f"at most {population} units in expectation, the population, or more data",
            str(schedule.batch),
            f"--set {key}={max(1, population)}",
        )


def _check_delta(training: suite.Training, population: int) -> None:
    if training.delta >= 1 / population and not training.allow_delta:
        raise UsageError(
            "training.delta",
            f"less than 1 / {population} units, because with more one unit could be published whole",
            f"{training.delta:g}",
            "lower it, or type --allow-delta",
        )


def _check_reach(training: suite.Training, arm: Arm, stages: "tuple[Mechanism, ...]") -> None:
    from dpaudit.privacy import accountants

    spent = accountants.compose(stages, training.delta, training.relation) if stages else 0.0
    if spent >= arm.epsilon:
        raise UsageError(
            f"arm {arm.name}",
            f"a claim above the epsilon of {spent:.4g} that the stages before it spent",
            f"{arm.epsilon:g}",
            "raise --eps, or start from a model that spent less",
        )


def outside_stages(plan: Plan) -> "tuple[Mechanism, ...]":
    """What the model that the run begins with has already spent on the same units, as its ledger says.

    The ledger is that of a merged base, of the adapter that `model.start` names, or of both. Raises
    UsageError for an adapter without one (unless `model.assume_public`) or of another base, and for a ledger
    of another unit or relation, without privacy, or of another kind of data under a unit that cannot tell
    whose they are.
    """
    from dpaudit.models import hf
    from dpaudit.privacy import beside
    from dpaudit.stages.integrity import custody, weights

    chosen, ledgers = plan.suite.model, []
    base = Path(hf.resolve(chosen.base))
    if base.is_dir() and (known := beside.find(base)) is not None:
        ledgers.append(known)
    if chosen.start is not None:
        places = (Path(chosen.start), Path(chosen.start) / "adapter")
        if not any((place / "adapter_config.json").is_file() for place in places):
            raise UsageError(
                f"--start {chosen.start}",
                "an adapter folder with adapter_config.json",
                "a folder without adapter_config.json" if Path(chosen.start).is_dir() else "no such folder",
            )
        for place in places:
            custody.require_if_arms(place)
        known = beside.find(Path(chosen.start))
        if known is not None:
            beside.require_base(known, chosen.base, weights.of_base(chosen.base))
            ledgers.append(known)
        elif not chosen.assume_public:
            raise UsageError(
                f"--start {chosen.start}",
                "an adapter with its ledger privacy.json",
                "an adapter without a ledger",
                "give the folder that training wrote, or --assume-public if its data were public",
            )
    for ledger in ledgers:
        _check_composable(plan, ledger)
    return tuple(stage for ledger in ledgers for stage in ledger.mechanisms)


def _check_composable(plan: Plan, earlier: "Ledger") -> None:
    training, where = plan.suite.training, str(earlier.file)
    arms, claim = plan.suite.grid.arms, earlier.claim
    private = any(arm.private for arm in arms)
    if math.isinf(earlier.epsilon) and private:
        raise UsageError(
            where,
            "a private start for private arms",
            "a start trained without privacy",
            "start from a private model, or train only --eps inf",
        )
    if earlier.is_reproducible and plan.insecure_seed is None and private:
        raise UsageError(
            where,
            "a start with noise that cannot be drawn again",
            "a start with reproducible noise, which claims no epsilon",
            "train the start without --insecure-seed, or give --insecure-seed here too",
        )
    if (claim.unit, claim.relation) != (training.unit, training.relation):
        raise UsageError(
            where,
            f"unit {training.unit} under {training.relation}, to compose with this run",
            f"unit {claim.unit} under {claim.relation}",
            f"set --unit {claim.unit}",
        )
    methods = {arm.method for arm in arms}
    if training.unit != "patient" and methods != {earlier.arm["method"]}:
        raise UsageError(
            where,
            f"a start by {', '.join(sorted(methods))} under unit {training.unit}",
            f"a start by {earlier.arm['method']}",
            "stages over different data compose under unit patient only",
        )
