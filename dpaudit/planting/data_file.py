"""The file for training: the source's rows as they are, with some added at random places or left out."""

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dpaudit.errors import UsageError, unread
from dpaudit.planting import disguise
from dpaudit.planting.disguise import Column
from dpaudit.planting.profile import Profile, lines_of


@dataclass(frozen=True)
class Edit:
    """Lines to add, in their order, and rows of the source to leave out, counted from 0."""

    added: tuple[str, ...] = ()
    dropped: frozenset[int] = frozenset()


def check(source: Path) -> None:
    """Raises UsageError where the data are no JSON lines: a planted row must look like those around it, byte
    by byte.
    """
    try:
        with source.open("rb") as stream:
            start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise unread(source, "a JSONL file", error) from None
    if source.suffix.lower() not in (".jsonl", ".ndjson", ".json") or not start.startswith(b"{"):
        raise UsageError(
            str(source),
            "JSONL, one JSON object a line",
            "another kind of file",
            "convert it, plant, and convert back",
        )


def write(source: Path, target: Path, edit: Edit, profile: Profile) -> None:
    """Writes the edited source, with the source's encoding mark, line ends and permissions."""
    with source.open("rb") as raw:
        head = raw.readline()
    mark, end = head.startswith(b"\xef\xbb\xbf"), "\r\n" if head.endswith(b"\r\n") else "\n"
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, source.stat().st_mode & 0o777)
    with os.fdopen(descriptor, "w", encoding="utf-8-sig" if mark else "utf-8", newline="") as stream:
        stream.writelines(line + end for line in edited(source, edit, profile))
        stream.flush()
        os.fsync(stream.fileno())


def edited(source: Path, edit: Edit, profile: Profile) -> Iterator[str]:
    """The rows of the edited source, as lines; a column of row numbers counts on through all of them."""
    total = profile.rows - len(edit.dropped) + len(edit.added)
    places = set(random.SystemRandom().sample(range(total), len(edit.added)))
    old, new = (line for n, line in enumerate(lines_of(source)) if n not in edit.dropped), iter(edit.added)
    first = {
        key: (_first_number(column, profile.rows), column.width)
        for key, column in profile.columns.items()
        if column.is_row_number
    }
    for place in range(total):
        line = next(new) if place in places else next(old)
        yield _numbered(line, first, place) if first else line


def _first_number(column: Column, rows: int) -> int:
    assert column.last is not None
    return column.last[1] - rows + 1


def _numbered(line: str, first: dict[str, tuple[int, int]], place: int) -> str:
    """`line` with the number of its place; `first` has the number of the first row and its width, by
    column.
    """
    row = json.loads(line)
    write = disguise.spelled_like(line, row)
    for key, (number, width) in first.items():
        row[key] = disguise.renumbered(row[key], number + place, width)
    return write(row)
