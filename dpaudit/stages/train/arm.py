"""One arm: trained from its start or its last checkpoint, and written as a whole."""

import hashlib
import math
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpaudit.errors import PartialError
from dpaudit.privacy import ledger as ledgers
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import TrainedArm, inputs_of
from dpaudit.stages.prepare.jobs import ArmJob, is_trls, ledger_of
from dpaudit.stages.train import lesson, start
from dpaudit.stages.train.training_set import TrainingSet
from dpaudit.storage import notes
from dpaudit.storage.custody import file_digest
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import is_noised
from dpaudit.suite.plan import Plan

if TYPE_CHECKING:
    from dpaudit.privacy.ledger import Ledger
    from dpaudit.stages.train.checkpoints import Checkpoints
    from dpaudit.training.axes import Axes
    from dpaudit.training.examples import Objective, UnitExamples
    from dpaudit.training.loop import Result
    from dpaudit.training.observation import Observation
    from dpaudit.training.ranks import Ranks
    from dpaudit.training.state import Step


def train_arm(
    run_dir: RunDir,
    plan: Plan,
    job: ArmJob,
    data: TrainingSet,
    micro_batch: int | None,
    advance: Callable[[int], None],
) -> None:
    """Trains one arm and writes its directory."""
    import torch

    from dpaudit.models import fused
    from dpaudit.training import events, ranks

    several = ranks.of_environment()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    # hashed first, since a later change is not loaded
    base, outside = weights.of_base(plan.suite.model.base), weights.of_start(plan.suite.model.start)
    begun = start.digest(run_dir, plan, job)
    with torch.random.fork_rng():
        model = several.together(lambda: start.at_start(run_dir, plan, job))
        count = sum(p.numel() for p in fused.trainable(model).values())
        ledger = ledger_of(plan, job, job.schedule.steps, count)
        with events.to(_curves(run_dir, plan, job) if several.first else None) as watch:
            result = _trained(run_dir, plan, job, data, model, ledger, micro_batch, several, advance, watch)
    measured = _measured(result, data, count, several) | {"base": base, "start": outside}
    if several.first:
        _write(run_dir, plan, job, model, result, ledger, measured, begun)
        checkpoints(run_dir, job.arm.name).clear()
    several.wait()  # the next arm may continue from this one


def _write(
    run_dir: RunDir,
    plan: Plan,
    job: ArmJob,
    model: Any,
    result: "Result",
    ledger: "Ledger",
    measured: dict[str, Any],
    begun: str,
) -> None:
    """Writes train/ARM. The ledger comes before the weights that it covers: no weights without one, however a
    run ends.
    """
    from dpaudit.models import adapter_files, model_card, tokenizers

    base, inputs = plan.suite.model.base, inputs_of(plan, job.arm)
    with run_dir.whole_directory(TrainedArm(run_dir, job.arm.name).folder) as folder:
        beside = _inside(run_dir, folder, ledgers.FILE)
        run_dir.write_json(beside, ledger.to_json(), custody.INPUTS)
        card, tokenizer = model_card.model_card(ledger, base), tokenizers.tokenizer_of(plan.suite.model)
        adapter_files.save_adapter(model, folder / "adapter", base, card, tokenizer)
        ledger = adapter_files.bound(ledger, folder / "adapter", base, measured["base"])
        run_dir.write_json(beside, ledger.to_json(), custody.INPUTS)
        run_dir.write_lines(_inside(run_dir, folder, "steps.jsonl"), map(asdict, result.steps))
        if result.seen is not None:
            np.save(folder / "axes.npy", result.seen.observed)
            measured = measured | {"conformance": _conformance(plan, job, result.seen)}
        run_dir.write_json(_inside(run_dir, folder, "train.json"), measured, inputs)
        custody.write_arm(run_dir, folder, job.arm.name, inputs, begun)
        notes.note_trained(run_dir, job.arm.name, file_digest(folder / "adapter" / custody.ADAPTER))


