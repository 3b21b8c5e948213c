"""One command of a kind on a run at a time; what killed commands left is removed."""

import functools
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from dpaudit.errors import UsageError
from dpaudit.storage import disk, lock
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import require_sealable
from dpaudit.storage.whole_files import left_of, temporary

WRITES = {  # kind of work -> the folders of a run that it writes in, and that it sweeps
    "train": ("", "corpus/**/", "custody/", "custody/trained/", "secret/**/", "train/**/"),
    "attack": ("attack/**/", "custody/results/attack/"),
    "shadows": ("attack/*/shadows/",),
    "audit": ("audit/**/", "custody/results/audit/"),
    "evaluate": ("evaluate/**/", "custody/results/evaluate/"),
    "judge": ("judge/**/", "custody/results/judge/"),
    "report": ("report/**/",),
    "records": ("records/**/", "custody/records/"),
}

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def writing(run_dir: RunDir, work: str) -> Iterator[None]:
    """Holds the lock of `work`, a key of WRITES, on this run during the block; sweeps what a killed command
    left.

    Raises UsageError where another command holds the lock, and where the key of the run's seals is missing.
    The page needs no key: it is no evidence, and is quickly made again.
    """
    with lock.held(run_dir.path, work):
        if work != "report":
            require_sealable(run_dir.path)
        sweep(run_dir, work)
        yield


def alone(
    work: str,
) -> "Callable[[Callable[Concatenate[RunDir, P], R]], Callable[Concatenate[RunDir, P], R]]":
    """Makes a function of a run hold `writing(run_dir, work)` while it is at work."""

    def holding(function: "Callable[Concatenate[RunDir, P], R]") -> "Callable[Concatenate[RunDir, P], R]":
        @functools.wraps(function)
        def held(run_dir: RunDir, *arguments: P.args, **named: P.kwargs) -> R:
            with writing(run_dir, work):
                return function(run_dir, *arguments, **named)

        return held  # type: ignore[return-value]  # the run always comes first

    return holding


@contextmanager
def making(*paths: Path) -> Iterator[None]:
    """Locks `paths` while they are made in the block; removes what killed commands left of them."""
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(lock.held(path))
            remove_left(path)
        yield


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder outside of any run, mode 0700, that is removed when the block ends; one that a kill left is
    removed by the next such block.
    """
    place = Path(tempfile.gettempdir())
    for left in place.glob("dpaudit-*"):
        if left.is_dir() and left.stat().st_uid == os.getuid():
            with suppress(UsageError), lock.held(left):  # a process at work in it holds its lock
                _remove([left])
    folder = place / f"dpaudit-{secrets.token_hex(8)}"
    with lock.held(folder):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove([folder])


def sweep(run_dir: RunDir, work: str) -> None:
    """Removes what killed commands of this kind left under temporary names. Only under its lock."""
    for folder in WRITES[work]:
        _remove(run_dir.path.glob(f"{folder}.*.tmp"))
    if work == "train":
        remove_left(run_dir.path)


def remove_run(run_dir: RunDir) -> None:
    """Removes a run with all in it, and what an earlier removal left. First it loses its name, so that a
    killed removal leaves no half of a run. Raises UsageError where a command is at work on it, and where
    files of it cannot be removed.
    """
    with ExitStack() as stack:
        for work in WRITES:
            stack.enter_context(lock.held(run_dir.path, work))
        if run_dir.path.exists():
            run_dir.path.rename(temporary(run_dir.path))
        remove_left(run_dir.path)
        for left in left_of(run_dir.path):
            raise UsageError(
                str(left),
                "a folder whose files may all be removed",
                "one in which files stay: adapters, coins or ledgers may be among them",
                f"change its permissions and type `dpaudit rm {run_dir.name} --yes` again",
            )


def remove_left(path: Path) -> None:
    """Removes what killed commands left of `path` under temporary names beside it. Only under its lock."""
    _remove(left_of(path))


def _remove(paths: Iterable[Path]) -> None:
    for left in list(paths):
        disk.remove(left)
