"""Broken inputs by the thousand, the same ones for the same seed: mutations of bytes, text, JSON and YAML.

A test takes a valid input, mutates it and types the command: `outcome` says how it ended. What may come is
exit code 0, or 2 with one line; a traceback, a log, an escape on the terminal or a word of the data in the
line is a fault.
"""

import copy
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dpaudit import cli

PIECES = [
    b"",
    b"\x00",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\r",
    b"\t",
    b"\n\n",
    b"\x1b[31m",
    b"\xe2\x80\xae",
    b"\xed\xa0\x80",
    b'"',
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b": ",
    b"- ",
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!bool abc",
    b"!!binary x",
    b"!!timestamp x",
    b"!!set {a}",
    b"? ",
    b"|",
    b">",
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"#",
    b",",
    b"NaN",
    b".nan",
    b".inf",
    b"-1",
    b"1e999",
    b"010",
    b"1:30",
    b"2026-13-45",
    b"null",
    b"\\ud800",
    b"9" * 400,
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    10**9,
    2**63,
    -(2**63),
    10**400,
    0.0,
    -0.5,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "x",
    "a\nb",
    "a\x1b[2Jb",
    "\u202ea",
    "\x00",
    "\ud800",
    "0",
    "1e5",
    "inf",
    "nan",
    "../../x",
    "/",
    "é头😀",
    "y" * 5000,
    [],
    {},
    [[]],
    [None],
    [1, "a"],
    {"": 1},
    {"a": {"b": 1}},
]


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """`data` with one to three pieces flipped, cut, doubled, exchanged or put in."""
    for _ in range(draw.randint(1, 3)):
        at, length = draw.randrange(len(data) + 1), draw.choice([1, 1, 2, 8, 40])
        data = draw.choice(
            [
                data[:at] + draw.choice(PIECES) + data[at:],
                data[:at] + draw.choice(PIECES) + data[at + length :],
                data[:at] + data[at + length :],
                data[:at]
                + bytes(byte ^ (1 << draw.randrange(8)) for byte in data[at : at + 1])
                + data[at + 1 :],
                data[:at] + data[at : at + length] * draw.choice([2, 50]) + data[at + length :],
                data[:at],
            ]
        )
    return data


def mutated(value: Any, draw: random.Random) -> Any:
    """A copy of a structure of dicts and lists in which one to three values, keys or parts are others, gone,
    doubled or moved.
    """
    root = [copy.deepcopy(value)]
    for _ in range(draw.randint(1, 3)):
        holder, key = draw.choice(list(_places(root)))
        kind = draw.randrange(5)
        if kind == 0 and holder is not root:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw.choice(["", "x", f"{key}_", str(key).upper(), "__class__", "\u202e", "k" * 3000])] = (
                holder.pop(key)
            )
        elif kind == 2:
            other, place = draw.choice(list(_places(root)))
            holder[key] = copy.deepcopy(other[place])
        elif kind == 3 and isinstance(holder[key], list):
            holder[key] = holder[key] * draw.choice([0, 2]) + [draw.choice(VALUES)]
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    return root[0]


def nudged(value: Any, draw: random.Random) -> Any:
    """A copy of a structure in which one to three values are others of their own kind."""
    root = [copy.deepcopy(value)]
    for _ in range(draw.randint(1, 3)):
        holder, key = draw.choice(list(_places(root)))
        old = holder[key]
        if isinstance(old, bool):
            holder[key] = not old
        elif isinstance(old, int | float):
            holder[key] = draw.choice([old + 1, old - 1, old * 2, old / 2, old * 1000, old // 2, 0, 1, -old])
        elif isinstance(old, str):
            holder[key] = draw.choice([f"{old} ", f"{old}x", old[:-1], old.upper(), old * 30, "a", "é头"])
        elif isinstance(old, list):
            holder[key] = draw.choice([old[:-1], old * 2, old[::-1]])
    return root[0]


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list) and holder[key]:
            yield from _places(holder[key])


def as_json(value: Any) -> bytes:
    """JSON as a hostile hand writes it: NaN and half characters in it."""
    return json.dumps(value).encode()


class Outcome(NamedTuple):
    code: object
    out: str
    err: str


def outcome(words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Outcome:
    """How `dpaudit WORDS` ends, typed in this process."""
    monkeypatch.setattr(sys, "argv", ["dpaudit", *words])
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return Outcome(ended.value.code or 0, *capfd.readouterr())


def check(
    done: Outcome, told: object, private: tuple[str, ...] = (), codes: tuple[int, ...] = (0, 2)
) -> None:
    """Raises AssertionError, with what `told` says of the input, for an end that no input may bring about."""
    assert done.code in codes, (done, told)
    if done.code == 2:
        lines = done.err.splitlines()
        mistakes = [line for line in lines if line.startswith("dpaudit: ")]  # a line each
        progress = lines[: len(lines) - len(mistakes)]
        assert mistakes and lines == [*progress, *mistakes], (done, told)
        assert all(line.isprintable() and len(line) < 4000 for line in mistakes), (done, told)
        assert all(line.endswith("...") or ": done (" in line for line in progress), (done, told)
    assert "Traceback" not in done.err and not list(Path().glob("*.log")), (done, told)
    for word in private:
        assert word not in done.err, (word, done, told)
