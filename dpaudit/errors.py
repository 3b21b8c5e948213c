"""Errors that a user can mend, each told in one line; the command line turns them into exit codes."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from dpaudit.terminal import visible

T = TypeVar("T")

PART_MOST, REMEDY_MOST = 400, 800  # characters of one part of a line; what is longer loses its middle

UNREAD: dict[type[OSError], str] = {
    IsADirectoryError: "name the file itself",
    NotADirectoryError: "a part of the path is a file: check it",
    FileNotFoundError: "check the name and the folder",
    PermissionError: "change its permissions, or name another",
}
KINDS: dict[type, str] = {  # what a value is, for who does not write Python
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    list: "a list",
    dict: "a mapping",
    bytes: "bytes",
    tuple: "a pair",
    set: "a set",
    datetime.date: "a date",
    datetime.datetime: "a date",
    datetime.time: "a time of day",
    datetime.timedelta: "a span of time",
}


def kind_of(value: object) -> str:
    """What a value is, in plain words; never the value."""
    return "no value" if value is None else KINDS.get(type(value), "a value of another kind")


class UsageError(Exception):
    """A user's mistake: exit code 2 and one line that names place, expectation, finding and remedy.

    Never put training text, a canary's secret or a patient's field into any argument.
    """

    exit_code = 2

    def __init__(self, where: str, expected: str, got: str, remedy: str = "") -> None:
        self.where, self.expected, self.got, self.remedy = where, expected, got, remedy
        line = (
            f"{visible(where, PART_MOST)}: expected {visible(expected, REMEDY_MOST)}, got "
            f"{visible(got, PART_MOST)}"
        )
        super().__init__(f"{line}; {visible(remedy, REMEDY_MOST)}" if remedy else line)

    def __reduce__(self) -> tuple[object, ...]:
        return _usage_error, (self.where, self.expected, self.got, self.remedy)


def unread(where: object, expected: str, error: OSError, remedy: str = "") -> UsageError:
    """The error for a file that the system would not read, with what to do about it where the caller knows
    nothing better.
    """
    got = "a folder" if isinstance(error, IsADirectoryError) else error.strerror or "an error"
    ways = (way for kind, way in UNREAD.items() if isinstance(error, kind))
    own = "" if isinstance(error, IsADirectoryError) else remedy
    return UsageError(str(where), expected, got, own or next(ways, ""))


class Mistakes(UsageError):
    """Several mistakes that were found in one go: exit code 2 and a line each."""

    def __init__(self, found: Sequence[UsageError]) -> None:
        self.found, first = tuple(found), found[0]
        super().__init__(first.where, expected=first.expected, got=first.got, remedy=first.remedy)
        self.args = ("\n".join(map(str, found)),)

    def __reduce__(self) -> tuple[object, ...]:
        return Mistakes, (self.found,)


@dataclass
class Gathering:
    """What checks that do not rest on one another find wrong, to be told together."""

    found: list[UsageError] = field(default_factory=list)

    def add(self, error: UsageError) -> None:
        """Keeps what was found, once."""
        known = set(map(str, self.found))
        each = error.found if isinstance(error, Mistakes) else (error,)
        self.found += [one for one in each if str(one) not in known]

    def passes(self, check: Callable[..., object], *arguments: object) -> bool:
        """Whether a check finds nothing wrong; what it finds is kept."""
        try:
            check(*arguments)
        except UsageError as error:
            self.add(error)
            return False
        return True

    def value(self, check: Callable[..., T], *arguments: object) -> T | None:
        """What a check returns; None where it finds something wrong, which is kept."""
        try:
            return check(*arguments)
        except UsageError as error:
            self.add(error)
            return None

    def end(self) -> None:
        """Raises what was found: the one mistake, or Mistakes."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else Mistakes(self.found)


class BadValue(ValueError):
    """A value that a configuration's dataclass refuses. The schema adds the file and makes a UsageError of
    it.
    """

    def __init__(self, key: str, expected: str, got: object, remedy: str = "") -> None:
        self.key, self.expected, self.got, self.remedy = key, expected, str(got), remedy
        line = f"{key}: expected {expected}, got {got}"
        super().__init__(f"{line}; {remedy}" if remedy else line)


class PartialError(Exception):
    """Work that stopped half way and resumes when the command is typed again: exit code 3."""

    exit_code = 3


class GuardError(Exception):
    """A privacy guard that fired while training: the arm stops, with what was seen and expected (exit code
    3).
    """

    exit_code = 3


def _usage_error(where: str, expected: str, got: str, remedy: str) -> UsageError:
    """Rebuilds an error that crossed from another process."""
    return UsageError(where, expected, got, remedy)
