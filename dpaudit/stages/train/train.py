"""Train: one LoRA adapter per arm of the grid, each with its privacy ledger."""

import hashlib
import json
import math
import os
import resource
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpaudit.data.corpus import Record, unit_of
from dpaudit.errors import PartialError, UsageError
from dpaudit.privacy import ledger as ledgers
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import TrainedArm, inputs_of
from dpaudit.stages.prepare.dialogues import Tally
from dpaudit.stages.prepare.lessons import examples_of, expected_weight, units_in
from dpaudit.stages.train.jobs import Job, is_noised, is_trls, jobs_of, ledger_of, with_starts
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import suite
from dpaudit.suite.grid import Arm, Method
from dpaudit.suite.plan import Plan
from dpaudit.system import parallel
from dpaudit.system.progress import Progress
from dpaudit.training import labels

if TYPE_CHECKING:
    from dpaudit.privacy.ledger import Ledger
    from dpaudit.stages.train.checkpoints import Checkpoints
    from dpaudit.training.axes import Axes
    from dpaudit.training.examples import Example, Objective, Unit
    from dpaudit.training.loop import Result
    from dpaudit.training.observation import Observation
    from dpaudit.training.ranks import Ranks
    from dpaudit.training.units import StoredUnits

SLOW = (
    "model.dtype bfloat16: this processor has no instructions for it, and a training on such a one took "
    "eight times as "
    "long as with --set model.dtype=float32"
)


@dataclass(frozen=True)
class TrainingSet:
    """What the arms of one method learn from, grouped by unit."""

    units: "StoredUnits"  # read when they are asked for
    names: Sequence[str]  # of the units
    truncated: int  # sequences cut at model.max_length


def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    only: list[str] | None = None,
    workers: int | None = None,
    micro_batch: int | None = None,
) -> None:
    """Trains every arm of the plan's grid, or those named in `only`, that is not there yet or is stale.

    Writes train/ARM with privacy.json, train.json, steps.jsonl and adapter/, as a whole or not at all; an arm
    that was killed goes on from its last checkpoint. All settings are checked before the first arm trains.
    `workers` arms train side by side, each in a process of its own (None: as many as there are cores where
    the model is small, else one); results do not depend on it, nor on `micro_batch`, which goes before the
    plan's. Raises UsageError for an arm that is not of the grid, a batch above the population, an arm without
    schedule; GuardError where a training guard fires; PartialError where memory runs out. Under `torchrun`
    its processes train each arm together.
    """
    from dpaudit.training import ranks

    several = ranks.of_environment()
    jobs = several.once(lambda: _waiting_jobs(run_dir, plan, only))
    if not jobs:
        return
    if several.count > 1:
        _check_joint(plan, jobs)
        workers = 1
    for job in jobs if several.first else ():
        if job.arm.private and custody.trained_before(run_dir, job.arm.name):
            progress.say(
                f"note: {job.arm.name} was trained before; training it again is a second release on the same "
                f"records, and its epsilon counts one"
            )
    if several.first and is_slow(plan.suite.model.dtype):
        progress.say(SLOW)
    workers = default_workers(plan.suite.model.base) if workers is None else workers
    lessons = {job.arm.lesson: job.arm for job in jobs}
    say = progress.say if several.first else None
    with ExitStack() as stack:
        data = several.together(
            lambda: {
                name: stack.enter_context(_loaded(run_dir, plan, arm.method, arm.twin, say))
                for name, arm in lessons.items()
            }
        )
        parallel.run(
            [
                parallel.Job(
                    _title(job.arm),
                    job.schedule.steps,
                    train_arm,
                    (run_dir, plan, job, data[job.arm.lesson], micro_batch),
                    after=_title(job.start) if job.start else None,
                )
                for job in jobs
            ],
            workers,
            progress,
        )


def is_slow(dtype: str) -> bool:
    """Whether training would run on a processor that has no instructions for its number format."""
    import torch

    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype != "bfloat16" or torch.cuda.is_available() or not has_onednn:
        return False  # without oneDNN nobody knows
    return not bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _title(arm: Arm) -> str:
    return f"training {arm.name}"


