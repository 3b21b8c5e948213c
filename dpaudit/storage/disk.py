"""A full or read-only disk as one line that names the folder, whichever library failed."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpaudit.errors import GuardError, PartialError, UsageError

FULL = {
    errno.ENOSPC: "a full disk",
    errno.EDQUOT: "a quota that is used up",
    errno.EFBIG: "a limit on the size of files",
}
WORDS = {  # of libraries whose errors have no number: safetensors, tokenizers, sqlite3, datasets, numpy
    "No space left on device": errno.ENOSPC,
    "quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "database or disk is full": errno.ENOSPC,
    "Not enough disk space": errno.ENOSPC,
    " requested and ": errno.ENOSPC,  # "N requested and M written"
}
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Whatever is written in the block goes into `folder`.

    Raises PartialError where the disk is full, since the same command goes on once there is room; UsageError
    where nobody may write there. Other errors pass through.
    """
    try:
        yield
    except (UsageError, PartialError, GuardError):
        raise
    except Exception as error:  # libraries raise many kinds, tokenizers a bare Exception
        user_error = _as_user_error(folder, error)
        if user_error is None:
            raise
        raise user_error from error


def remove(path: Path) -> None:
    """Removes a file or a folder with all in it, if it is there. An interrupt waits until that is done."""
    try:
        _remove(path)
    except KeyboardInterrupt:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def gone_after(path: Path) -> Iterator[None]:
    """Removes `path` when the block ends, also where an interrupt comes during the removal."""
    try:
        try:
            yield
        finally:
            remove(path)
    except KeyboardInterrupt:
        remove(path)  # the interrupt may have come before the removal began
        raise


def is_full(error: BaseException) -> str | None:
    """What ran out, where an error or one of its causes says so; else None."""
    cause: BaseException | None = error
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else None
        number = number or next((code for words, code in WORDS.items() if words in str(cause)), None)
        if number in FULL:
            return FULL[number]
        cause = cause.__cause__ or cause.__context__
    return None


def _as_user_error(folder: Path, error: Exception) -> UsageError | PartialError | None:
    where = folder.absolute()
    if (got := is_full(error)) is not None:
        return PartialError(
            f"{where}: expected room for what is written there, got {got}; make room and type the same "
            f"command again"
        )
    if isinstance(error, OSError) and error.errno in CLOSED and _is_within(where, error.filename):
        return UsageError(
            str(where),
            "a folder with write permission",
            f"a folder without write permission ({error.strerror})",
            "change its permissions or mount, or name another folder",
        )
    return None


def _is_within(folder: Path, name: object) -> bool:
    """Whether a path lies in the folder or contains it."""
    if not isinstance(name, str | Path):
        return name is None
    place = Path(name).absolute()
    return place.is_relative_to(folder) or folder.is_relative_to(place)
