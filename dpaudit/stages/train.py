"""Train: one LoRA adapter per arm of the grid, each with its privacy ledger."""

import hashlib
import os
import resource
import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit import parallel, suite
from dpaudit.corpus import group_by_unit
from dpaudit.errors import UsageError
from dpaudit.progress import Progress
from dpaudit.rundir import RunDir, write_text
from dpaudit.suite import Arm, Plan, Schedule
from dpaudit.training import labels

if TYPE_CHECKING:
    from dpaudit.privacy import Mechanism
    from dpaudit.training.loop import Example, Objective, Result

INPUTS = ("plan.json", "corpus/manifest.json")


@dataclass(frozen=True)
class Job:
    """An arm with all that its ledger says before the first step."""

    arm: Arm
    schedule: Schedule
    mechanism: "Mechanism"
    population: int
    population_assumed: bool  # not declared: the expected number of units, counted from the data


@dataclass(frozen=True)
class TrainingSet:
    """What the arms of one method learn from, grouped by unit."""

    units: "list[list[Example]]"
    names: list[str]  # of the units
    truncated: int  # sequences cut at model.max_length


def run(
    run_dir: RunDir, plan: Plan, progress: Progress, only: list[str] | None = None, workers: int | None = None
) -> None:
    """Trains every arm of the plan's grid, or those named in `only`, that is not there yet or is stale.

    Writes train/ARM with privacy.json, train.json, steps.jsonl and adapter/, as a whole or not at all. All
    settings are checked before the first arm trains. `workers` arms train side by side, each in a process of
    its own (None: as many as there are cores where the model is small, else one); results do not depend on it. Raises UsageError for an arm that is not of the grid, a
    batch above the population, a DPO arm without schedule; GuardError where a training guard fires.
    """
    waiting = [
        arm for arm in _chosen(plan, only) if not run_dir.is_current(f"train/{arm.name}/train.json", INPUTS)
    ]
    if not waiting:
        return
    schedules = {arm: schedule_of(plan.suite.training, arm) for arm in waiting}
    methods = {arm.method for arm in waiting}
    counts = {method: expected_units(run_dir, method, plan.suite.training.unit) for method in methods}
    jobs = [_job(plan, arm, schedules[arm], counts[arm.method]) for arm in waiting]
    workers = default_workers(plan.suite.model.base) if workers is None else workers
    alone = workers <= 1 or len(jobs) == 1
    data = {method: _load(run_dir, plan, method) if alone else None for method in methods}
    parallel.run(
        [
            parallel.Job(
                f"training {job.arm.name}",
                job.schedule.steps,
                train_arm,
                (run_dir, plan, job, data[job.arm.method]),
            )
            for job in jobs
        ],
        workers,
        progress,
    )


def default_workers(base: str) -> int:
    """How many arms train at once: one a core for a model so small that it cannot keep more cores busy."""
    from dpaudit.models import hf

    return (os.cpu_count() or 1) if hf.is_small(base) else 1


def schedule_of(training: suite.Training, arm: Arm) -> Schedule:
    """The schedule of an arm's kind. Raises UsageError where the suite has none."""
    key = schedule_key(arm, training.unit)
    found: Schedule | None = getattr(training, key)
    if found is None:
        raise UsageError(
            f"training.{key}",
            expected=f"batch, steps and learning_rate for {arm.name}",
            got="nothing",
        )
    return found


def schedule_key(arm: Arm, unit: str) -> str:
    return ("dpo_" if arm.method == "dpo" else "") + ("private" if is_noised(arm, unit) else "nonprivate")


def is_noised(arm: Arm, unit: str) -> bool:
    """Whether training itself is private; under unit label what it is given already is."""
    return arm.private and unit != labels.UNIT


def expected_units(run_dir: RunDir, method: str, unit: str) -> int:
    """The expected number of units that a method trains on: candidates count half, however their coins fell."""
    expected = 0.0
    for row in run_dir.read_lines("corpus/candidates.jsonl"):
        if method == "sft":
            examples = len(row["records"])
        else:
            examples = len(row.get("pairs", [])) + bool(row.get("pair"))
        expected += (1.0 if row["kind"] == "certain" else 0.5) * (
            min(examples, 1) if unit == "patient" else examples
        )
    return int(expected)


