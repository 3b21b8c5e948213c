"""The rows of one data file, as mappings with their numbers: JSON lines, JSON arrays, CSV, Parquet, Arrow,
plain text, some of them gzipped.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from dpaudit.data import json_rows, tables
from dpaudit.data.json_rows import Row
from dpaudit.data.lines import CHUNK, encoding_of, numbered, opened, suffix_of, whole
from dpaudit.errors import unread


def of_file(path: Path) -> Iterator[Row]:
    """The rows of a file, one at a time. Raises UsageError that names file and line, or place, and quotes
    nothing.
    """
    try:
        with whole(path):
            yield from READERS.get(suffix_of(path), json_rows.of_lines_or_array)(path)
    except OSError as error:
        raise unread(path, "a readable data file", error) from error


def _text_rows(path: Path) -> Iterator[Row]:
    """A text a line, where the file is no JSON."""
    with opened(path) as stream:
        start = stream.read(CHUNK).decode(encoding_of(stream, path), errors="replace").lstrip("\ufeff \t\r\n")
    if start.startswith(("{", "[")):
        yield from json_rows.of_lines_or_array(path)
        return
    for number, line in numbered(path):
        if not line.isspace():
            yield number, {"text": line.rstrip("\r\n")}


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": json_rows.of_lines,
    ".ndjson": json_rows.of_lines,
    ".json": json_rows.of_lines_or_array,
    ".csv": tables.of_csv,
    ".tsv": tables.of_csv,
    ".parquet": tables.of_parquet,
    ".arrow": tables.of_arrow,
    ".txt": _text_rows,
}