def _waiting_jobs(run_dir: RunDir, plan: Plan, only: list[str] | None) -> list[Job]:
    """The jobs of the arms that are not there yet or are stale; what a kill left of the others is tidied up.

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
            _checkpoints(run_dir, arm.name).clear()
            custody.note_trained(run_dir, arm.name)
    lessons = {arm.lesson: arm for arm in with_starts(plan, waiting)}
    unit = plan.suite.training.unit
    counts = {name: expected_units(run_dir, arm.method, unit, arm.twin) for name, arm in lessons.items()}
    return jobs_of(plan, waiting, counts)


def _check_joint(plan: Plan, jobs: list[Job]) -> None:
    """Raises UsageError for an arm that several processes cannot train together."""
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


def expected_units(run_dir: RunDir, method: str, unit: str, twin: bool = False) -> int:
    """The expected number of units that a method trains on: candidates count half, however their coins fell.

    A `twin` has no canaries.
    """
    expected = 0.0
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if not (twin and row["kind"] == "canary"):
            expected += expected_weight(row) * units_in(len(examples_of(row, method)), unit)
    return int(expected)


def _load(
    run_dir: RunDir,
    plan: Plan,
    method: Method,
    twin: bool = False,
    say: Callable[[str], None] | None = None,
) -> TrainingSet:
    """The units of a method (but canaries where a `twin` learns), encoded into a work folder of the run that
    goes away with them.

    What of them is not learned is told by `say`.
    """
    from dpaudit.stages.prepare.prepare import load_training
    from dpaudit.training.units import StoredUnits

    unit = plan.suite.training.unit
    in_units = groupby(load_training(run_dir, method, twin), lambda record: unit_of(record, unit))
    folder = run_dir.new_folder(f"units-{method}{'-twin' if twin else ''}")
    tally = Tally()
    units = StoredUnits.write(folder, tally.passing(encoded_units(plan, in_units)))
    for line in tally.lines(plan.suite.model, f"training {method}{' without canaries' if twin else ''}"):
        if say is not None:
            say(line)
    return TrainingSet(units, units.names, units.truncated)


@contextmanager
def _loaded(
    run_dir: RunDir, plan: Plan, method: Method, twin: bool, say: Callable[[str], None] | None
) -> Iterator[TrainingSet]:
    """`_load`, whose folder is gone when the block ends, however it ends."""
    found = _load(run_dir, plan, method, twin, say)
    try:
        yield found
    finally:
        found.units.close()


def encoded_units(
    plan: Plan, units: Iterable[tuple[str, Iterable[Record]]]
) -> "Iterator[tuple[str, list[Example]]]":
    """Named units of records as the plan's model reads them, one at a time."""
    from dpaudit.models import hf
    from dpaudit.models.encode import encode_record
    from dpaudit.training import examples

    chosen = plan.suite.model
    tokenizer = hf.tokenizer_of(chosen)
    lengths = (chosen.max_length, chosen.pair_prompt, chosen.pair_answer)
    for name, records in units:
        yield name, [examples.Example(encode_record(record, tokenizer, *lengths)) for record in records]


def _base_model(chosen: suite.Suite) -> Any:
    from dpaudit.models import hf

    settings = chosen.model
    return hf.on_device(
        hf.load_model(settings.base, settings.dtype, settings.quantization, settings.attention)
    )


def train_arm(
    run_dir: RunDir,
    plan: Plan,
    job: Job,
    data: TrainingSet,
    micro_batch: int | None,
    advance: Callable[[int], None],
) -> None:
    """Trains one arm and writes its directory."""
    import torch

    from dpaudit.models import adapter_files, fused, hf
    from dpaudit.training import ranks

    several = ranks.of_environment()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    base = plan.suite.model.base
    read = weights.of_base(base)  # before they are loaded: weights that change later are not these
    tokenizer = hf.tokenizer_of(plan.suite.model)
    begun = _start_digest(run_dir, plan, job)
    with torch.random.fork_rng():
        model = several.together(lambda: at_start(run_dir, plan, job))
        count = sum(p.numel() for p in fused.trainable(model).values())
        ledger = ledger_of(plan, job, job.schedule.steps, count)
        done = _trained(run_dir, plan, job, data, model, ledger, micro_batch, several, advance)
    if several.first:
        with run_dir.whole_directory(TrainedArm(run_dir, job.arm.name).folder) as folder:
            # The ledger comes before the weights that it covers: no weights without one, however a run ends.
            beside = _inside(run_dir, folder, ledgers.FILE)
            run_dir.write_json(beside, ledger.to_json(), custody.INPUTS)
            card = adapter_files.model_card(ledger, base)
            adapter_files.save_adapter(model, folder / "adapter", base, card, tokenizer)
            ledger = adapter_files.bound(ledger, folder / "adapter", base, read)
            run_dir.write_json(beside, ledger.to_json(), custody.INPUTS)
            run_dir.write_lines(
                _inside(run_dir, folder, "steps.jsonl"), (asdict(step) for step in done.steps)
            )
            measured = _measured(done, data, count) | {"base": read}
            if done.seen is not None:
                np.save(folder / "axes.npy", done.seen.observed)
                measured["conformance"] = _conformance(plan, job, done.seen)
            inputs = inputs_of(plan, job.arm)
            run_dir.write_json(_inside(run_dir, folder, "train.json"), measured, inputs)
            custody.write_arm(run_dir, folder, job.arm.name, inputs, begun)
        custody.note_trained(run_dir, job.arm.name)
        _checkpoints(run_dir, job.arm.name).clear()
    several.wait()  # the next arm may go on from this one


