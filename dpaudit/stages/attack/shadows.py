"""Shadow models in stage attack: an arm's training on halves of the candidates that the attacker draws. Reads
no label.

attack/ARM/shadows/shadow-000/adapter/          the weights
attack/ARM/shadows/shadow-000/membership.json   which candidates they learnt from, and what that was made from
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import Record, unit_of
from dpaudit.errors import PartialError, UsageError
from dpaudit.machines.place import Place
from dpaudit.privacy import ledger as ledgers
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.prepare.jobs import ArmJob, is_trls, schedule_of
from dpaudit.stages.prepare.lessons import examples_of
from dpaudit.stages.train import lesson
from dpaudit.stages.train.arm import is_out_of_memory
from dpaudit.stages.train.start import at_start
from dpaudit.stages.train.train import default_workers, spread
from dpaudit.stages.train.training_set import encoded_units
from dpaudit.storage import exclusive
from dpaudit.storage.custody import folder_digests
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system import parallel
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.training.examples import Objective, UnitExamples
    from dpaudit.training.units import StoredUnits


CANDIDATES = ("canary", "record")  # kinds of rows in candidates.jsonl that a coin decides on


@dataclass(frozen=True)
class Shadow:
    """One shadow model. `members` are the candidates, canaries and units, that it learnt from."""

    folder: Path
    members: frozenset[str]


@dataclass(frozen=True)
class Sources:
    """What all shadows of an arm are made from; each learns from some of `units`, which bear their
    candidate's id.
    """

    job: ArmJob
    units: "StoredUnits"
    candidates: tuple[str, ...]


def check_count(count: int, where: str = "--shadows") -> None:
    """Raises UsageError unless `count` shadows can have every candidate in exactly half of them."""
    if count < 2 or count % 2:
        raise UsageError(
            where,
            "an even number of at least 2, so that every candidate is in half of the shadows",
            str(count),
            "16 is a good start",
        )


def refusal(plan: Plan, arm: Arm) -> UsageError | None:
    """Why an arm can have no shadows; None where it can."""
    where = f"arm {arm.name}"
    if (start := plan.suite.grid.start_of(arm)) is not None:
        return UsageError(
            where,
            "an arm that starts at the base, to train shadows of",
            f"an arm that continues from {start.name}",
            "name others with --arm, or train with grid.chain=false",
        )
    if is_trls(plan.suite.training, arm):
        return UsageError(
            where,
            "an arm of this package's own trainer, to train shadows of",
            "an arm that TRL trains",
            "name others with --arm",
        )
    return None


def ensure(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    arm: Arm,
    count: int,
    workers: int | None = None,
    on: Place | None = None,
) -> None:
    """Trains the missing and stale ones of an arm's first `count` shadows.

    Each copies the arm: all certain units and half of the candidates (extraction canaries too), under the
    arm's schedule, start and mechanism, with its noise and clip; sampling, noise and dropout have public
    seeds of their own, and canaries along axes of the weights are left out. After a kill only the missing
    shadows are trained. `workers` processes train side by side (None: as for arms), or each is
    trained `on` other machines; results do not depend on it.

    Raises UsageError for an odd count, an arm that is not trained or is chained, and while another command
    trains shadows of the run; GuardError where a training guard fires; PartialError where memory ends, and
    the shadows before it stay.
    """
    check_count(count)
    if (refused := refusal(plan, arm)) is not None:
        raise refused
    TrainedArm(run_dir, arm.name).require_current()
    custody.require(run_dir, plan)
    weights.require_base(run_dir, plan)
    if not (missing := _missing(run_dir, arm, count)):
        return
    if on is not None:
        workers = count
    elif workers is None:
        workers = default_workers(plan.suite.model.base)
    parts = [missing[first::workers] for first in range(min(workers, len(missing)))]
    with exclusive.writing(run_dir, "shadows"), _sources(run_dir, plan, arm) as sources:
        jobs = [
            parallel.Job(
                f"training shadows of {arm.name}"
                + (f", part {place} of {len(parts)}" if len(parts) > 1 else ""),
                sources.job.schedule.steps * len(numbers),
                train_shadows,
                (run_dir, plan, sources, numbers),
            )
            for place, numbers in enumerate(parts, 1)
        ]
        spread(jobs, run_dir, plan, progress, workers, on, f"attack/{arm.name}/shadows/training")


def present(run_dir: RunDir, arm: Arm) -> list[Shadow]:
    """The current shadows of an arm, whole pairs only: every candidate is in exactly half of them."""
    shadows: list[Shadow] = []
    number = 0
    while run_dir.file(_folder(arm, number)).is_dir() or run_dir.file(_folder(arm, number + 1)).is_dir():
        pair = (number, number + 1)
        if all(_is_current(run_dir, arm, half) for half in pair):
            shadows += [_read(run_dir, arm, half) for half in pair]
        number += 2
    return shadows


def require(run_dir: RunDir, arm: Arm, least: int) -> list[Shadow]:
    """The current shadows of an arm. Raises UsageError where there are fewer than `least`."""
    shadows = present(run_dir, arm)
    if len(shadows) < least:
        raise UsageError(
            str(run_dir.file(f"attack/{arm.name}/shadows")),
            f"at least {least} shadow adapters of {arm.name}",
            str(len(shadows)),
            f"dpaudit attack mia --run {run_dir.name} --arm {arm.name} --shadows 16",
        )
    return shadows


def inputs(run_dir: RunDir, shadows: Iterable[Shadow]) -> list[str]:
    """The files that scores made with these shadows come from, relative to the run."""
    names = ("membership.json", "adapter/adapter_model.safetensors")
    return [
        (shadow.folder / name).relative_to(run_dir.path).as_posix() for shadow in shadows for name in names
    ]


def members(plan: Plan, arm: Arm, candidates: Iterable[str], number: int) -> frozenset[str]:
    """The candidates that shadow `number` learns from, by the attacker's coins, which are public.

    Shadows 2j and 2j + 1 have a random half each, so any even number of shadows has each candidate in half of
    them, and more shadows change none of the earlier ones.
    """
    order = sorted(candidates)
    random.Random(f"shadows/{plan.seed}/{arm.name}/{number // 2}").shuffle(order)
    half = len(order) // 2
    return frozenset(order[:half] if number % 2 == 0 else order[half:])


def train_shadows(
    run_dir: RunDir, plan: Plan, sources: Sources, numbers: Sequence[int], advance: Callable[[int], None]
) -> None:
    """Trains the numbered shadows one after another on one loaded base; each begins with the arm's own
    start.
    """
    import torch

    from dpaudit.models import fused

    arm, rows = sources.job.arm, plan.suite.training.micro_batch
    with torch.random.fork_rng():
        model = at_start(run_dir, plan, sources.job)
        units, objective = lesson.with_true_labels(plan, arm, sources.units, model, rows)
        start = {name: weight.detach().clone() for name, weight in fused.trainable(model).items()}
        for number in numbers:
            began = time.perf_counter()
            with torch.no_grad():
                for name, weight in fused.trainable(model).items():
                    weight.copy_(start[name])
            chosen = members(plan, arm, sources.candidates, number)
            try:
                _train(plan, sources, number, model, _learnt(sources, units, chosen), objective, advance)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise PartialError(
                    f"training shadow {number} of {arm.name}: expected {rows} sequences to fit into memory, "
                    f"got no memory left; "
                    "free memory or name fewer --workers, then type the command again to continue"
                ) from None
            _write(run_dir, plan, arm, number, model, chosen, time.perf_counter() - began)


def _train(
    plan: Plan,
    sources: Sources,
    number: int,
    model: Any,
    units: "Sequence[UnitExamples]",
    objective: "Objective",
    advance: Callable[[int], None],
) -> None:
    from dpaudit.training import dpsgd, loop

    job = sources.job
    dpsgd.seed_dropout(_seed(plan, job.arm, number, "dropout"))
    loop.train(
        model,
        units,
        job.schedule,
        job.mechanism,
        sampling=dpsgd.sampling_generator(_seed(plan, job.arm, number, "sampling")),
        noise=dpsgd.noise_generator(model.device, _seed(plan, job.arm, number, "noise")),
        objective=objective,
        micro_batch=plan.suite.training.micro_batch,
        advance=advance,
    )


def _write(
    run_dir: RunDir, plan: Plan, arm: Arm, number: int, model: Any, chosen: frozenset[str], seconds: float
) -> None:
    from dpaudit.models import adapter_files

    card = (
        f"# Shadow model of {arm.name}\n\nMade by an attack on that arm, from data without protection: it "
        f"must not be released.\n"
    )
    with run_dir.whole_directory(_folder(arm, number)) as folder:
        adapter_files.save_adapter(model, folder / "adapter", plan.suite.model.base, card)
        file = (folder / "membership.json").relative_to(run_dir.path).as_posix()
        membership = {
            "members": sorted(chosen),
            "seconds": seconds,
            "base": weights.of_base(plan.suite.model.base),
            "shadow": number,
            "files": folder_digests(folder),
        }
        run_dir.write_json(file, membership, _inputs(arm))


@contextmanager
def _sources(run_dir: RunDir, plan: Plan, arm: Arm) -> Iterator[Sources]:
    """The arm's job as its ledger records it, and all units encoded into a work folder that is gone when the
    block ends.
    """
    from dpaudit.training.units import StoredUnits

    ledger = ledgers.of_arm(run_dir, arm.name)
    schedule = schedule_of(plan.suite.training, arm)
    job = ArmJob(arm, schedule, ledger.acting, ledger.population, ledger.population_assumed)
    encoded = encoded_units(plan, _units(run_dir, plan, arm))
    units = StoredUnits.write(run_dir.new_folder(f"attack/{arm.name}/shadows/units"), encoded)
    rows = run_dir.iterate_lines("corpus/candidates.jsonl")
    try:
        yield Sources(job, units, tuple(row["id"] for row in rows if row["kind"] in CANDIDATES))
    finally:
        units.close()


def _units(run_dir: RunDir, plan: Plan, arm: Arm) -> Iterator[tuple[str, Iterator[Record]]]:
    """Every unit under the id of its row in candidates.jsonl, which may hold several units."""
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        records = examples_of(row, arm.method)
        for _, unit in groupby(records, lambda record: unit_of(record, plan.suite.training.unit)):
            yield row["id"], unit


def _learnt(
    sources: Sources, units: "Sequence[UnitExamples]", chosen: frozenset[str]
) -> "Sequence[UnitExamples]":
    """The certain units and those of the chosen candidates, read as they are needed."""
    from dpaudit.training.lazy import Lazy

    left_out = set(sources.candidates) - chosen
    places = [place for place, name in enumerate(sources.units.names) if name not in left_out]
    return Lazy(len(places), lambda place: units[places[place]])


def _missing(run_dir: RunDir, arm: Arm, count: int) -> list[int]:
    return [number for number in range(count) if not _is_current(run_dir, arm, number)]


def _is_current(run_dir: RunDir, arm: Arm, number: int) -> bool:
    folder = _folder(arm, number)
    if not run_dir.is_current(f"{folder}/membership.json", _inputs(arm)):
        return False
    known = run_dir.read_json(f"{folder}/membership.json")
    custody.require_files(run_dir, folder, known["files"], {"membership.json"})
    base = TrainedArm(run_dir, arm.name).figures().get("base")
    return run_dir.read_json(f"{folder}/membership.json").get("base", base) == base


def _read(run_dir: RunDir, arm: Arm, number: int) -> Shadow:
    known = run_dir.read_json(f"{_folder(arm, number)}/membership.json")
    return Shadow(run_dir.file(_folder(arm, number)), frozenset(known["members"]))


def _folder(arm: Arm, number: int) -> str:
    return f"attack/{arm.name}/shadows/shadow-{number:03d}"


def _inputs(arm: Arm) -> tuple[str, ...]:
    return (*custody.INPUTS, ledgers.file_of(arm.name))


def _seed(plan: Plan, arm: Arm, number: int, purpose: str) -> int:
    text = f"shadows/{plan.seed}/{arm.name}/{number}/{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
