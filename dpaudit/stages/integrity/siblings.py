"""The other runs of a folder that concern one of its runs: those that learn from the same data, and those
that repeat it. By names alone: no data is read here.
"""

from collections.abc import Collection
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.privacy import ledger as ledgers
from dpaudit.stages.integrity.custody import CORPUS
from dpaudit.storage import run_store
from dpaudit.storage.rundir import PLAN, RunDir

SAME_DATA = "same_data"  # key of the corpus manifest: the runs that were there when this one began


def others(run_dir: RunDir) -> list[RunDir]:
    """All other runs of its folder, by name."""
    known = run_store.existing(run_dir.path.parent)
    return sorted((run for run in known if run.name != run_dir.name), key=lambda run: run.name)


def on_same_data(run_dir: RunDir, known: Collection[str] = ()) -> list[RunDir]:
    """The other runs on the same data that have a private arm trained, begun before this one or after it;
    those that are `known` by name to have its data, too: a run that is not begun names none itself.
    """
    mine = _same_data(run_dir) | set(repeated(run_dir)) | set(known)
    return [
        other
        for other in others(run_dir)
        if (other.name in mine or run_dir.name in _same_data(other) | set(repeated(other)))
        and has_private_arm(other)
    ]


def repeats_of(run_dir: RunDir, directly: bool = False) -> list[str]:
    """The names of the runs that repeat this one; `directly`: with no other run of their chain between."""
    return [
        other.name
        for other in others(run_dir)
        if run_dir.name in (repeated(other)[-1:] if directly else repeated(other))
    ]


def repeated(run_dir: RunDir) -> list[str]:
    """The names of the runs that this one repeats, oldest first."""
    return [str(known.get("run")) for known in _read(run_dir, PLAN).get("repeats", ())]


def gone(run_dir: RunDir) -> tuple[str, ...]:
    """The names of the runs that this one repeats and that do not lie beside it."""
    return tuple(name for name in repeated(run_dir) if not (run_dir.path.parent / name).is_dir())


def _same_data(run_dir: RunDir) -> set[str]:
    return set(_read(run_dir, CORPUS).get(SAME_DATA, ()))


def _read(run_dir: RunDir, file: str) -> dict[str, Any]:
    """A file of a run; empty where it is not there or not as written: whoever opens that run is told."""
    try:
        return run_dir.read_json(file) if run_dir.file(file).is_file() else {}
    except UsageError:
        return {}


def has_private_arm(run_dir: RunDir) -> bool:
    """Whether a private arm is trained; an unreadable ledger counts as one."""
    for file in run_dir.file("train").glob(f"[!.]*/{ledgers.FILE}"):
        try:
            if ledgers.of_arm(run_dir, file.parent.name).is_private:
                return True
        except UsageError:
            return True
    return False
