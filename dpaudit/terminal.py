"""What reaches a terminal: no control character, nothing that turns or hides text, no endless line.

File names, YAML, model folders and servers are other people's text. Shown raw, an escape sequence moves the
cursor over a verdict, a right-to-left mark swaps its figures, and a byte that is no UTF-8 ends the command.
"""

import contextlib
import json
import os
import sys
from typing import Any, TextIO

BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")  # printable to Unicode, seen by nobody
LINE_MOST = 3000  # characters


def visible(text: str, most: int = LINE_MOST) -> str:
    """`text` as one line of printable characters, at most about `most` of them: the middle gives way to an
    ellipsis.

    White space of any kind is a blank; what cannot be seen is written as an escape such as `\\x1b`.
    """
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-(most // 2) :]}"
    if text.isprintable() and BLANK_LETTERS.isdisjoint(text):
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isspace() and character not in "\x1c\x1d\x1e\x1f\x85":
        return " "
    if character.isprintable() and character not in BLANK_LETTERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def as_json(value: dict[str, Any]) -> str:
    """The value as one JSON object; what is invisible, or cannot be printed here, is escaped."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not is_unicode, indent=1)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def echo(text: str, error: bool = False) -> None:
    """Prints a result, or a line on stderr. A reader who has left, as `head` does, does not change the
    exit code.
    """
    stream: TextIO | None = sys.stderr if error else sys.stdout
    if stream is None:  # closed by the parent process
        return
    encoding = stream.encoding or "ascii"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        discard(stream)
    except OSError:
        # the rest of the buffer would fail once more as Python ends, with another exit code
        discard(stream)
        raise


def discard(stream: TextIO) -> None:
    """Whatever is written to `stream` from now on goes nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test's own has no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