def at_start(run_dir: RunDir, plan: Plan, job: Job) -> Any:
    """The model with the adapter that the arm begins with: a fresh one, or that of the stage before."""
    import torch

    from dpaudit.models import adapter_files

    training, seed = plan.suite.training, plan.seed + job.arm.seed
    torch.manual_seed(seed)  # public; the dropout of a private arm is seeded later
    model = adapter_files.new_adapter(_base_model(plan.suite), training.lora, seed)
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if job.start is not None:
        _check_start(job, TrainedArm(run_dir, job.start.name).ledger())
    if (folder := _start_folder(run_dir, plan, job)) is not None:
        adapter_files.load_adapter(model, folder)
    return model


def _start_folder(run_dir: RunDir, plan: Plan, job: Job) -> Path | None:
    """The adapter that the arm goes on from: that of the stage before, or the one that the run was given."""
    if job.start is not None:
        return TrainedArm(run_dir, job.start.name).adapter
    if plan.suite.model.start is None:
        return None
    folder = Path(plan.suite.model.start)
    return folder / "adapter" if (folder / "adapter").is_dir() else folder


def _start_digest(run_dir: RunDir, plan: Plan, job: Job) -> str:
    """SHA-256 of the weights that the arm begins with: the base's, and those of an adapter that it goes on
    from.
    """
    folder = _start_folder(run_dir, plan, job)
    files = sorted(file for file in folder.glob("adapter_model*") if file.is_file()) if folder else []
    began = [
        *weights.of_base(plan.suite.model.base).items(),
        *((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files),
    ]
    return hashlib.sha256(json.dumps(began).encode()).hexdigest()


def _check_start(job: Job, ledger: "Ledger") -> None:
    """Raises UsageError unless the start's ledger says what this arm's claim was composed with."""
    *_, start = job.mechanism.stages
    if ledger.mechanisms != start.each or ledger.steps_done != start.steps:
        raise UsageError(
            str(ledger.file),
            "the ledger that this arm's claim was composed with",
            "another one",
            "delete that arm's folder and train it again",
        )


def _trained(
    run_dir: RunDir,
    plan: Plan,
    job: Job,
    data: TrainingSet,
    model: Any,
    ledger: "Ledger",
    micro_batch: int | None,
    several: "Ranks",
    advance: Callable[[int], None],
) -> "Result":
    from dpaudit.training import dpsgd, loop

    training, name = plan.suite.training, job.arm.name
    rows, start = micro_batch or training.micro_batch, _start_digest(run_dir, plan, job)
    kept = _checkpoints(run_dir, name)
    if math.isfinite(job.mechanism.clip):
        dpsgd.seed_dropout(_seed(plan, name, "dropout"))
    try:
        units, objective = _lesson(run_dir, plan, job, data, model, rows, several)
        by_trl = _by_trl(plan, job, model, units, objective, rows, advance)
        return by_trl or loop.train(
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
            axes=_axes(run_dir, plan, job, model),
            resume=several.together(lambda: kept.latest(ledger, start)),
            keep=(lambda snapshot: kept.keep(snapshot, ledger, start)) if several.first else None,
            keep_every=training.checkpoint_every,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise PartialError(
            f"training {name}: expected {rows} sequences to fit into memory, got none left; "
            f"{_smaller(plan, job, rows)}"
        ) from None


def _smaller(plan: Plan, job: Job, rows: int) -> str:
    """What to type where memory ran out."""
    from dpaudit.training import losses

    if job.arm.loss in losses.OPEN_ONLY:
        pairs = max(1, plan.suite.training.coupled_pairs // 2)
        return (
            f"a run of its own with --set training.coupled_pairs={pairs} takes less, and its loss is another"
        )
    return f"type the command again with --micro-batch {max(1, rows // 2)} to continue"


def _axes(run_dir: RunDir, plan: Plan, job: Job, model: Any) -> "Axes | None":
    """The suite's canaries along axes of the weights, with their coins; none in an arm that adds no noise."""
    from dpaudit.models import fused
    from dpaudit.stages.prepare.prepare import axis_names, load_membership
    from dpaudit.training import axes

    names = axis_names(plan.suite.candidates.gradient)
    if not names or not is_noised(job.arm, plan.suite.training.unit):
        return None
    coins = load_membership(run_dir)
    included = np.array([coins[name] for name in names], dtype=bool)
    sequences = 2 if job.arm.method == "dpo" else 1
    return axes.spread(fused.trainable(model), included, sequences, plan.seed)


def _conformance(plan: Plan, job: Job, seen: "Observation") -> list[dict[str, str]]:
    from dpaudit.privacy.claim import Claim
    from dpaudit.training import conformance

    training = plan.suite.training
    claim = Claim(job.arm.epsilon, training.delta, training.unit, training.relation)
    return [asdict(check) for check in conformance.checks(seen, job.mechanism, claim)]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ended, on a processor or an accelerator."""
    import torch

    told = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return told or "allocate memory" in str(error)  # PyTorch's CPU allocator has no error of its own


def _checkpoints(run_dir: RunDir, arm: str) -> "Checkpoints":
    from dpaudit.stages.train.checkpoints import Checkpoints

    return Checkpoints(run_dir, arm, custody.INPUTS)


def _lesson(
    run_dir: RunDir, plan: Plan, job: Job, data: TrainingSet, model: Any, rows: int, several: "Ranks"
) -> "tuple[Sequence[Unit], Objective]":
    """What the arm learns from and by which loss; under unit label with the labels that randomised response
    gave.
    """
    from dpaudit.training import examples

    arm, training = job.arm, plan.suite.training
    units, objective = lesson(plan, arm, data.units, model, rows)
    if training.unit != labels.UNIT:
        return units, objective
    key = several.once(lambda: _flip_key(run_dir, plan, arm.name))
    turned = labels.randomised(units, data.names, arm.epsilon, key)
    return turned, examples.Objective(arm.loss, training.dpo_beta, labels.flip_probability(arm.epsilon))


def lesson(
    plan: Plan, arm: Arm, units: "Sequence[Unit]", model: Any, rows: int
) -> "tuple[Sequence[Unit], Objective]":
    """The units as an arm's loss needs them, and that loss, for labels as they are.

    The reference of a DPO loss is the model as it is at the start; its log-probabilities are computed once,
    `rows` sequences at a time.
    """
    from dpaudit.training import examples, losses

    training = plan.suite.training
    if arm.method != "dpo":
        return units, examples.Objective("sft")
    if losses.needs_reference(arm.loss):
        units = examples.with_reference(model, units, rows)
    return units, examples.Objective(arm.loss, training.dpo_beta, training.dpo_label_smoothing)


def _by_trl(
    plan: Plan,
    job: Job,
    model: Any,
    units: "Sequence[Unit]",
    objective: "Objective",
    micro_batch: int,
    advance: Callable[[int], None],
) -> "Result | None":
    """What TRL's trainer did with the adapter; None where the arm is not TRL's to train."""
    training = plan.suite.training
    if not is_trls(training, job.arm):
        return None
    from dpaudit.models import hf
    from dpaudit.training import with_trl

    return with_trl.train(
        model,
        hf.tokenizer_of(plan.suite.model),
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


def _flip_key(run_dir: RunDir, plan: Plan, arm: str) -> bytes:
    """The secret that decides an arm's flips. It stays with the run, beside the labels themselves: an arm
    that is trained again learns from the same answers and spends nothing more.
    """
    if plan.insecure_seed is not None:
        return hashlib.sha256(f"{plan.insecure_seed}/{arm}/flips".encode()).digest()
    file = f"secret/flips-{arm}.json"
    if not run_dir.file(file).is_file():
        run_dir.write_json(file, {"key": secrets.token_hex(32)})
        run_dir.file(file).chmod(0o600)
    return bytes.fromhex(run_dir.read_json(file)["key"])


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