def _trained(
    run_dir: RunDir,
    plan: Plan,
    job: ArmJob,
    data: TrainingSet,
    model: Any,
    ledger: "Ledger",
    micro_batch: int | None,
    several: "Ranks",
    advance: Callable[[int], None],
    watch: "Callable[[Step], None]",
) -> "Result":
    from dpaudit.training import dpsgd, loop

    training, name = plan.suite.training, job.arm.name
    rows, begun = micro_batch or training.micro_batch, start.digest(run_dir, plan, job)
    kept = checkpoints(run_dir, name)
    if math.isfinite(job.mechanism.clip):
        dpsgd.seed_dropout(_seed(plan, name, "dropout"))
    try:
        units, objective = lesson.of_arm(run_dir, plan, job, data, model, rows, several)
        trls = by_trl(plan, job, model, units, objective, rows, advance)
        for step in trls.steps if trls else ():
            watch(step)
        return trls or loop.train(
            model,
            units,
            job.schedule,
            job.mechanism,
            sampling=dpsgd.sampling_generator(_seed(plan, name, "sampling")),
            noise=dpsgd.noise_generator(model.device, _seed(plan, name, "noise")),
            objective=objective,
            micro_batch=rows,
            advance=advance,
            ranks=several,
            axes=_axes(run_dir, plan, job, model, data.units.longest),
            resume=several.together(lambda: kept.latest(ledger, begun)),
            keep=(lambda snapshot: kept.keep(snapshot, ledger, begun)) if several.first else None,
            keep_every=training.checkpoint_every,
            watch=watch,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise PartialError(
            f"training {name}: expected {rows} sequences to fit into memory, got no memory left; "
            f"{_smaller(plan, job, rows)}"
        ) from None


def _curves(run_dir: RunDir, plan: Plan, job: ArmJob) -> Path | None:
    """Where the arm's curves for TensorBoard go, if they are asked for."""
    return run_dir.file(f"tensorboard/{job.arm.name}") if plan.suite.training.tensorboard else None


def _smaller(plan: Plan, job: ArmJob, rows: int) -> str:
    """What to type where memory ran out."""
    from dpaudit.training import losses

    if job.arm.loss in losses.OPEN_ONLY:
        pairs = max(1, plan.suite.training.coupled_pairs // 2)
        return (
            f"a run of its own with --set training.coupled_pairs={pairs} takes less memory, but its loss "
            f"differs"
        )
    return f"type the command again with --micro-batch {max(1, rows // 2)} to continue"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ended, on a processor or an accelerator."""
    import torch

    is_memory_error = isinstance(error, MemoryError | torch.OutOfMemoryError)
    # PyTorch's CPU allocator has no error of its own
    return is_memory_error or "allocate memory" in str(error)


def checkpoints(run_dir: RunDir, arm: str) -> "Checkpoints":
    """The checkpoints of an arm of this run."""
    from dpaudit.stages.train.checkpoints import Checkpoints

    return Checkpoints(run_dir, arm, custody.INPUTS)


def by_trl(
    plan: Plan,
    job: ArmJob,
    model: Any,
    units: "Sequence[UnitExamples]",
    objective: "Objective",
    micro_batch: int,
    advance: Callable[[int], None],
) -> "Result | None":
    """What TRL's trainer did with the adapter; None where the arm is not TRL's to train."""
    training = plan.suite.training
    if not is_trls(training, job.arm):
        return None
    from dpaudit.models import tokenizers
    from dpaudit.training import with_trl

    return with_trl.train(
        model,
        tokenizers.tokenizer_of(plan.suite.model),
        units,
        job.schedule,
        objective,
        seed=plan.seed + job.arm.seed,
        micro_batch=micro_batch,
        coupled_pairs=training.coupled_pairs,
        gradient_checkpointing=training.gradient_checkpointing,
        zero_1=training.deepspeed == "zero1",
        advance=advance,
    )


def _axes(run_dir: RunDir, plan: Plan, job: ArmJob, model: Any, longest: int) -> "Axes | None":
    """The suite's canaries along axes of the weights, with their coins; none in an arm that adds no noise.

    A canary has as many sequences as the `longest` unit, so that one that is not clipped as a whole shows.
    """
    from dpaudit.models import fused
    from dpaudit.stages.prepare.axes import axis_names, count_of
    from dpaudit.stages.prepare.candidates import load_membership
    from dpaudit.training import axes

    names = axis_names(count_of(run_dir))
    if not names or not is_noised(job.arm, plan.suite.training.unit):
        return None
    coins = load_membership(run_dir)
    included = np.array([coins[name] for name in names], dtype=bool)
    sequences = min(longest, axes.SEQUENCES_MOST)
    return axes.spread(fused.trainable(model), included, sequences, plan.seed)


def _conformance(plan: Plan, job: ArmJob, seen: "Observation") -> list[dict[str, str]]:
    from dpaudit.privacy.claim import Claim
    from dpaudit.training import conformance

    training = plan.suite.training
    claim = Claim(job.arm.epsilon, training.delta, training.unit, training.relation)
    return [asdict(check) for check in conformance.checks(seen, job.mechanism, claim)]


def _measured(
    result: "Result", data: TrainingSet, trainable_parameters: int, several: "Ranks"
) -> dict[str, Any]:
    from dpaudit.models import memory

    return {
        "seconds": result.seconds,
        "device": memory.place().name,
        "devices": several.count,
        "peak_memory_mb": several.most(peak_memory_mb()),  # of one device
        "longest": data.units.longest_sequence,
        "tokens": result.tokens,
        "tokens_per_second": result.tokens / result.seconds,
        "trainable_parameters": trainable_parameters,
        "sequences_truncated": data.truncated,
        "guards": list(result.guards),
    }


def peak_memory_mb() -> float:
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
