"""The weights that the training of an arm begins with."""

import hashlib
import json
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.privacy.ledger import Ledger
from dpaudit.stages.integrity import weights
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.prepare.jobs import ArmJob
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan


def at_start(run_dir: RunDir, plan: Plan, job: ArmJob) -> Any:
    """The model with the adapter that the arm begins with: a new one, or that of the earlier stage."""
    from dpaudit.models import adapter_files

    model = fresh(plan, plan.seed + job.arm.seed)
    if job.start is not None:
        check(job, TrainedArm(run_dir, job.start.name).ledger())
    if (folder := _folder(run_dir, plan, job)) is not None:
        adapter_files.load_adapter(model, folder)
    return model


def fresh(plan: Plan, seed: int) -> Any:
    """The base with a new adapter, as arms train it. Seeds this process's generators."""
    import torch

    from dpaudit.models import adapter_files

    training = plan.suite.training
    torch.manual_seed(seed)  # public; the dropout of a private arm is seeded later
    model = adapter_files.new_adapter(_base_model(plan), training.lora, seed)
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _base_model(plan: Plan) -> Any:
    from dpaudit.models import hf

    settings = plan.suite.model
    return hf.on_device(
        hf.load_model(settings.base, settings.dtype, settings.quantization, settings.attention)
    )


def _folder(run_dir: RunDir, plan: Plan, job: ArmJob) -> Path | None:
    """The adapter that the arm continues from: that of the earlier stage, or the run's own start."""
    if job.start is not None:
        return TrainedArm(run_dir, job.start.name).adapter
    if plan.suite.model.start is None:
        return None
    folder = Path(plan.suite.model.start)
    return folder / "adapter" if (folder / "adapter").is_dir() else folder


def digest(run_dir: RunDir, plan: Plan, job: ArmJob) -> str:
    """SHA-256 of the weights that the arm begins with: the base's, and those of an adapter that it continues
    from.
    """
    folder = _folder(run_dir, plan, job)
    files = sorted(file for file in folder.glob("adapter_model*") if file.is_file()) if folder else []
    began = [
        *weights.of_base(plan.suite.model.base).items(),
        *((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files),
    ]
    return hashlib.sha256(json.dumps(began).encode()).hexdigest()


def check(job: ArmJob, ledger: Ledger) -> None:
    """Raises UsageError unless the start's ledger says what this arm's claim was composed with."""
    *_, start = job.mechanism.stages
    if ledger.mechanisms != start.each or ledger.steps_done != start.steps:
        raise UsageError(
            str(ledger.file),
            "the ledger that this arm's claim was composed with",
            "another ledger",
            "delete that arm's folder and train it again",
        )
