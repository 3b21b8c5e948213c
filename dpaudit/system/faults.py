"""What is kept of an error of ours: types, places in code and versions. Never a value, which might be a
patient's words.
"""

import contextlib
import errno
import os
import platform
import secrets
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from dpaudit import __version__

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
# their messages come from Python itself, and quote nothing
SAFE = (ZeroDivisionError, OverflowError, RecursionError, MemoryError)
LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "scipy", "pyarrow",
    "lm_eval", "datasets", "openai")  # fmt: skip
MOST_FRAMES = 60  # of one exception: a recursion has thousands
OURS = Path(__file__).parents[1]


class FaultError(Exception):
    """An error of ours in another process; `report` is what `report` made of it there."""

    def __init__(self, report: str) -> None:
        self.report = report
        super().__init__(report.splitlines()[0])

    def __reduce__(self) -> tuple[object, ...]:
        return FaultError, (self.report,)


def report(error: BaseException) -> str:
    """The lines of a log: what was raised where, through all causes, then versions. The first line sums it
    up.
    """
    if isinstance(error, FaultError):
        return error.report
    *causes, last = _chain(error)
    lines = [f"{_kind(last)} at {_place(last)}", ""]
    for raised in (*causes, last):
        lines += [_kind(raised), *(f"  {frame}" for frame in _frames(raised)), ""]
    return "\n".join([*lines, *_versions()]) + "\n"


def keep(text: str) -> Path | None:
    """The new file that holds the log, readable by its owner alone; None where nothing can be written.

    It lies in the current folder, where that can be written, else in the folder for temporary files.
    """
    name = f"dpaudit-error-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.log"
    for folder in _folders():
        with contextlib.suppress(OSError):
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            return folder / name
    return None


def _folders() -> tuple[Path, Path]:
    return Path(), Path(tempfile.gettempdir())


def message(text: str) -> str:
    """The one line for stderr; writes the log."""
    kept = keep(text)
    where = f"the log {kept} holds none of your data" if kept else "no log could be written"
    return f"an error of ours: {text.splitlines()[0]}; {where}: please report it"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The causes of an error, the first one first, then the error itself."""
    errors = [error]
    while (
        cause := errors[-1].__cause__ or (None if errors[-1].__suppress_context__ else errors[-1].__context__)
    ) and not any(cause is known for known in errors):
        errors.append(cause)
    return reversed(errors)


def _kind(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if kind in SAFE:
        return f"{name} ({error})" if error.args else name
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name} ({errno.errorcode.get(error.errno, error.errno)})"
    return name


def _frames(error: BaseException) -> list[str]:
    walked = [
        _frame(frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    if len(walked) > MOST_FRAMES:
        half = MOST_FRAMES // 2
        walked[half:-half] = [f"... {len(walked) - MOST_FRAMES} more"]
    return walked or ["(no place is known)"]


def _place(error: BaseException) -> str:
    """The last place in our own code."""
    ours = [frame for frame in _frames(error) if frame.startswith("dpaudit/")]
    return ours[-1] if ours else "a library"


def _frame(file: str, line: int, function: str) -> str:
    """A place in code, its file relative to where the code is installed. Of code from elsewhere, such as
    a template, no name is kept.
    """
    roots = {
        "dpaudit": OURS,
        **{key: Path(sysconfig.get_path(key)) for key in ("purelib", "platlib", "stdlib")},
    }
    for name, root in roots.items():
        if Path(file).is_relative_to(root):
            inside = Path(file).relative_to(root)
            return f"{'dpaudit' / inside if name == 'dpaudit' else inside}:{line}:{function}"
    return "(code from elsewhere)"


def _versions() -> list[str]:
    loaded = [
        (name, getattr(sys.modules[name], "__version__", "?")) for name in LIBRARIES if name in sys.modules
    ]
    system = f"{platform.system()} {platform.machine()}"
    return [
        f"dpaudit {__version__}",
        f"Python {platform.python_version()} on {system}",
        *(f"{name} {version}" for name, version in loaded),
    ]
