"""Data of any known format as records. Formats and shapes are found from the data; no message quotes a text."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from dpaudit import shapes
from dpaudit.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.shapes import Fields, Shape

SUFFIXES = (
    ".jsonl",
    ".json",
    ".ndjson",
    ".csv",
    ".parquet",
    ".txt",
)  # what has one is a file, never a hub id
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
CHUNK = 1 << 16  # characters of a JSON array read at a time
LARGEST = 1 << 26  # characters of one item of a JSON array


def read_records(
    source: str, rows: str | None = None, limit: int | None = None
) -> Iterator[tuple[int, Record]]:
    """The records of a file, a dataset folder or a hub data set, one at a time, each with its number.

    The number is the line of a JSONL or CSV file, else the place from 1. `rows` is `A:B`, counted from 0, and comes
    first; then at most `limit` records. All must have the shape of the first. Raises UsageError naming source
    and number, never the text itself.
    """
    first: Shape | None = None
    found = _window(_rows_of(source), parse_rows(rows), source)
    for number, row in islice(found, limit):
        where = f"{source}:{number}"
        fields = _parse_json(row, where) if isinstance(row, str) else row
        shape = shapes.shape_of(fields, where, first)
        first = first or shape
        if shape is not first:
            raise UsageError(where, expected=f"the shape of the first record, {first.name}", got=f"one with {shape.name}",
                             remedy="one shape a file")  # fmt: skip
        yield number, shapes.record(shape, fields, where, number)
    if first is None:
        raise UsageError(source, expected="at least one record", got="an empty file")


def parse_rows(text: str | None) -> tuple[int, int | None]:
    """`A:B` as first row and end, counted from 0, B left out; either may be missing. Raises UsageError."""
    if text is None:
        return 0, None
    found = re.fullmatch(r"(\d{0,15}):(\d{0,15})", text.strip(), re.ASCII)
    first, end = (int(found[1] or 0), int(found[2]) if found[2] else None) if found else (0, 0)
    if end is not None and end <= first:
        raise UsageError("data.rows", expected="A:B with A below B, counted from 0", got=f"{text:.40}",
                         remedy="for example --rows 0:30000")  # fmt: skip
    return first, end


def is_hub_id(source: str) -> bool:
    """Whether a data source is OWNER/NAME of a hub: nothing of that name is here, and it has no file's ending."""
    is_id = HUB_ID.fullmatch(source) is not None and Path(source).suffix.lower() not in SUFFIXES
    return is_id and not Path(source).exists()


def _window(
    found: Iterable[tuple[int, Any]], window: tuple[int, int | None], source: str
) -> Iterator[tuple[int, Any]]:
    first, end = window
    count = 0
    for count, item in enumerate(found, 1):
        if count > first:
            yield item
        if count == end:
            return
    if count and (end is not None or count <= first):
        raise UsageError("data.rows", expected=f"rows that {source} has", got=f"an end beyond its {count} records",
                         remedy="lower the end of --rows, or leave it out")  # fmt: skip


# ---- formats: every reader gives (number, row), a row being a mapping or a line of JSON


def _rows_of(source: str) -> Iterator[tuple[int, Any]]:
    path = Path(source)
    if is_hub_id(source) or path.is_dir():
        return _dataset_rows(source)
    readers = {".parquet": _parquet_rows, ".csv": _csv_rows, ".jsonl": _lines, ".ndjson": _lines}
    return _readable(path, readers.get(path.suffix.lower(), _json_rows))


