"""A copy of a run to work in: its private and large files are linked to, and nothing in the run changes."""

import shutil
from collections.abc import Collection
from pathlib import Path

from dpaudit.stages.integrity import siblings
from dpaudit.storage.custody import SEAL_LOST
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key

READ = ("attack", "corpus", "records", "train")  # folders that are read alone
LINKED = ("custody", "secret")  # folders that get files of their own beside the links
COPIED = ("audit", "evaluate", "judge")  # results, among which no link may be


def of(run_dir: RunDir, place: Path, without: Collection[str]) -> RunDir:
    """A copy in the folder `place`, under the run's name, with the other runs of its folder beside it, and
    without some of its results.
    """
    copy = RunDir(place / run_dir.name)
    copy.path.mkdir(mode=0o700)
    root = run_dir.path.resolve()
    (copy.path / "plan.json").symlink_to(root / "plan.json")
    for name in READ:
        if (root / name).is_dir():
            (copy.path / name).symlink_to(root / name)
    for name in (*LINKED, *COPIED):
        for file in sorted(path for path in (root / name).rglob("*") if path.is_file()):
            relative = file.relative_to(root).as_posix()
            if relative not in without:
                _put(file, copy.file(relative), name in LINKED)
    if seal_key(copy.path) is None and not copy.file(SEAL_LOST).exists():
        copy.file(SEAL_LOST).parent.mkdir(exist_ok=True)
        copy.file(SEAL_LOST).touch()  # else nothing could be written
    for other in siblings.others(run_dir):
        (place / other.name).symlink_to(other.path.resolve())
    return copy


def _put(file: Path, to: Path, is_linked: bool) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if is_linked:
        to.symlink_to(file)
    else:
        shutil.copyfile(file, to)
