"""Rows of tables: CSV with its heading, Parquet, Arrow."""

import csv
import datetime
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dpaudit.data.columns import ASKED, NAMES
from dpaudit.data.json_rows import Row
from dpaudit.data.lines import AGAIN, LARGEST, numbered, suffix_of
from dpaudit.data.row_reader import CHECKED
from dpaudit.data.shapes import INSTRUCTED, KNOWN_COLUMNS
from dpaudit.errors import UsageError

QUOTED = 'close it; inside of a cell in quotation marks each one is written twice: ""'
CELLS = "put a cell that holds a comma or another divider into quotation marks, and leave no cell out"
DELIMITERS = (",", ";", "\t", "|")
# what a reader of rows looks at: found in any case in a heading without a known column
SPELLED = {*KNOWN_COLUMNS, *INSTRUCTED, *NAMES, *CHECKED, *(key for more in ASKED.values() for key in more)}
TIMES = {
    "is_date": datetime.date.min,
    "is_timestamp": datetime.datetime.min,
    "is_time": datetime.time.min,
    "is_duration": datetime.timedelta(0),
    "is_interval": datetime.timedelta(0),
}


def of_csv(path: Path) -> Iterator[Row]:
    """The rows below the heading, each with the line that it ends on; commas, semicolons or tabs, as the
    heading shows.
    """
    csv.field_size_limit(LARGEST)
    lines = (line for _, line in numbered(path))
    head = next(lines, "")
    if re.fullmatch(r'"?sep=[,;|\t]"?', head.strip("\r\n")):  # for Excel alone
        head = next(lines, "")
    reader = csv.reader(_again(head, lines), strict=True, delimiter=delimiter_of(head, path))
    begun = 1
    try:
        columns = columns_of(next(reader, []))
        if len(set(columns)) < len(columns):
            raise UsageError(
                str(path),
                "columns of different names",
                "two columns of one name",
                "rename one of them",
            )
        begun = reader.line_num + 1
        for cells in reader:
            if not is_blank(cells):
                if len(cells) < len(columns) or not is_blank(cells[len(columns) :]):
                    raise UsageError(
                        f"{path}:{reader.line_num}",
                        f"{len(columns)} cells, as the heading has",
                        str(len(cells)),
                        CELLS,
                    )
                yield reader.line_num, dict(zip(columns, cells, strict=False))
            begun = reader.line_num + 1
    except csv.Error as error:
        raise _no_table(error, f"{path}:{reader.line_num}", begun) from None


def _no_table(error: csv.Error, where: str, begun: int) -> UsageError:
    """The error for a row that the csv module cannot read; it begins at line `begun` or below."""
    message = str(error)
    if "unexpected end" in message or "field larger" in message:
        got = f"a quotation mark that was opened in line {begun} or below and not closed"
    elif "expected after" in message:
        got = (
            f"a quotation mark that was opened in line {begun} or below and not closed, or one inside of a "
            f"cell that is not doubled"
        )
    else:
        return UsageError(where, "a row of CSV", "a stray line end or byte", AGAIN)
    return UsageError(where, "a row of CSV", got, QUOTED)


def _again(first: str, rest: Iterable[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def delimiter_of(head: str, path: Path) -> str:
    """The delimiter that gives the heading a known column; where none does, the one that divides it most
    often, of the suffix in a draw.
    """
    own = "\t" if suffix_of(path) == ".tsv" else ","
    names = {delimiter: _names(head, delimiter) for delimiter in (own, *DELIMITERS)}
    for spelled in (str, _spelled):
        for delimiter, found in names.items():
            if KNOWN_COLUMNS & set(map(spelled, found)):
                return delimiter
    return max(names, key=head.count)


def _names(head: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"').strip() for name in head.split(delimiter)]


def columns_of(cells: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns in a heading, without the unnamed ones that a spreadsheet leaves at its end.

    Where no name is known as it is written, `Question` and `Patient ID` are `question` and `patient_id`.
    """
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return tuple(names) if KNOWN_COLUMNS & set(names) else tuple(map(_spelled, names))


def _spelled(name: str) -> str:
    """The name of a known column that is written with capitals or blanks; any other name as it is."""
    plain = re.sub(r"[ _-]+", "_", name.lower())
    return plain if plain in SPELLED else name


def is_blank(cells: Sequence[str]) -> bool:
    """Whether a row holds nothing: a blank line, or the empty cells that a spreadsheet leaves."""
    return not any(map(str.strip, cells))


def of_parquet(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file, numbered from 1."""
    import pyarrow.parquet

    with path.open("rb"):  # a missing file is not a damaged one
        pass
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=256, use_threads=False)
            yield from _rows_of_batches(batches, file.schema_arrow, path)
    except pyarrow.ArrowException:
        raise UsageError(str(path), "a Parquet file", "a damaged file, or another format", AGAIN) from None


def of_arrow(path: Path) -> Iterator[Row]:
    """What `save_to_disk` writes: a stream of batches."""
    import pyarrow

    with path.open("rb") as stream:
        try:
            with pyarrow.ipc.open_stream(stream) as batches:
                small = (part for batch in batches for part in _parts(batch))
                yield from _rows_of_batches(small, batches.schema, path)
        except pyarrow.ArrowException:
            raise UsageError(
                str(path),
                "an Arrow stream, as save_to_disk writes",
                "a damaged file, or another format",
                AGAIN,
            ) from None


def _parts(batch: Any) -> Iterator[Any]:
    return (batch.slice(start, 256) for start in range(0, batch.num_rows, 256))


def _rows_of_batches(batches: Iterable[Any], schema: Any, path: Path) -> Iterator[Row]:
    if len(set(schema.names)) < len(schema.names):
        raise UsageError(
            str(path),
            "columns of different names",
            "two columns of one name",
            "rename one of them",
        )
    number = 0
    for batch in batches:
        _check_whole(batch, number, path)
        try:
            columns = {
                name: _values(column) for name, column in zip(schema.names, batch.columns, strict=True)
            }
        except (ValueError, OverflowError, ImportError, KeyError):  # times that Python has no value for
            raise UsageError(
                str(path),
                "texts, numbers and lists of them",
                "times inside a list or a struct",
                "leave the times in it out, or write them as text",
            ) from None
        for cells in zip(*columns.values(), strict=True):
            number += 1
            yield number, dict(zip(columns, cells, strict=True))


def _check_whole(batch: Any, before: int, path: Path) -> None:
    """Raises UsageError for text that is no UTF-8, ArrowInvalid for offsets out of range: reading there would
    crash the process.
    """
    import pyarrow

    try:
        batch.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        got = f"bytes that are not UTF-8 in one of rows {before + 1} to {before + batch.num_rows}"
        raise UsageError(str(path), "UTF-8 text", got) from None


def _values(column: Any) -> list[Any]:
    """A column as Python values. Times become placeholders: no text or id is a time, and Python lacks some
    times.
    """
    import pyarrow

    kind = next(
        (stand_in for test, stand_in in TIMES.items() if getattr(pyarrow.types, test)(column.type)), None
    )
    if kind is None:
        values: list[Any] = column.to_pylist()
        return values
    return [kind if there else None for there in column.is_valid().to_pylist()]
