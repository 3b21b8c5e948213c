"""The file for training: the source's rows as they are, with some added at random places or left out."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dpaudit.data.lines import suffix_of
from dpaudit.errors import UsageError
from dpaudit.planting import disguise, parquet_file
from dpaudit.planting.disguise import Column
from dpaudit.planting.edit import Edit, Edited
from dpaudit.planting.formats import Array, Csv, encoding_of, is_marked, kind_of, lines_of
from dpaudit.planting.profile import Profile


def check(source: Path, out: Path) -> None:
    """Raises UsageError for a format that cannot be written again, and for a name of another format."""
    kind = kind_of(source)
    if out.suffix.lower() == ".gz":
        raise UsageError(
            f"--out {out}", "a name without .gz: the file is written plain", "a name of a packed file"
        )
    if kind != "lines" and suffix_of(out) != suffix_of(source):
        raise UsageError(
            f"--out {out}",
            f"a name that ends in {suffix_of(source)}: the file has the format of the data",
            f"a name that ends in {suffix_of(out)}" if suffix_of(out) else "a name without an ending",
        )


def write(source: Path, target: Path, edit: Edit, profile: Profile) -> None:
    """Writes the edited source in its own format and layout, with its permissions."""
    kind = kind_of(source)
    rows = edited(source, edit, profile)
    if kind == "parquet":
        parquet_file.write(source, target, list(rows), list(_numbering(profile)))
    else:
        pieces = {"csv": _as_csv, "array": _as_array, "texts": _as_texts}.get(kind, _as_lines)
        encoding = encoding_of(source) if kind in ("csv", "texts") else "utf-8"
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding=encoding, newline="") as stream:
            _write_all(stream, pieces(source, rows))
    target.chmod(source.stat().st_mode & 0o777)


def _write_all(stream: IO[str], pieces: Iterator[str]) -> None:
    stream.writelines(pieces)
    stream.flush()
    os.fsync(stream.fileno())


def edited(source: Path, edit: Edit, profile: Profile) -> Iterator[Edited]:
    """The rows of the edited source; a column of row numbers counts on through all of them."""
    total = profile.rows - len(edit.dropped) + len(edit.added)
    places = set(random.SystemRandom().sample(range(total), len(edit.added)))
    old = (Edited(line, n) for n, line in enumerate(lines_of(source)) if n not in edit.dropped)
    new = (Edited(line, None) for line in edit.added)
    first = _numbering(profile)
    for place in range(total):
        row = next(new) if place in places else next(old)
        yield Edited(_numbered(row.line, first, place), row.place, True) if first else row


def _numbering(profile: Profile) -> dict[str, tuple[int, int]]:
    """The number of the first row and its width, for each column that numbers the rows."""
    return {
        key: (_first_number(column, profile.rows), column.width)
        for key, column in profile.columns.items()
        if column.is_row_number
    }


def _first_number(column: Column, rows: int) -> int:
    assert column.last is not None
    return column.last[1] - rows + 1


def _numbered(line: str, first: dict[str, tuple[int, int]], place: int) -> str:
    """`line` with the number of its place."""
    row = json.loads(line)
    spell = disguise.spelled_like(line, row)
    for key, (number, width) in first.items():
        row[key] = disguise.renumbered(row[key], number + place, width)
    return spell(row)


def _as_lines(source: Path, rows: Iterator[Edited]) -> Iterator[str]:
    """The lines with the source's line ends, behind its encoding mark."""
    with source.open("rb") as raw:
        head = raw.readline()
    if head.startswith(b"\xef\xbb\xbf"):
        yield "\ufeff"
    end = "\r\n" if head.endswith(b"\r\n") else "\n"
    yield from (row.line + end for row in rows)


def _as_texts(source: Path, rows: Iterator[Edited]) -> Iterator[str]:
    if is_marked(source):
        yield "\ufeff"
    for row in rows:
        yield json.loads(row.line)["text"] + "\n"


def _as_array(source: Path, rows: Iterator[Edited]) -> Iterator[str]:
    array = Array.of(source)
    yield array.before
    for number, row in enumerate(rows):
        yield (array.between if number else "") + row.line
    yield array.after


def _as_csv(source: Path, rows: Iterator[Edited]) -> Iterator[str]:
    """The heading, and each row: the source's own as it is written there."""
    table = Csv.of(source)
    old, at = table.records(), -1
    yield from table.before
    for row in rows:
        raw = ""
        while row.place is not None and at < row.place:
            raw, at = next(old)[0], at + 1
        if row.place is None or row.renumbered:
            fields = json.loads(row.line)
            raw = table.text([fields[name] for name in table.columns])
        yield raw if raw.endswith("\n") else raw + table.end
