"""Rows of JSON: one object a line, or the objects of one array."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from dpaudit.data.columns import PLAIN_NAME
from dpaudit.data.lines import (
    AGAIN,
    CHUNK,
    LARGEST,
    encoding_of,
    numbered,
    opened,
    suffix_of,
    ways_to_convert,
)
from dpaudit.errors import UsageError, kind_of

Row = tuple[int, dict[str, Any] | str]  # a line of JSON is parsed later, by `parsed`, if it is wanted
ONE = "one JSON object on the line"


class _Twice(ValueError):
    """A key that an object has twice, so that its value is ambiguous."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [key for key, _ in pairs]
        name = next(key for key in names if names.count(key) > 1)
        raise _Twice(f"{name} twice" if PLAIN_NAME.fullmatch(name) else "a key twice")
    return fields


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def of_lines(path: Path) -> Iterator[Row]:
    """One object a line; blank lines are skipped."""
    for number, line in numbered(path):
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
    """The remedy for a line that is no JSON; an object over several lines can be converted in one step."""
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


def of_lines_or_array(path: Path) -> Iterator[Row]:
    """JSON by its first character: an array of objects, else one object a line."""
    with opened(path) as stream:
        encoding = encoding_of(stream, path)
        start = stream.read(CHUNK).decode(encoding, errors="replace").lstrip()
    if not start.startswith("["):
        yield from of_lines(path)
        return
    with opened(path) as stream, io.TextIOWrapper(stream, encoding=encoding) as text:
        try:
            yield from _array_items(text, path)
        except UnicodeError:
            raise UsageError(str(path), "UTF-8 text", "bytes that are not UTF-8", ways_to_convert()) from None


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
            raise UsageError(where, "a comma or the array's end after the object", "another character")
        text = text[1:]
    _require_end(text.removeprefix("]") if number == 0 else text, stream, path)


def _require_end(text: str, stream: TextIO, path: Path) -> None:
    """Raises UsageError where more than blanks follow the array: rows that would not be read."""
    while text or (text := stream.read(CHUNK)):
        if not text.isspace():
            raise UsageError(
                str(path),
                "one JSON array",
                "text after its end",
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
            raise UsageError(where, "a JSON object", "an object that Python cannot read") from None
        else:
            if not isinstance(item, dict):
                raise UsageError(where, "a JSON object", kind_of(item))
            return item, text[end:]