def _readable(path: Path, reader: Callable[[Path], Iterator[tuple[int, Any]]]) -> Iterator[tuple[int, Any]]:
    try:
        yield from reader(path)
    except OSError as error:
        raise UsageError(str(path), expected="a readable data file", got=error.strerror or "a broken one",
                         remedy="give a JSONL, JSON, CSV or Parquet file, a folder or a hub id with --data") from error  # fmt: skip


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank."""
    return ((number, line) for number, line in _decoded(path) if line.strip())


def _decoded(path: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number from 1, line ends kept."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:  # a byte order mark is no part of the first record
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                got = f"byte {error.start + 1} of the line is not"
                raise UsageError(f"{path}:{number}", expected="UTF-8 text", got=got) from None
            yield number, text


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """JSON by its first character: an array of objects, else one object a line."""
    with path.open("rb") as stream:
        is_array = stream.read(CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    if not is_array:
        yield from _lines(path)
        return
    with path.open(encoding="utf-8-sig") as text:
        try:
            yield from _array_items(text, path)
        except UnicodeDecodeError:
            raise UsageError(str(path), expected="UTF-8 text", got="other bytes") from None


def _array_items(stream: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """The objects of a JSON array, however long: at most one of them is in memory, with a chunk of the file."""
    text = stream.read(CHUNK).lstrip()[1:]
    number, closing = 0, False
    while not closing:
        text = text.lstrip() or stream.read(CHUNK).lstrip()
        if number == 0 and text.startswith("]"):
            return
        number += 1
        where = f"{path}:{number}"
        item, text = _next_item(stream, text, where)
        yield number, item
        text = text.lstrip() or stream.read(CHUNK).lstrip()
        closing = text.startswith("]")
        if not closing and not text.startswith(","):
            raise UsageError(where, expected="a comma or the array's end behind it", got="neither")
        text = text[1:]


def _next_item(stream: TextIO, text: str, where: str) -> tuple[Any, str]:
    """The object at the beginning of `text`, read on as far as needed, and what follows it."""
    while True:
        try:
            item, end = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError as error:
            more = stream.read(max(CHUNK, len(text)))
            if not more or len(text) > LARGEST:
                raise UsageError(where, expected="a JSON object", got="a syntax error") from error
            text = (text + more).lstrip()
        except (ValueError, RecursionError):
            raise UsageError(where, expected="a JSON object", got="one beyond what Python reads") from None
        else:
            return _mapping(item, where), text[end:]


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows below the heading, each with the line that it ends on."""
    reader = csv.reader((line for _, line in _decoded(path)), strict=True)
    try:
        columns = next(reader, [])
        if len(set(columns)) < len(columns):
            raise UsageError(str(path), expected="columns of different names", got="one name twice")
        for cells in filter(None, reader):  # a blank line is no row
            if len(cells) != len(columns):
                raise UsageError(f"{path}:{reader.line_num}", expected=f"{len(columns)} cells, as the heading has",
                                 got=str(len(cells)))  # fmt: skip
            yield reader.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}", expected="a row of CSV", got=str(error)) from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet

    number = 0
    try:
        with path.open("rb"), pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=256, use_threads=False)
            for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
                yield number, row
    except UnicodeDecodeError:
        raise UsageError(f"{path}:{number + 1}", expected="UTF-8 text", got="other bytes") from None
    except pyarrow.ArrowException:
        raise UsageError(str(path), expected="a Parquet file", got="a broken one, or none") from None


def _dataset_rows(source: str) -> Iterator[tuple[int, Any]]:
    """The rows of a dataset folder or a hub data set, streamed: no copy of private data is left in a cache."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if (Path(source) / "state.json").is_file() or (Path(source) / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(source)
        else:
            found = datasets.load_dataset(source, streaming=True)
        yield from enumerate(_one_split(found, source), 1)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(source, expected="a data set: a folder that `datasets` reads, or a hub id within reach",
                         got=f"a {type(error).__name__}", remedy="check the name, or give a file") from None  # fmt: skip


def _one_split(found: Any, source: str) -> Iterable[Any]:
    """The rows of the split `train`, or of the only one."""
    if not isinstance(found, dict):
        rows: Iterable[Any] = found
        return rows
    name = "train" if "train" in found else next(iter(found))
    if name == "train" or len(found) == 1:
        return _one_split(found[name], source)
    raise UsageError(source, expected="a split named train, or one alone", got=", ".join(map(str, found)))


def _parse_json(line: str, where: str) -> Fields:
    expected = "one JSON object on the line"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(where, expected=expected, got=f"a syntax error at column {error.colno}") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise UsageError(where, expected=expected, got="a number of too many digits") from None
    except RecursionError:
        raise UsageError(where, expected=expected, got="too many nested brackets") from None
    return _mapping(row, where, expected)


def _mapping(row: object, where: str, expected: str = "a JSON object") -> Fields:
    if not isinstance(row, dict):
        raise UsageError(where, expected=expected, got=f"a {type(row).__name__}")
    return row
