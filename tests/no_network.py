"""What tried to leave this machine: an audit hook that writes it down and stops it. As `sitecustomize` it
watches a process from its start.

Such a process writes to the file that $TRIED names; in this one `watched` collects.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
SENT = ("socket.connect", "socket.sendto", "socket.sendmsg")
_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in NAMES:
        _tried(f"{event} {arguments[0]!r}")
    elif event in SENT and isinstance(arguments[-1], tuple):  # a path is a socket of this machine
        _tried(f"{event} {arguments[-1]!r}")


def _tried(what: str) -> None:
    file = os.environ.get("TRIED")
    if file:
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(f"{what} by {sys.argv}\n")
    for found in _watching:
        found.append(what)
    if file or _watching:
        raise OSError(101, "no network in this test")


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """What this process tries inside the block."""
    found: list[str] = []
    _watching.append(found)
    try:
        yield found
    finally:
        _watching.remove(found)


def environment(folder: Path) -> dict[str, str]:
    """An environment whose Python processes write what they try to `folder`/tried, which is there from the
    first on.
    """
    (folder / "sitecustomize.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    root = Path(__file__).parent.parent
    return os.environ | {
        "PYTHONPATH": os.pathsep.join((str(folder), str(root))),
        "TRIED": str(folder / "tried"),
    }


sys.addaudithook(_hook)
