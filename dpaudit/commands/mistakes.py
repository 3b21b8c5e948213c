"""What a library or the system raised, as a mistake that a user can mend."""

import json

from dpaudit.errors import PartialError, UsageError, unread
from dpaudit.storage import disk

REFUSED: dict[type[OSError], str] = {
    NotADirectoryError: "a folder",
    IsADirectoryError: "a file",
    FileNotFoundError: "an existing path",
    PermissionError: "a path with permission to read and write",
}


def of(error: BaseException) -> PartialError | UsageError | None:
    """The mistake behind an error, with what to do; None for a fault of ours."""
    if full := disk.is_full(error):
        return PartialError(
            f"the disk: expected room for the files, got {full}; make room and type the same command again"
        )
    if isinstance(error, OSError):
        return refused(error)
    return _broken(error) if isinstance(error, ValueError) else None


def refused(error: OSError) -> UsageError | None:
    """The mistake behind a path that the system refused; None where no path is named, a fault of ours."""
    if error.filename is None or error.strerror is None:
        return None
    expected = next((words for kind, words in REFUSED.items() if isinstance(error, kind)), "a usable path")
    return unread(error.filename, expected, error)


def _broken(error: ValueError) -> UsageError | None:
    """A file of a run that is not what a stage wrote; None for any other fault. Never quotes the file."""
    if isinstance(error, json.JSONDecodeError):
        expected, got = "JSON", f"a syntax error in line {error.lineno}"
    elif type(error).__name__ == "ArrowInvalid" and type(error).__module__ == "pyarrow.lib":
        expected, got = "Parquet", "another content"
    else:
        return None
    return UsageError(
        "a file of the run",
        expected,
        got,
        "delete the file (`dpaudit show` names it) and type the command again",
    )