def ledger(plan: Plan, job: Job, steps_done: int, trainable_parameters: int) -> dict[str, Any]:
    """What privacy.json says: claim, mechanism, and what both accountants make of the steps that were done."""
    from dpaudit import privacy

    training, arm, planned = plan.suite.training, job.arm, job.mechanism
    epsilon: float | str = arm.epsilon if arm.private else "inf"
    spent: dict[str, float | str] = {"epsilon_pld": "inf", "epsilon_rdp": "inf"}
    noised = is_noised(arm, training.unit)
    if noised:
        done = privacy.Mechanism(planned.noise_multiplier, planned.sampling_rate, steps_done, planned.clip)
        spent = {
            "epsilon_pld": privacy.epsilon_spent(done, training.delta, training.relation),
            "epsilon_rdp": privacy.epsilon_rdp(done, training.delta),
        }
    return {
        "arm": {"method": arm.method, "loss": arm.loss, "epsilon": epsilon, "seed": arm.seed},
        "claim": {
            "epsilon": epsilon,
            "delta": training.delta,
            "unit": training.unit,
            "relation": training.relation,
        },
        "mechanism": {
            "noise_multiplier": planned.noise_multiplier,
            "sampling_rate": planned.sampling_rate,
            "steps": planned.steps,
            "clip": planned.clip if noised else None,
        },
        "expected_batch": job.schedule.batch,
        "population": job.population,
        "population_assumed": job.population_assumed,
        **spent,
        "sampler": "poisson",
        "steps_done": steps_done,
        "reproducible_noise": plan.insecure_seed is not None,
        "trainable_parameters": trainable_parameters,
        **(labels.entries(arm.epsilon) if training.unit == labels.UNIT else {}),
    }


def _chosen(plan: Plan, only: list[str] | None) -> list[Arm]:
    known = {arm.name: arm for arm in suite.arms(plan.suite)}
    for name in only or ():
        if name not in known:
            raise UsageError(f"arm {name}", expected=f"one of {', '.join(known)}", got="an unknown arm")
    return [arm for name, arm in known.items() if only is None or name in only]


def _load(run_dir: RunDir, plan: Plan, method: str) -> TrainingSet:
    from dpaudit.models import hf
    from dpaudit.models.encode import encode, encode_pair
    from dpaudit.stages.prepare import load_training
    from dpaudit.training import loop, losses

    chosen = plan.suite
    tokenizer = hf.load_tokenizer(chosen.model.base)
    groups = group_by_unit(load_training(run_dir, method), chosen.training.unit)
    units = [
        [
            loop.Example(
                encode_pair(record, tokenizer, chosen.model.max_length)
                if record.is_pair
                else (encode(record.turns, tokenizer, chosen.model.max_length),)
            )
            for record in records
        ]
        for records in groups.values()
    ]
    truncated = sum(s.truncated for unit in units for example in unit for s in example.sequences)
    if method == "dpo" and any(losses.needs_reference(loss) for loss in chosen.grid.dpo):
        units = loop.with_reference(_base_model(chosen), units, chosen.training.micro_batch)
    return TrainingSet(units, list(groups), truncated)


def _base_model(chosen: suite.Suite) -> Any:
    import torch

    from dpaudit.models import hf

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return hf.load_model(chosen.model.base, chosen.model.dtype).to(device)


def _job(plan: Plan, arm: Arm, schedule: Schedule, counted: int) -> Job:
    from dpaudit import privacy

    training = plan.suite.training
    population = training.population or counted
    if schedule.batch > population:
        raise UsageError(
            f"training.{schedule_key(arm, training.unit)}.batch",
            expected=f"an expected batch of at most {population} units, the population",
            got=str(schedule.batch),
            remedy="lower the batch or give more data",
        )
    rate = schedule.batch / population
    if is_noised(arm, training.unit):
        spec = privacy.PrivacySpec(arm.epsilon, training.delta, training.unit, training.relation)
        try:
            sigma = privacy.calibrate(spec, rate, schedule.steps)
        except ValueError as error:
            raise UsageError(
                "grid.epsilons", expected="a claim that noise can keep", got=str(error)
            ) from error
        mechanism = privacy.Mechanism(sigma, rate, schedule.steps, training.clip)
    else:
        mechanism = privacy.Mechanism(0.0, rate, schedule.steps, float("inf"))
    return Job(arm, schedule, mechanism, population, training.population is None)


