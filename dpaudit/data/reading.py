"""Data of any known format as records. Formats and shapes are found from the data; no message quotes a
text.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from itertools import count as numbers
from pathlib import Path
from typing import Any

from dpaudit.data import folders, json_rows, rows
from dpaudit.data.columns import Fields
from dpaudit.data.corpus import Record
from dpaudit.data.row_reader import Reader
from dpaudit.errors import UsageError
from dpaudit.system import egress

SUFFIXES = (
    *rows.READERS,
    ".gz",
    ".zip",
    ".xlsx",
)  # a source with such a suffix is a file, never a hub id
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
COUNTED = 100_000  # rows after a mistake that are searched for the same mistake


def read_records(
    source: str, window: str | None = None, limit: int | None = None, reader: Reader | None = None
) -> Iterator[tuple[int, Record]]:
    """The records of a file, a dataset folder or a hub data set, one at a time, each with its number.

    The number is the line of a JSONL or CSV file, else the place from 1. `window` is `A:B`, counted from 0,
    and comes first; then at most `limit` records. All must have the shape of the first. A given `reader`
    knows afterwards which columns were not read. Raises UsageError naming source and number, never the text
    itself; of rows with the same mistake the first is named and all are counted.
    """
    reader = reader or Reader()
    numbered_rows = islice(_window(_rows_of(source), parse_rows(window), source), limit)
    number = None
    for number, row in numbered_rows:
        try:
            record = _record(reader, row, f"{source}:{number}", number)
        except UsageError as error:
            raise _counted(error, reader, source, number, numbered_rows) from None
        yield number, record
    if number is None:
        is_blank = Path(source).is_file() and not Path(source).stat().st_size
        raise UsageError(
            source,
            "at least one record",
            "an empty file" if is_blank else "no record",
            "check what should have written rows into it, or name another file; the first line of a CSV file "
            "is its heading",
        )


def count(source: str, window: str | None = None, limit: int | None = None) -> int | None:
    """How many rows `read_records` will go over; None of a hub data set. Rows are not looked at."""
    if is_hub_id(source):
        return None
    first, end = parse_rows(window)
    rows = sum(1 for _ in islice(_rows_of(source), end)) - first
    return max(0, rows if limit is None else min(rows, limit))


def fields_of(source: str) -> Iterator[Fields]:
    """The rows that `read_records` reads, with all of their columns."""
    for number, row in _rows_of(source):
        yield json_rows.parsed(row, f"{source}:{number}") if isinstance(row, str) else row


def _record(reader: Reader, row: Fields | str, where: str, number: int) -> Record:
    fields = json_rows.parsed(row, where) if isinstance(row, str) else row
    return reader.record(fields, where, number)


def _counted(
    error: UsageError, reader: Reader, source: str, number: int, rest: Iterator[tuple[int, Fields | str]]
) -> UsageError:
    """The mistake, with the number of rows that have one of its kind."""
    kind, count = _kind(error, f"{source}:{number}"), 1
    try:
        for place, row in islice(rest, COUNTED):
            try:
                _record(reader, row, f"{source}:{place}", place)
            except UsageError as other:
                count += _kind(other, f"{source}:{place}") == kind
    except UsageError:  # a mistake of another kind ends the counting
        pass
    got = f"{error.got}, in {count:,} rows" if count > 1 else error.got
    return UsageError(error.where, error.expected, got, error.remedy)


def _kind(error: UsageError, where: str) -> tuple[str, str]:
    return re.sub(r"\[\d+\]", "", error.where.removeprefix(where)), error.expected


def parse_rows(text: str | None) -> tuple[int, int | None]:
    """`A:B` as first row and end, counted from 0, B left out; either may be missing. Raises UsageError."""
    if text is None:
        return 0, None
    match = re.fullmatch(r"(\d{0,15}):(\d{0,15})", text.strip(), re.ASCII)
    first, end = (int(match[1] or 0), int(match[2]) if match[2] else None) if match else (0, 0)
    if end is not None and end <= first:
        raise UsageError(
            "data.rows", "A:B with A below B, counted from 0", f"{text:.40}", "for example --rows 0:30000"
        )
    return first, end


def is_hub_id(source: str) -> bool:
    """Whether a data source is OWNER/NAME of a hub: nothing of that name is here, and it has no file's
    ending.
    """
    is_id = HUB_ID.fullmatch(source) is not None and Path(source).suffix.lower() not in SUFFIXES
    return is_id and not Path(source).exists()


def _window(
    records: Iterable[tuple[int, Any]], window: tuple[int, int | None], source: str
) -> Iterator[tuple[int, Any]]:
    first, end = window
    count = 0
    for count, record in enumerate(records, 1):
        if count > first:
            yield record
        if count == end:
            return
    if count and (end is not None or count <= first):
        raise UsageError(
            "data.rows",
            f"rows that {source} has",
            f"an end beyond its {count} records",
            "lower the end of --rows, or leave it out",
        )


def _rows_of(source: str) -> Iterator[tuple[int, Fields | str]]:
    if is_hub_id(source):
        return _hub_rows(source)
    path = Path(source)
    if not path.is_dir():
        return rows.of_file(path)
    files = folders.data_files(path)
    if len(files) == 1:
        return rows.of_file(files[0])
    return zip(numbers(1), (row for _, row in chain.from_iterable(map(rows.of_file, files))), strict=False)


def _hub_rows(source: str) -> Iterator[tuple[int, Any]]:
    """The rows of a hub data set, streamed: no copy of private data is left in a cache."""
    import datasets
    import pyarrow

    datasets.disable_progress_bars()
    try:
        with egress.asking(source, "--data"):
            yield from enumerate(_one_split(datasets.load_dataset(source, streaming=True), source), 1)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        RuntimeError,
        ImportError,
        pyarrow.ArrowException,
        datasets.exceptions.DatasetsError,
    ) as error:
        raise UsageError(
            source,
            "a data file or folder, or a hub id within reach",
            f"an error ({type(error).__name__})",
            "check the name, or give a file",
        ) from None


def _one_split(dataset: Any, source: str) -> Iterable[Any]:
    """The rows of the split `train`, or of the only one."""
    if not isinstance(dataset, dict):
        rows: Iterable[Any] = dataset
        return rows
    name = "train" if "train" in dataset else next(iter(dataset))
    if name == "train" or len(dataset) == 1:
        return _one_split(dataset[name], source)
    raise UsageError(source, "a split named train, or a single split", ", ".join(map(str, dataset)))
