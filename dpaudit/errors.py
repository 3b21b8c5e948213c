"""Errors that a user can mend, each printed in one line; the command line turns them into exit codes."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from dpaudit.terminal import visible

T = TypeVar("T")

PART_MOST, REMEDY_MOST = 400, 800  # characters of one part of a line; what is longer loses its middle

CAME: dict[type[OSError], str] = {
    IsADirectoryError: "a folder",
    NotADirectoryError: "a path through a file",
    FileNotFoundError: "no such file",
    PermissionError: "no permission",
}
UNREAD: dict[type[OSError], str] = {
    IsADirectoryError: "name the file itself",
    NotADirectoryError: "a part of the path is a file: check it",
    FileNotFoundError: "check the name and the folder",
    PermissionError: "change its permissions, or name another",
}
KINDS: dict[type, str] = {  # a kind of value, for people who do not write Python
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
    """A user's mistake: exit code 2 and one line with place, expectation, what came, and remedy.

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
    ways = (way for kind, way in UNREAD.items() if isinstance(error, kind))
    own = "" if isinstance(error, IsADirectoryError) else remedy
    return UsageError(str(where), expected, _came(error), own or next(ways, ""))


def _came(error: OSError) -> str:
    """What came instead of a file or folder, as a noun."""
    known = next((noun for kind, noun in CAME.items() if isinstance(error, kind)), None)
    return known or (f"an error of the system ({error.strerror})" if error.strerror else "an error")


class Mistakes(UsageError):
    """Several mistakes at once: exit code 2 and one line for each."""

    def __init__(self, errors: Sequence[UsageError]) -> None:
        self.errors, first = tuple(errors), errors[0]
        super().__init__(first.where, expected=first.expected, got=first.got, remedy=first.remedy)
        self.args = ("\n".join(map(str, errors)),)

    def __reduce__(self) -> tuple[object, ...]:
        return Mistakes, (self.errors,)


@dataclass
class Gathering:
    """Collects the errors of independent checks, to report them together."""

    errors: list[UsageError] = field(default_factory=list)

    def add(self, error: UsageError) -> None:
        """Keeps an error, unless the same line is there already."""
        known = set(map(str, self.errors))
        new = error.errors if isinstance(error, Mistakes) else (error,)
        self.errors += [mistake for mistake in new if str(mistake) not in known]

    def passes(self, check: Callable[..., object], *arguments: object) -> bool:
        """Whether a check passes; its error is kept."""
        try:
            check(*arguments)
        except UsageError as error:
            self.add(error)
            return False
        return True

    def value(self, check: Callable[..., T], *arguments: object) -> T | None:
        """What a check returns; None where it fails, and its error is kept."""
        try:
            return check(*arguments)
        except UsageError as error:
            self.add(error)
            return None

    def end(self) -> None:
        """Raises the one error, or Mistakes for several."""
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else Mistakes(self.errors)


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
