"""The bytes of a data file as lines of text: unpacked, in the encoding that they have."""

import codecs
import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dpaudit.errors import UsageError

CHUNK = 1 << 16  # characters or bytes read at a time
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
AGAIN = "copy or write the file again"


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Raises UsageError where what is read inside the block turns out to be a cut or damaged gzip file."""
    try:
        yield
    except EOFError:
        raise UsageError(str(path), "a whole gzip file", "a file that was cut off", AGAIN) from None
    except (gzip.BadGzipFile, zlib.error):
        raise UsageError(str(path), "a whole gzip file", "a damaged file", AGAIN) from None


def suffix_of(path: Path) -> str:
    """The suffix that names the format: the one before `.gz`, if there is one."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def opened(path: Path) -> IO[bytes]:
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


def encoding_of(stream: IO[bytes], path: Path) -> str:
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


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number from 1, line ends kept; a byte order mark is no part of the first."""
    with opened(path) as stream:
        encoding = encoding_of(stream, path)
        if encoding not in ("utf-8", "utf-8-sig"):
            yield from _wide_lines(stream, encoding, path)
            return
        for number, line in enumerate(iter(lambda: stream.readline(LARGEST), b""), 1):
            if len(line) == LARGEST:
                raise UsageError(
                    f"{path}:{number}", f"lines of fewer than {LARGEST:,} bytes", "a longer line"
                )
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                got = f"byte {error.start + 1} of the line, which is not UTF-8"
                raise UsageError(
                    f"{path}:{number}", "UTF-8 text", got, ways_to_convert(_guessed(line))
                ) from None
            encoding = "utf-8"
            yield number, text


def _guessed(line: bytes) -> tuple[str, str]:
    """The likelier encoding first: GB18030 where bytes beyond ASCII come in pairs, as Chinese characters do
    there; else the Windows one of the West.

    This is a guess: accents stand in pairs too, and the second byte of a Chinese character may be ASCII.
    """
    runs = re.findall(rb"[\x80-\xff]+", line)
    return (
        ("GB18030", "WINDOWS-1252") if all(len(run) % 2 == 0 for run in runs) else ("WINDOWS-1252", "GB18030")
    )


def ways_to_convert(guessed: tuple[str, str] = ("GB18030", "WINDOWS-1252")) -> str:
    """What to type for text that is no UTF-8, the likelier encoding first."""
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
                f"{path}:{number + 1}",
                f"{encoding.upper()} text, as its mark says",
                "bytes of another encoding",
            ) from None
