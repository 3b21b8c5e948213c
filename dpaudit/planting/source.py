"""What is planted into: a file as it is, or a plain copy of what else training reads, without columns that
are left out.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpaudit.data import folders, rows
from dpaudit.data.columns import plain_names
from dpaudit.data.lines import GZIP, numbered, opened, whole
from dpaudit.errors import UsageError, unread
from dpaudit.planting import disguise
from dpaudit.planting.formats import WIDE, Array, Csv, encoding_of, is_marked, kind_of, lines_of
from dpaudit.storage import exclusive

JSON = (".jsonl", ".ndjson", ".json")


@contextmanager
def plain(source: Path, drop: Sequence[str] = ()) -> Iterator[Path]:
    """A file that can be planted into: `source` itself, or a copy in a scratch folder, gone when the block
    ends, of what is packed, lies in a folder or is in another encoding, without the columns of `drop`.

    A folder of several files, and Arrow, become JSON lines. Messages name `source`. Raises UsageError for a
    column that no row has.
    """
    file = _only(source)
    if file is not None and not drop and not _is_packed(file):
        yield file
        return
    with exclusive.scratch() as folder:
        try:
            made = _copied(source, file, folder)
            yield _without(made, drop, folder) if drop else made
        except UsageError as error:
            raise _renamed(error, source, folder) from None


def _renamed(error: UsageError, source: Path, folder: Path) -> UsageError:
    """The error with the name that was typed in place of a copy's."""
    if not error.where.startswith(str(folder)):
        return error
    place = error.where.rpartition("/")[2].partition(":")[1:]
    return UsageError(f"{source}{''.join(place)}", error.expected, error.got, error.remedy)


def _only(source: Path) -> Path | None:
    """The one data file of a source; None for a folder of several."""
    if not source.is_dir():
        return source
    files = folders.data_files(source)
    return files[0] if len(files) == 1 else None


def _is_packed(file: Path) -> bool:
    """Whether a file cannot be planted into as it is: packed, Arrow, or JSON in a wide encoding."""
    try:
        with file.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise unread(file, "a data file", error) from None
    is_wide = file.suffix.lower() in JSON and any(head.startswith(mark) for mark in WIDE)
    return head.startswith(GZIP) or file.suffix.lower() == ".arrow" or is_wide


def _copied(source: Path, file: Path | None, folder: Path) -> Path:
    if file is None or file.suffix.lower() == ".arrow":
        files = folders.data_files(source) if file is None else [file]
        return _as_lines(files, folder / f"{source.stem or 'data'}.jsonl")
    name = file.name.removesuffix(".gz").removesuffix(".GZ")
    made = folder / name
    with whole(file):
        if made.suffix.lower() in JSON:  # in UTF-8, whatever it was
            made.write_text("".join(line for _, line in numbered(file)), encoding="utf-8", newline="")
        else:
            with opened(file) as stream, made.open("wb") as target:
                shutil.copyfileobj(stream, target)
    return made


def _as_lines(files: Sequence[Path], made: Path) -> Path:
    """The rows of all files as JSON lines."""
    with made.open("w", encoding="utf-8", newline="") as target:
        for file in files:
            for number, row in rows.of_file(file):
                target.write(
                    row.rstrip("\r\n") if isinstance(row, str) else _json_of(row, f"{file}:{number}")
                )
                target.write("\n")
    return made


def _json_of(row: dict[str, Any], where: str) -> str:
    try:
        return json.dumps(row, ensure_ascii=False)
    except TypeError:
        raise UsageError(
            where, "columns of texts, numbers and lists of them", "times, bytes or decimal numbers"
        ) from None


def _without(source: Path, drop: Sequence[str], folder: Path) -> Path:
    """A copy in the same format and layout without some columns."""
    kind, made = kind_of(source), folder / "without" / source.name
    made.parent.mkdir()
    known: dict[str, None] = {}
    if kind == "parquet":
        known = _parquet_without(source, made, drop)
    elif kind == "csv":
        known = _csv_without(source, made, drop)
    elif kind != "texts":
        array = Array.of(source) if kind == "array" else None
        lines = [_line_without(line, drop, known) for line in lines_of(source)]
        text = "".join(f"{line}\n" for line in lines)
        if array is not None:
            text = f"{array.before}{array.between.join(lines)}{array.after}"
        made.write_text(text, encoding="utf-8", newline="")
    for column in drop:
        if column not in known:
            columns = plain_names(known) if known else "no column, since the file has texts alone"
            raise UsageError(f"--drop {column:.40}", f"one of the columns {columns}", "no such column")
    return made


def _line_without(line: str, drop: Sequence[str], known: dict[str, None]) -> str:
    """A row without columns, spelled as the file spells it; `known` gets the columns that it had."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return line  # the reader says what is wrong with it
    if not isinstance(row, dict):
        return line
    known |= dict.fromkeys(row)
    kept = {key: value for key, value in row.items() if key not in drop}
    return line if len(kept) == len(row) else disguise.spelled_like(line, row)(kept)


def _csv_without(source: Path, made: Path, drop: Sequence[str]) -> dict[str, None]:
    table, known = Csv.of(source), dict[str, None]()
    heading = table.heading[: len(table.columns)]
    kept = [
        at
        for at, names in enumerate(zip(heading, table.columns, strict=True))
        if not {name.strip() for name in names} & set(drop)
    ]
    written = replace(table, width=len(kept))
    with made.open("w", encoding=encoding_of(source), newline="") as target:
        target.writelines(table.before[: table.begins])
        target.write("\ufeff" if is_marked(source) and not table.begins else "")
        target.write(written.text([heading[at] for at in kept]) + table.end)
        for _, cells in table.records():
            target.write(written.text([cells[at] for at in kept]) + table.end)
    for names in zip(heading, table.columns, strict=True):
        known |= dict.fromkeys(name.strip() for name in names)
    return known


def _parquet_without(source: Path, made: Path, drop: Sequence[str]) -> dict[str, None]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            table, rows_of_group = file.read(), file.metadata.row_group(0).num_rows
    except pyarrow.ArrowException:
        raise UsageError(str(source), "a Parquet file", "another content") from None
    known = dict.fromkeys(table.column_names)
    kept = table.drop_columns([column for column in drop if column in known])
    pyarrow.parquet.write_table(kept, made, row_group_size=max(1, rows_of_group))
    return known
