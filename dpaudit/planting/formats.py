"""The formats that can be planted into, and the rows of a file as JSON texts, whatever its format."""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TextIO

from dpaudit.data import rows, tables
from dpaudit.data.lines import GZIP, LARGEST
from dpaudit.errors import UsageError, unread

Kind = Literal["lines", "array", "csv", "parquet", "texts"]
ANY = "a JSONL, JSON, CSV or Parquet file, or a text a line (.txt)"
SEPARATED = re.compile(r'\ufeff?"?sep=[,;|\t]"?')  # a first line for Excel alone
BY_SUFFIX: dict[str, Kind] = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
SAMPLE = 200  # records that show how a CSV file quotes
WIDE = {  # byte order marks, the longer ones first -> the encoding, the mark counted as text
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def kind_of(source: Path) -> Kind:
    """The format of a file. Raises UsageError for one that cannot be written again as it is."""
    try:
        with source.open("rb") as stream:
            start = stream.read(4096)
    except OSError as error:
        raise unread(source, ANY, error) from None
    suffix, head = source.suffix.lower(), start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix in BY_SUFFIX and head and not start.startswith(GZIP):
        return BY_SUFFIX[suffix]
    if suffix == ".txt" and head and not head.startswith((b"{", b"[", GZIP)):
        return "texts"
    if suffix in (".jsonl", ".ndjson", ".json", ".txt") and head.startswith(b"{"):
        return "lines"
    if suffix in (".json", ".txt") and head.startswith(b"["):
        return "array"
    raise UsageError(str(source), ANY, "another kind of file", "convert it, plant, and convert back")


def encoding_of(source: Path) -> str:
    """The encoding of a file's text, its mark counted as text."""
    with source.open("rb") as stream:
        start = stream.read(4)
    return next((name for mark, name in WIDE.items() if start.startswith(mark)), "utf-8")


def is_marked(source: Path) -> bool:
    """Whether a file begins with a byte order mark."""
    with source.open("rb") as stream:
        start = stream.read(4)
    return start.startswith((codecs.BOM_UTF8, *WIDE))


def lines_of(source: Path) -> Iterator[str]:
    """The rows of a file in their order, each as the JSON text of an object."""
    kind = kind_of(source)
    if kind == "lines":
        yield from _lines(source)
    elif kind == "array":
        yield from Array.of(source).items
    elif kind == "texts":
        for number, row in rows.of_file(source):
            yield _json_of(row, f"{source}:{number}") if isinstance(row, dict) else row
    elif kind == "csv":
        table = Csv.of(source)
        yield from (table.line(cells) for _, cells in table.records())
    else:
        for number, row in rows.of_file(source):
            assert isinstance(row, dict)
            yield _json_of(row, f"{source}:{number}")


def _lines(source: Path) -> Iterator[str]:
    """The lines that are not blank, without line ends."""
    with source.open("rb") as stream:
        for number, line in enumerate(stream):
            text = line.decode("utf-8-sig" if number == 0 else "utf-8", errors="replace").rstrip("\r\n")
            if text.strip():
                yield text


def _json_of(row: dict[str, Any], where: str) -> str:
    try:
        return json.dumps(row, ensure_ascii=False)
    except TypeError:
        raise UsageError(
            where,
            "columns of texts, numbers and lists of them",
            "times, bytes or decimal numbers",
            "leave such columns out, or write them as text",
        ) from None


@dataclass(frozen=True)
class Array:
    """A JSON array as text: what stands before its items, each of them, between them, and after them."""

    before: str
    items: tuple[str, ...]
    between: str
    after: str

    @classmethod
    def of(cls, source: Path) -> "Array":
        """The array in a file, which the data's reader has read already or will read."""
        text = source.read_bytes().decode("utf-8", errors="replace")
        decoder, places = json.JSONDecoder(), list[tuple[int, int]]()
        try:
            at = _after(text, text.index("["))
            while text[at : at + 1] != "]":
                _, end = decoder.raw_decode(text, at)
                places.append((at, end))
                at = _after(text, end) if text[_blank(text, end)] == "," else _blank(text, end)
        except (ValueError, IndexError, RecursionError):
            raise UsageError(str(source), "a JSON array", "a syntax error") from None
        if not places:
            raise UsageError(str(source), "at least one record", "no record")
        between = text[places[0][1] : places[1][0]] if len(places) > 1 else ","
        items = tuple(text[start:end] for start, end in places)
        return cls(text[: places[0][0]], items, between, text[places[-1][1] :])


def _blank(text: str, at: int) -> int:
    """The first place from `at` on that is no blank."""
    while text[at] in " \t\r\n":
        at += 1
    return at


def _after(text: str, at: int) -> int:
    """The first place behind the character at or after `at` that is no blank."""
    return _blank(text, _blank(text, at) + 1)


@contextmanager
def _opened(source: Path) -> Iterator[TextIO]:
    """A CSV file as text with its line ends. Raises UsageError where it breaks off or has stray marks."""
    try:
        with source.open(encoding=encoding_of(source), errors="replace", newline="") as stream:
            yield stream
    except csv.Error:
        raise UsageError(
            str(source), "rows of CSV", "a quotation mark or a line end in a wrong place", tables.QUOTED
        ) from None


def _noted(stream: TextIO, read: list[str]) -> Iterator[str]:
    """The lines of a stream, each of which is added to `read` as well."""
    for line in stream:
        read.append(line)
        yield line


@dataclass(frozen=True)
class Csv:
    """A CSV file: how it begins, up to its heading, and how its rows are written."""

    source: Path
    before: tuple[str, ...]  # lines
    columns: tuple[str, ...]
    width: int  # cells of a row: behind the columns a spreadsheet may leave empty ones
    delimiter: str
    end: str
    quoting: Literal["needed", "texts", "all"]

    @classmethod
    def of(cls, source: Path) -> "Csv":
        """How a file is written; its rows are checked by the data's reader. Cells are quoted as in most rows
        of the beginning.
        """
        csv.field_size_limit(LARGEST)
        with _opened(source) as stream:
            read = [stream.readline()]
            if SEPARATED.fullmatch(read[0].strip("\r\n")):
                read.append(stream.readline())
            head = read[-1].removeprefix("\ufeff")
            delimiter = tables.delimiter_of(head, source)
            lines = chain([head], _noted(stream, read))
            cells = next(csv.reader(lines, strict=True, delimiter=delimiter), [])
        before, columns, width = tuple(read), tables.columns_of(cells), len(cells)
        end = "\r\n" if read[0].endswith("\r\n") else "\n"
        bare = cls(source, before, columns, width, delimiter, end, "needed")
        sample = [record for record, _ in zip(bare.records(), range(SAMPLE), strict=False)]
        ways: tuple[Literal["needed", "texts", "all"], ...] = ("needed", "texts", "all")
        written = {
            way: sum(replace(bare, quoting=way).text(row) == raw.rstrip("\r\n") for raw, row in sample)
            for way in ways
        }
        return replace(bare, quoting=max(ways, key=written.__getitem__))

    @property
    def heading(self) -> list[str]:
        """The cells of the heading as they are written."""
        lines = [line.removeprefix("\ufeff") for line in self.before[self.begins :]]
        return next(csv.reader(lines, strict=True, delimiter=self.delimiter), [])

    @property
    def begins(self) -> int:
        """The number of lines before the heading."""
        return int(SEPARATED.fullmatch(self.before[0].strip("\r\n")) is not None)

    def records(self) -> Iterator[tuple[str, list[str]]]:
        """The text of each row with its line end, blank lines behind it included, and its cells."""
        with _opened(self.source) as stream:
            for _ in self.before:
                stream.readline()
            read: list[str] = []
            last: tuple[str, list[str]] | None = None
            for cells in csv.reader(_noted(stream, read), strict=True, delimiter=self.delimiter):
                raw = "".join(read)
                read.clear()
                if tables.is_blank(cells):
                    last = (last[0] + raw, last[1]) if last else last
                    continue
                if last:
                    yield last
                last = (raw, cells)
            if last:
                yield last

    def line(self, cells: list[str]) -> str:
        """The JSON text of a row."""
        return json.dumps(dict(zip(self.columns, cells, strict=False)), ensure_ascii=False)

    def text(self, cells: list[str]) -> str:
        """A row as the file writes it, without line end."""
        rest = [""] * (self.width - len(cells))
        return self.delimiter.join([*map(self._cell, cells), *rest])

    def _cell(self, cell: str) -> str:
        is_needed = any(mark in cell for mark in (self.delimiter, '"', "\r", "\n"))
        is_text = self.quoting == "texts" and NUMBER.fullmatch(cell) is None
        if is_needed or is_text or self.quoting == "all":
            return '"' + cell.replace('"', '""') + '"'
        return cell
