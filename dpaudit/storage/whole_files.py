"""Files that are written whole or not at all: under a temporary name beside their own, renamed last."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpaudit.storage import disk

PRIVATE = 0o600  # of files that hold prompts, answers or records, wherever somebody copies them
_TEMPORARY = re.compile(r"(^|/)\.([^/]+)\.[0-9a-f]{8}\.tmp(?=/|$)")  # as `temporary` names it


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Writes under a temporary name and renames last: the file's presence means it is whole. `mode` as
    `open(2)` has it.
    """
    write_pieces(path, [text], mode)


def write_pieces(path: Path, pieces: Iterable[str], mode: int) -> None:
    """As `write_text`, piece by piece."""

    def opened(name: str, flags: int) -> int:
        return os.open(name, flags, mode)

    with whole_file(path) as part, open(part, "w", encoding="utf-8", opener=opened) as stream:
        stream.writelines(pieces)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name that becomes `path` when the block ends without an error, else vanishes."""
    part = temporary(path)
    with disk.room(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.gone_after(part):
            yield part
            part.replace(path)


def temporary(path: Path) -> Path:
    """A name beside `path` for what is not whole yet; `left_of` knows it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def final(relative: str) -> str:
    """The place of a file once the folders that it is written in have their own names."""
    return _TEMPORARY.sub(r"\1\2", relative)


def left_of(path: Path) -> list[Path]:
    """What carries a temporary name of `path`."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    return [left for left in path.parent.glob(".*.tmp") if pattern.fullmatch(left.name)]
