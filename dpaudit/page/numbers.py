"""The only way in which a number reaches a page: looked up in the report by its place, which it carries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from markupsafe import Markup

from dpaudit.page import formats

T = TypeVar("T")


class Placed(NamedTuple, Generic[T]):
    """A part of the report with its place, a JSON pointer."""

    at: str
    part: T


def placed(pointer: str, parts: Sequence[T]) -> list[Placed[T]]:
    """The members of a list of the report, each with its place."""
    return [Placed(f"{pointer}/{index}", part) for index, part in enumerate(parts)]


def say(sentence: str, **parts: object) -> Markup:
    """A sentence with its parts in place; what is no markup is escaped."""
    return Markup(sentence).format(**parts)


def code(name: str) -> Markup:
    """A name as it is typed."""
    return Markup("<code>{}</code>").format(name)


def codes(names: Sequence[str], between: str = ", ") -> Markup:
    return Markup(between).join(map(code, names))


@dataclass(frozen=True)
class Numbers:
    """The numbers of one report, as its JSON holds them."""

    report: dict[str, Any]

    def __call__(self, pointer: str, style: str = "text") -> Markup:
        """The value at `pointer`: its text, and beside it the exact value, its place and its style."""
        value = look_up(self.report, pointer)
        exact = "" if value is None else repr(value) if isinstance(value, float) else str(value)
        html = '<data value="{}" data-key="{}" data-style="{}">{}</data>'
        return Markup(html).format(exact, pointer, style, formats.show(value, style))

    def interval(self, at: str, lower: str, upper: str, style: str) -> Markup:
        """Two limits, the lower rounded down and the upper rounded up."""
        low, high = self(f"{at}/{lower}", f"{style}_down"), self(f"{at}/{upper}", f"{style}_up")
        return Markup('<span class="interval">[{}, {}]</span>').format(low, high)

    def counted(self, at: str, part: str, whole: str) -> Markup:
        """A count of a whole, such as `3 of 32`."""
        return Markup("{} of {}").format(self(f"{at}/{part}", "count"), self(f"{at}/{whole}", "count"))


def look_up(report: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), such as `/audits/0/bound/epsilon_lower`. Raises KeyError
    without one.
    """
    value = report
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(f"report.json has nothing at {pointer}") from None
    return value


def join(pointer: str, *parts: object) -> str:
    """A pointer continued by keys, which may hold any character."""
    return pointer + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