def train_arm(
    run_dir: RunDir, plan: Plan, job: Job, data: TrainingSet | None, advance: Callable[[int], None]
) -> None:
    """Trains one arm and writes its directory; `data` is loaded where it is None (in a process of its own)."""
    import torch

    from dpaudit.training import checkpoint, dpsgd, fused, loop

    name, training = job.arm.name, plan.suite.training
    data = data or _load(run_dir, plan, job.arm.method)
    with run_dir.whole_directory(f"train/{name}") as folder, torch.random.fork_rng():
        torch.manual_seed(plan.seed + job.arm.seed)  # dropout: public, as the initial weights are
        model = checkpoint.new_adapter(_base_model(plan.suite), training.lora, plan.seed + job.arm.seed)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        units, objective = _lesson(run_dir, plan, job, data)
        done = loop.train(
            model,
            units,
            job.schedule,
            job.mechanism,
            sampling=dpsgd.sampling_generator(_seed(plan, name, "sampling")),
            noise=dpsgd.noise_generator(model.device, _seed(plan, name, "noise")),
            objective=objective,
            micro_batch=training.micro_batch,
            advance=advance,
        )
        count = sum(p.numel() for p in fused.trainable(model).values())
        spent = ledger(plan, job, len(done.steps), count)
        # The ledger comes before the weights that it covers: no weights without one, however a run ends.
        run_dir.write_json(_inside(run_dir, folder, "privacy.json"), spent, INPUTS)
        base = plan.suite.model.base
        checkpoint.save_adapter(model, folder / "adapter", base, checkpoint.model_card(spent, base))
        run_dir.write_lines(_inside(run_dir, folder, "steps.jsonl"), (asdict(step) for step in done.steps))
        run_dir.write_json(_inside(run_dir, folder, "train.json"), _measured(done, data, count), INPUTS)


def _lesson(
    run_dir: RunDir, plan: Plan, job: Job, data: TrainingSet
) -> "tuple[list[list[Example]], Objective]":
    """What the arm learns from and by which loss; under unit label with the labels that randomised response gave."""
    from dpaudit.training import loop

    arm, training = job.arm, plan.suite.training
    if training.unit != labels.UNIT:
        return data.units, loop.Objective(arm.loss, training.dpo_beta, training.dpo_label_smoothing)
    units = labels.randomised(data.units, data.names, arm.epsilon, _flip_key(run_dir, plan, arm.name))
    return units, loop.Objective(arm.loss, training.dpo_beta, labels.flip_probability(arm.epsilon))


def _flip_key(run_dir: RunDir, plan: Plan, arm: str) -> bytes:
    """The secret that decides an arm's flips. It stays with the run, beside the labels themselves: an arm that is
    trained again learns from the same answers and spends nothing more."""
    if plan.insecure_seed is not None:
        return hashlib.sha256(f"{plan.insecure_seed}/{arm}/flips".encode()).digest()
    file = run_dir.secret_file(f"flips-{arm}.key")
    if not file.is_file():
        write_text(file, secrets.token_hex(32))
        file.chmod(0o600)
    return bytes.fromhex(file.read_text(encoding="utf-8"))


def _measured(done: "Result", data: TrainingSet, trainable_parameters: int) -> dict[str, Any]:
    return {
        "seconds": done.seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "tokens": done.tokens,
        "tokens_per_second": done.tokens / done.seconds,
        "trainable_parameters": trainable_parameters,
        "sequences_truncated": data.truncated,
        "guards": list(done.guards),
    }


def _peak_memory_mb() -> float:
    """The accelerator's peak during this arm, or the process's peak resident memory so far."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**20)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _seed(plan: Plan, arm: str, purpose: str) -> int | None:
    """None, for the operating system's entropy, unless the plan asks for reproducible noise."""
    if plan.insecure_seed is None:
        return None
    text = f"{plan.insecure_seed}/{arm}/{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _inside(run_dir: RunDir, folder: Path, name: str) -> str:
    return str((folder / name).relative_to(run_dir.path))
