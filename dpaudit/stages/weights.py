"""Weights that a run's results come from and that lie outside of it: its base, a reference, an adapter it goes on from."""

import hashlib
import json
from functools import cache
from pathlib import Path

from dpaudit import suite
from dpaudit.errors import UsageError
from dpaudit.rundir import RunDir
from dpaudit.suite import Plan


def of_folder(folder: Path) -> dict[Path, str]:
    """Every safetensors file of a model's or an adapter's folder -> SHA-256; a hub id is no folder and has none here."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("adapter/*.safetensors")])
    return {file: _digest(file, (at := file.stat()).st_size, at.st_mtime_ns) for file in files}


def of_base(base: str) -> dict[str, str]:
    """The base's files by name, wherever its folder lies -> SHA-256."""
    from dpaudit.models import hf

    return {file.name: digest for file, digest in of_folder(Path(hf.resolve(base))).items()}


def require_base(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError where an arm of the run was trained on other weights than the base has now.

    Its adapter says nothing there: an attack would find no member, and a claim would stand that nobody tested. All
    arms are looked at, whichever are asked for: those of two bases cannot be compared.
    """
    for arm in suite.arms(plan.suite):
        require_trained_on(run_dir.file(f"train/{arm.name}/train.json"), plan.suite.model.base,
                           f"delete {run_dir.file('train')} to train all arms anew")  # fmt: skip


def require_trained_on(ledger: Path, base: str, otherwise: str) -> None:
    """Raises UsageError where `ledger`, a train.json, names other weights than `base` has.

    An arm of an earlier version, which did not write its base down, and an adapter without such a file pass. Beside an
    adapter of others a file of that name may hold anything.
    """
    try:
        told = json.loads(ledger.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    then = told.get("base") if isinstance(told, dict) else None
    if not then or not isinstance(then, dict):
        return
    now = of_base(base)
    if now != then:
        raise UsageError(str(ledger), expected=f"an adapter of the weights that {base} has now", got="one of others" if now else f"none at {base}",
                         remedy=f"restore that model, or {otherwise}")  # fmt: skip


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file as it was at that time, read once."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
