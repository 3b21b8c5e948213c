"""Weights that a run's results come from and that lie outside of it: its base, a reference, an adapter it goes on from."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

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


def require_base(run_dir: RunDir, plan: Plan, arms: Iterable[str]) -> None:
    """Raises UsageError where one of the arms was trained on other weights than the base has now.

    Its adapter says nothing there: an attack would find no member, and a claim would stand that nobody tested. An arm
    of an earlier version, which did not write the base down, passes.
    """
    for arm in arms:
        ledger = f"train/{arm}/train.json"
        then = run_dir.read_json(ledger).get("base") if run_dir.file(ledger).is_file() else None
        if then is not None and then != of_base(plan.suite.model.base):
            raise UsageError(str(run_dir.file(ledger)), expected=f"an adapter of the weights that {plan.suite.model.base} has now", got="one of others",
                             remedy=f"restore that model, or delete {run_dir.file(f'train/{arm}')} to train the arm anew")  # fmt: skip


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file as it was at that time, read once."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
