"""The rows of one data file, as mappings with their numbers: JSON lines, JSON arrays, CSV, Parquet, Arrow,
plain text, some of them gzipped.
"""

import codecs
import csv
import datetime
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TextIO

from dpaudit.data.shapes import ASKED, PLAIN_NAME, SHAPES
from dpaudit.errors import UsageError, kind_of

Row = tuple[int, dict[str, Any] | str]  # a line of JSON is parsed by `parsed`, once it is known to be wanted
CHUNK = 1 << 16  # characters of a JSON array read at a time
LARGEST = 1 << 26  # characters of one item of a JSON array, one line or one cell
MARKS = {  # byte order marks, the longer ones first
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
GZIP = b"\x1f\x8b"
ARCHIVES = {
    b"PK\x03\x04": "a zip archive or a workbook",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
QUOTED = 'close it; inside of a cell in quotation marks each one is written twice: ""'
CELLS = "put a cell that holds a comma or another divider into quotation marks, and leave no cell out"
DELIMITERS = (",", ";", "\t", "|")
KNOWN = {key for shape in SHAPES for key in shape.keys} | set(ASKED)
REMEDY = "give a JSONL, JSON, CSV or Parquet file, a folder or a hub id with --data"

AGAIN = "copy or write the file again"


def of_file(path: Path) -> Iterator[Row]:
    """The rows of a file, one at a time. Raises UsageError that names file and line, or place, and quotes
    nothing.
    """
    try:
        yield from _reader(path)(path)
    except EOFError:
        raise UsageError(str(path), "a whole gzip file", "one that was cut off", AGAIN) from None
    except zlib.error:
        raise UsageError(str(path), "a whole gzip file", "a damaged one", AGAIN) from None
    except OSError as error:
        raise UsageError(
            str(path), "a readable data file", error.strerror or "a broken one", REMEDY
        ) from error


def suffix_of(path: Path) -> str:
    """The ending that tells the format: that before `.gz`, where there is one."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _reader(path: Path) -> Callable[[Path], Iterator[Row]]:
    return READERS.get(suffix_of(path), _json_rows)


# ---- bytes and characters


def _opened(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where they are gzipped, whatever its name says. Raises UsageError for
    other archives.
    """
    stream = path.open("rb")
    head = stream.peek(8)[:8]
    if head.startswith(GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=stream))
    for mark, name in ARCHIVES.items():
        if head.startswith(mark):
            stream.close()
            raise UsageError(str(path), "a data file, plain or gzipped", name, "unpack it, or save it as CSV")
    return stream


def _encoding(stream: IO[bytes], path: Path) -> str:
    """What the byte order mark says, else UTF-8."""
    head: bytes = stream.peek(4)[:4]  # type: ignore[attr-defined]
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if b"\0" in head and not head.startswith(b"PAR1"):
        order = "BE" if head.startswith(b"\0") else "LE"
        raise UsageError(
            str(path), "UTF-8 text", "zero bytes, as UTF-16 without a mark has", _iconv(f"UTF-16{order}")
        )
    return "utf-8"


def _iconv(encoding: str) -> str:
    return f"convert it: iconv -f {encoding} -t UTF-8 FILE > NEW"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number from 1, line ends kept; a byte order mark is no part of the first."""
    with _opened(path) as stream:
        encoding = _encoding(stream, path)
        if encoding not in ("utf-8", "utf-8-sig"):
            yield from _wide_lines(stream, encoding, path)
            return
        for number, line in enumerate(iter(lambda: stream.readline(LARGEST), b""), 1):
            if len(line) == LARGEST:
                raise UsageError(f"{path}:{number}", f"lines of fewer than {LARGEST:,} bytes", "a longer one")
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                got = f"byte {error.start + 1} of the line is not"
                raise UsageError(f"{path}:{number}", "UTF-8 text", got, _either(_guessed(line))) from None
            encoding = "utf-8"
            yield number, text


def _guessed(line: bytes) -> tuple[str, str]:
    """The likelier encoding first: GB18030 where bytes beyond ASCII come in pairs, as Chinese characters do
    there; else the Windows one of the West.

    Nothing but a reader tells for certain: accents stand in pairs too, and the second byte of a Chinese
    character may be ASCII.
    """
    runs = re.findall(rb"[\x80-\xff]+", line)
    return (
        ("GB18030", "WINDOWS-1252") if all(len(run) % 2 == 0 for run in runs) else ("WINDOWS-1252", "GB18030")
    )


def _either(guessed: tuple[str, str] = ("GB18030", "WINDOWS-1252")) -> str:
    likely, other = guessed
    return (
        f"{_iconv(likely)}, and look at the result: where its letters are wrong, -f {other} (GB18030 is "
        f"Chinese, WINDOWS-1252 Western)"
    )


def _wide_lines(stream: IO[bytes], encoding: str, path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    with io.TextIOWrapper(stream, encoding=encoding, newline="\n") as text:
        try:
            for number, line in enumerate(text, 1):
                yield number, line
        except UnicodeError:
            raise UsageError(
                f"{path}:{number + 1}", f"{encoding.upper()} text, as its mark says", "other bytes"
            ) from None


# ---- JSON


ONE = "one JSON object on the line"


class _Twice(ValueError):
    """A key that an object has twice: which value is meant, nobody can tell."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        name = next(key for key in names if names.count(key) > 1)
        raise _Twice(f"{name} twice" if PLAIN_NAME.fullmatch(name) else "one of them twice")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _json_lines(path: Path) -> Iterator[Row]:
    """One object a line; blank lines are none."""
    for number, line in _lines(path):
        if not line.isspace():
            yield number, line


def parsed(line: str, where: str) -> dict[str, Any]:
    """The object that a line of JSON holds. Raises UsageError at `where`, which is FILE:NUMBER."""
    try:
        row = DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise _no_object(error, line, where) from None
    if not isinstance(row, dict):
        remedy = "one row a line: jq -c '.[]' FILE > NEW.jsonl" if isinstance(row, list) else ""
        raise UsageError(where, ONE, kind_of(row), remedy)
    return row


def _no_object(error: Exception, line: str, where: str) -> UsageError:
    if isinstance(error, json.JSONDecodeError):
        return UsageError(where, ONE, f"a syntax error at column {error.colno}", _repair(error, line, where))
    if isinstance(error, _Twice):
        return UsageError(where, "each key once in an object", str(error), "leave one of them out")
    if isinstance(error, RecursionError):
        return UsageError(where, ONE, "too many nested brackets")
    return UsageError(where, ONE, "a number of too many digits")  # Python's limit


def _repair(error: json.JSONDecodeError, line: str, where: str) -> str:
    """What to do with a line that is no JSON; with an object over several lines, it is one step."""
    if line.lstrip().startswith("["):
        return "a file that is one array is named .json"
    is_begun = line.strip() == "{" or suffix_of(Path(where.rpartition(":")[0])) == ".json"
    if is_begun:
        return "of objects over several lines make one a line: jq -c . FILE > NEW.jsonl"
    is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(line.rstrip())
    return (
        f"the line breaks off: {AGAIN}, or leave the line out"
        if is_cut
        else "write the line as JSON, or leave it out"
    )


def _json_rows(path: Path) -> Iterator[Row]:
    """JSON by its first character: an array of objects, else one object a line."""
    with _opened(path) as stream:
        encoding = _encoding(stream, path)
        start = stream.read(CHUNK).decode(encoding, errors="replace").lstrip()
    if not start.startswith("["):
        yield from _json_lines(path)
        return
    with _opened(path) as stream, io.TextIOWrapper(stream, encoding=encoding) as text:
        try:
            yield from _array_items(text, path)
        except UnicodeError:
            raise UsageError(str(path), "UTF-8 text", "other bytes", _either()) from None


def _array_items(stream: TextIO, path: Path) -> Iterator[Row]:
    """The objects of a JSON array, however long: at most one of them is in memory, with a chunk of the
    file.
    """
    text = stream.read(CHUNK).lstrip()[1:]
    number, closing = 0, False
    while not closing:
        text = text.lstrip() or stream.read(CHUNK).lstrip()
        if number == 0 and text.startswith("]"):
            break
        number += 1
        where = f"{path}:{number}"
        item, text = _next_item(stream, text, where)
        yield number, item
        text = text.lstrip() or stream.read(CHUNK).lstrip()
        closing = text.startswith("]")
        if not closing and not text.startswith(","):
            raise UsageError(where, "a comma or the array's end behind it", "neither")
        text = text[1:]
    _require_end(text.removeprefix("]") if number == 0 else text, stream, path)


def _require_end(text: str, stream: TextIO, path: Path) -> None:
    """Raises UsageError where more than blanks follow the array: rows that would not be read."""
    while text or (text := stream.read(CHUNK)):
        if not text.isspace():
            raise UsageError(
                str(path),
                "one JSON array",
                "more behind its end",
                "make one array of several: jq -s add FILE > NEW.json",
            )
        text = ""


def _next_item(stream: TextIO, text: str, where: str) -> tuple[dict[str, Any], str]:
    """The object at the beginning of `text`, read on as far as needed, and what follows it."""
    while True:
        try:
            item, end = DECODER.raw_decode(text)
        except json.JSONDecodeError as error:
            more = stream.read(max(CHUNK, len(text)))
            if not more or len(text) > LARGEST:
                raise UsageError(
                    where,
                    "a JSON object",
                    "a syntax error",
                    f"where the file breaks off, {AGAIN}",
                ) from error
            text = (text + more).lstrip()
        except _Twice as error:
            raise UsageError(
                where, "each key once in an object", str(error), "leave one of them out"
            ) from None
        except (ValueError, RecursionError):
            raise UsageError(where, "a JSON object", "one beyond what Python reads") from None
        else:
            if not isinstance(item, dict):
                raise UsageError(where, "a JSON object", kind_of(item))
            return item, text[end:]


# ---- tables and plain text


def _csv_rows(path: Path) -> Iterator[Row]:
    """The rows below the heading, each with the line that it ends on; commas, semicolons or tabs, as the
    heading tells.
    """
    csv.field_size_limit(LARGEST)
    lines = (line for _, line in _lines(path))
    head = next(lines, "")
    if re.fullmatch(r'"?sep=[,;|\t]"?', head.strip("\r\n")):  # for Excel alone
        head = next(lines, "")
    reader = csv.reader(_again(head, lines), strict=True, delimiter=_delimiter(head, path))
    begun = 1
    try:
        columns = [name.strip() for name in next(reader, [])]
        if len(set(columns)) < len(columns):
            raise UsageError(
                str(path),
                "columns of different names",
                "one name twice",
                "rename one of them",
            )
        begun = reader.line_num + 1
        for cells in filter(None, reader):  # a blank line is no row
            if len(cells) != len(columns):
                raise UsageError(
                    f"{path}:{reader.line_num}",
                    f"{len(columns)} cells, as the heading has",
                    str(len(cells)),
                    CELLS,
                )
            yield reader.line_num, dict(zip(columns, cells, strict=True))
            begun = reader.line_num + 1
    except csv.Error as error:
        raise no_table(error, f"{path}:{reader.line_num}", begun) from None


def no_table(error: csv.Error, where: str, begun: int) -> UsageError:
    """What the csv module would not read, in a row that begins at line `begun` or below."""
    told = str(error)
    if "unexpected end" in told or "field larger" in told:
        got = f"a quotation mark that was opened in line {begun} or below and not closed"
    elif "expected after" in told:
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


def _delimiter(head: str, path: Path) -> str:
    """What divides the heading so that a known column is among the parts; the suffix's own where none
    does.
    """
    own = "\t" if suffix_of(path) == ".tsv" else ","
    for delimiter in (own, *DELIMITERS):
        if KNOWN & {name.strip().strip('"') for name in head.split(delimiter)}:
            return delimiter
    return own


def _text_rows(path: Path) -> Iterator[Row]:
    """A text a line, where the file is no JSON."""
    with _opened(path) as stream:
        start = stream.read(CHUNK).decode(_encoding(stream, path), errors="replace").lstrip("\ufeff \t\r\n")
    if start.startswith(("{", "[")):
        yield from _json_rows(path)
        return
    for number, line in _lines(path):
        if not line.isspace():
            yield number, {"text": line.rstrip("\r\n")}


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    with path.open("rb"):  # a missing file is no broken one
        pass
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=256, use_threads=False)
            yield from _rows_of_batches(batches, file.schema_arrow, path)
    except pyarrow.ArrowException:
        raise UsageError(str(path), "a Parquet file", "a broken one, or none", AGAIN) from None


