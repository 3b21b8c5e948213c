"""Trains a control for `verify`: an adapter on the planted data, by our own engine and without noise."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError
from dpaudit.pipeline import sequence
from dpaudit.planting import audit_key, hold_out
from dpaudit.planting.audit_key import AuditKey
from dpaudit.stages.integrity import weights
from dpaudit.stages.verify_control import RECORD
from dpaudit.storage import exclusive
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

T = TypeVar("T")

FOLDER = "control"  # below the folder of the page
EPOCHS, BATCH, RATE, LONGEST = 3, 8, 1e-3, 512
ALIKE = "of the same data, base, LoRA, steps and rate"
REHEARSED = 4  # steps that are timed before a control is trained


@dataclass(frozen=True)
class Wanted:
    """How a control is trained; None: EPOCHS of the rows, and RATE."""

    steps: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError("--control-steps", "at least 1", str(self.steps))
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError("--control-rate", "a number between 0 and 1", f"{self.learning_rate:g}")


@dataclass(frozen=True)
class Planned:
    """A control that can be trained: for which key and data, beside which adapters, and into which folder.

    Its LoRA and base are those of the audited `adapters`, or its LoRA that of a plain suite where there are
    none.
    """

    adapters: Sequence[Path]
    base: str | None
    key_file: Path
    data: Path | None
    out: Path
    wanted: Wanted

    def check(self) -> None:
        """Raises UsageError without the data or the base, for adapters that differ in LoRA or base, and where
        another control is in the folder.
        """
        with self._ready() as (_, record):
            _is_there(self.out / FOLDER, record)

    def train(self, progress: Progress) -> Path:
        """The folder `out`/control with a control for this key: the one that is there if it is of the same
        data, base, LoRA, steps and rate, else a new one. Raises as `check`.
        """
        target = self.out / FOLDER
        with self._ready() as (made, record):
            if _is_there(target, record):
                progress.say(f"control: {target} is there, {ALIKE}")
                return target
            _tell(made, record["steps"], progress)
            _make(made, target, record, progress)
        return target

    @contextmanager
    def _ready(self) -> Iterator[tuple[Suite, dict[str, Any]]]:
        """The suite that trains it, and its record."""
        key = audit_key.load(self.key_file)
        audit_key.check(key, self.key_file, None if key.held_out else self.data)
        if self.data is None:
            raise UsageError(
                "--train-control", "--data FILE beside it, to train on", "no --data", "add --data FILE"
            )
        lora, named = _lora(self.adapters), _base(self.adapters, self.base)
        with _planted(key, self.data) as planted:
            rows = [record for _, record in read_records(str(planted))]
            record = {
                "data_digest": key.data_digest,
                "steps": self.wanted.steps or -(-EPOCHS * len(rows) // BATCH),
                "learning_rate": self.wanted.learning_rate or RATE,
                "batch": BATCH,
                "base": weights.of_base(named),
                "lora": json.loads(json.dumps(asdict(lora))),
            }
            yield _suite(rows, planted, named, lora, record), record


def _make(made: Suite, target: Path, record: dict[str, Any], progress: Progress) -> None:
    with _trained(made, progress) as (arm, rows_of_steps):
        losses = [row["loss"] for row in rows_of_steps if row["loss"]]
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive.making(target):
            shutil.copytree(arm / "adapter", target)
            kept = record | {"training_loss": sum(losses[-20:]) / len(losses[-20:])}
            (target / RECORD).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _trained(made: Suite, progress: Progress) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """The folder of the arm without noise, until the block ends, and what each step did."""
    with exclusive.scratch() as folder:
        run_dir = sequence.train(Plan(made), folder, progress.tasks_alone(), workers=1)
        (arm,) = run_dir.file("train").glob("*-inf")
        yield arm, run_dir.read_lines(f"train/{arm.name}/steps.jsonl")


def _tell(made: Suite, steps: int, progress: Progress) -> None:
    """Says how long the training will take on this machine, unless it is as short as a rehearsal of it."""
    about = f"training a control without noise: {steps:,} steps of {BATCH} rows"
    if steps > REHEARSED:
        with progress.task("control: timing its first steps", total=1) as advance:
            seconds = _expected(made, steps)
            advance(1)
        minutes = round(seconds / 60)
        took = f"{minutes:,} minutes" if minutes > 1 else f"{seconds:.0f} seconds"
        about += f", about {took} for the training alone; the time to score it comes on top"
    progress.say(about)


def _expected(made: Suite, steps: int) -> float:
    """Seconds that a training of so many steps takes: of REHEARSED steps of the same suite on the same data.

    The first step, which prepares what later ones find, is not taken as one of them. Batches vary in size, so
    a row is timed.
    """
    began, short = time.perf_counter(), replace(made.training.nonprivate, steps=REHEARSED)
    training = replace(made.training, nonprivate=short, dpo_nonprivate=short, cpt_nonprivate=short)
    with _trained(replace(made, training=training), Progress(quiet=True)) as (_, done):
        whole = time.perf_counter() - began
    seconds = [float(step["seconds"]) for step in done]
    a_row = sum(seconds[1:]) / max(1, sum(int(step["units"]) for step in done[1:]))
    return whole - sum(seconds) + steps * BATCH * a_row


@contextmanager
def _planted(key: AuditKey, data: Path) -> Iterator[Path]:
    """The planted file: `data` itself, or, of a key that holds units out, `data` without those left out."""
    if not key.held_out:
        yield data
        return
    with exclusive.scratch() as folder:
        hold_out.rebuild(key, data, folder / f"planted{data.suffix}")
        yield folder / f"planted{data.suffix}"


def _is_there(target: Path, record: dict[str, Any]) -> bool:
    if not target.exists():
        return False
    try:
        known = json.loads((target / RECORD).read_text(encoding="utf-8"))
        if {name: known.get(name) for name in record} == record:
            return True
    except (OSError, ValueError, AttributeError):
        pass
    raise UsageError(
        str(target),
        f"no control, or one {ALIKE}",
        "another control",
        "name another folder with --out DIR, or move it away",
    )


def _base(adapters: Sequence[Path], base: str | None) -> str:
    from dpaudit.models import merge

    if base is not None:
        return base
    if not adapters:
        raise UsageError(
            "--train-control", "--base DIR, the model to train on", "no --base", "add --base DIR"
        )
    return _common([merge.base_of(adapter) for adapter in adapters], "one base")


def _lora(adapters: Sequence[Path]) -> Lora:
    """Rank, alpha and targets of the audited adapters, from their own settings."""
    if not adapters:
        return Lora(rank=16, alpha=32)
    return _common(
        [_lora_of(adapter / "adapter_config.json") for adapter in adapters], "one rank, alpha and targets"
    )


def _common(found: Sequence[T], what: str) -> T:
    """What is the same of all adapters: only then is one control like each of them."""
    if len(set(found)) > 1:
        raise UsageError(
            "--train-control",
            f"adapters of {what}, which the control takes over",
            "adapters that differ",
            "verify them in calls of their own, each with its --out DIR",
        )
    return found[0]


def _lora_of(file: Path) -> Lora:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        targets = known["target_modules"]
        return Lora(
            rank=int(known["r"]),
            alpha=int(known["lora_alpha"]),
            rslora=bool(known.get("use_rslora", False)),
            targets=targets if isinstance(targets, str) else tuple(sorted(map(str, targets))),
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            str(file),
            "the settings of a LoRA adapter, whose rank, alpha and targets a control takes over",
            "other settings",
            "train a control yourself and give it with --control DIR",
        ) from None


def _suite(rows: list[Any], planted: Path, base: str, lora: Lora, record: dict[str, Any]) -> Suite:
    schedule = Schedule(BATCH, record["steps"], record["learning_rate"])
    is_pair, is_text = rows[0].is_pair, rows[0].text is not None
    return Suite(
        "control",
        Training(
            schedule,
            schedule,
            dpo_nonprivate=schedule,
            cpt_nonprivate=schedule,
            unit="record",
            micro_batch=BATCH,
            lora=lora,
        ),
        model=Model(base, max_length=LONGEST),
        data=Data(
            str(planted), str(planted) if is_pair else None, str(planted) if is_text else None, heldout=0
        ),
        candidates=Candidates(canaries=0, records=0, extraction=0, gradient=0),
        grid=Grid(
            (),
            dpo=("sigmoid",) if is_pair else (),
            stages=() if is_pair else ("cpt",) if is_text else ("sft",),
        ),
        attacks=(),
        judging=None,
    )
