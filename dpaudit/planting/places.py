"""Where the data for training and the key go: two files that are there together or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpaudit.errors import UsageError
from dpaudit.planting import audit_key
from dpaudit.storage import lock
from dpaudit.storage.custody import keyed_file_digest
from dpaudit.storage.exclusive import remove_left
from dpaudit.storage.whole_files import left_of


@contextmanager
def held(out: Path, key: Path) -> Iterator[None]:
    """Keeps both names for this process, without what a killed one has left there.

    Raises UsageError where a folder is missing or either file is there already.
    """
    for name, file in (("--out", out), ("--key", key)):
        if not file.parent.is_dir():
            raise UsageError(f"{name} {file}", "a folder that exists", "no such folder")
    with lock.held(out), lock.held(key):
        _drop_unfinished(out, key)
        remove_left(out)
        remove_left(key)
        _check_new(out, key)
        yield


def _drop_unfinished(out: Path, key: Path) -> None:
    """Removes a key whose data were never renamed because of a kill: nobody can have trained on them, and no
    other key fits them.
    """
    if out.exists() or not key.is_file():
        return
    for part in left_of(out):
        with suppress(UsageError):  # not one of our keys
            made = audit_key.load(key)
            if keyed_file_digest(part, bytes.fromhex(made.hash_key)) == made.data_digest:
                key.unlink()
                return


def _check_new(out: Path, key: Path) -> None:
    for name, file in (("--out", out), ("--key", key)):
        if file.exists() or file.is_symlink():
            raise UsageError(
                f"{name} {file}",
                "a file that is not there yet",
                "an existing file",
                "name another: an existing file is never overwritten",
            )
    if out.resolve() == key.resolve():
        raise UsageError("--key", "another file than --out", "the same file")