def _arrow_rows(path: Path) -> Iterator[Row]:
    """What `save_to_disk` writes: a stream of batches."""
    import pyarrow

    with path.open("rb") as stream:
        try:
            with pyarrow.ipc.open_stream(stream) as batches:
                small = (part for batch in batches for part in _parts(batch))
                yield from _rows_of_batches(small, batches.schema, path)
        except pyarrow.ArrowException:
            raise UsageError(
                str(path), "an Arrow stream, as save_to_disk writes", "a broken one, or none", AGAIN
            ) from None


def _parts(batch: Any) -> Iterator[Any]:
    return (batch.slice(start, 256) for start in range(0, batch.num_rows, 256))


def _rows_of_batches(batches: Iterable[Any], schema: Any, path: Path) -> Iterator[Row]:
    if len(set(schema.names)) < len(schema.names):
        raise UsageError(
            str(path),
            "columns of different names",
            "one name twice",
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
                "others inside a list or a struct",
                "leave the times in it out, or write them as text",
            ) from None
        for cells in zip(*columns.values(), strict=True):
            number += 1
            yield number, dict(zip(columns, cells, strict=True))


def _check_whole(batch: Any, before: int, path: Path) -> None:
    """Raises UsageError for text that is no UTF-8, ArrowInvalid for offsets that point elsewhere: reading
    there would end the process.
    """
    import pyarrow

    try:
        batch.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        got = f"other bytes in one of rows {before + 1} to {before + batch.num_rows}"
        raise UsageError(str(path), "UTF-8 text", got) from None


def _values(column: Any) -> list[Any]:
    """A column as Python values; of times a stand-in of their kind, since no text or id is one and Python
    lacks some.
    """
    import pyarrow

    kind = next((found for test, found in TIMES.items() if getattr(pyarrow.types, test)(column.type)), None)
    if kind is None:
        found: list[Any] = column.to_pylist()
        return found
    return [kind if there else None for there in column.is_valid().to_pylist()]


TIMES = {
    "is_date": datetime.date.min,
    "is_timestamp": datetime.datetime.min,
    "is_time": datetime.time.min,
    "is_duration": datetime.timedelta(0),
    "is_interval": datetime.timedelta(0),
}
READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
    ".txt": _text_rows,
}
