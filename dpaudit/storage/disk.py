"""A disk that is full or takes no writing, in one line that names the folder, whatever library met it."""

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
    where nobody may write there. Other errors go their way.
    """
    try:
        yield
    except (UsageError, PartialError, GuardError):
        raise
    except Exception as error:  # every library has a kind of its own, tokenizers a bare Exception
        told = _told(folder, error)
        if told is None:
            raise
        raise told from error


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
    """What is made at `path` within is gone when the block ends, whichever step an interrupt breaks off."""
    try:
        try:
            yield
        finally:
            remove(path)
    except KeyboardInterrupt:
        remove(path)  # it may have come before that began
        raise


def is_full(error: BaseException) -> str | None:
    """What ran out, where an error or one that it came from says so; else None."""
    found: BaseException | None = error
    while found is not None:
        number = found.errno if isinstance(found, OSError) else None
        number = number or next((one for words, one in WORDS.items() if words in str(found)), None)
        if number in FULL:
            return FULL[number]
        found = found.__cause__ or found.__context__
    return None


def _told(folder: Path, error: Exception) -> UsageError | PartialError | None:
    where = folder.absolute()
    if (got := is_full(error)) is not None:
        return PartialError(
            f"{where}: expected room for what is written there, got {got}; make room and type the same "
            f"command again"
        )
    if isinstance(error, OSError) and error.errno in CLOSED and _is_within(where, error.filename):
        return UsageError(
            str(where),
            "a folder that may be written in",
            f"a folder that may not ({error.strerror})",
            "change its permissions or mount, or name another folder",
        )
    return None


def _is_within(folder: Path, name: object) -> bool:
    """Whether a path lies in the folder, or is one that it would lie in."""
    if not isinstance(name, str | Path):
        return name is None
    place = Path(name).absolute()
    return place.is_relative_to(folder) or folder.is_relative_to(place)
