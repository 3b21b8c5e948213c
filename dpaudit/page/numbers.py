"""The only way in which a number reaches a page: looked up in the report by its place, which it carries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from markupsafe import Markup

from dpaudit.page import formats

T = TypeVar("T")

TOLD = 0.2  # how far from one half random scores may carry an AUC, once in twenty, for it to be read at all


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


def as_is(text: object) -> Markup:
    """A name or a text of somebody else's, which no translation touches."""
    return Markup('<span translate="no">{}</span>').format(text)


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

    def area(self, at: str, name: str = "auc") -> Markup:
        """An AUC with its interval and, beside it, why it tells nothing where it does not."""
        area, limits = (
            self(f"{at}/{name}", "three"),
            self.interval(at, f"{name}_lower", f"{name}_upper", "three"),
        )
        word = silence(look_up(self.report, at), name)
        tag = Markup(' <span class="tag">{}</span>').format(word) if word else Markup("")
        return Markup("{} {}{}").format(area, limits, tag)

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


def silence(part: Mapping[str, Any], name: str = "auc") -> str | None:
    """Why an AUC of the report tells nothing: of too few, or its interval includes one half."""
    if part[name] is None:
        return None
    if is_few(*_sides(part, name)):
        return "too few"
    return "like chance" if part[f"{name}_lower"] <= 0.5 <= part[f"{name}_upper"] else None


def is_few(members: int, others: int) -> bool:
    """Whether random scores of so many give an AUC further than `TOLD` from one half more often than once in
    twenty, by the variance of Mann and Whitney (1947).
    """
    if not members or not others:
        return True
    return 1.96 * math.sqrt((members + others + 1) / (12 * members * others)) > TOLD


def _sides(part: Mapping[str, Any], name: str) -> tuple[int, int]:
    """How many members and others an AUC is of; where only their sum is kept, half of it each: a fair coin
    drew them.
    """
    if name == "auc" and "members" in part:
        return part["members"], part["n"] - part["members"]
    both = part["units"] if name == "auc" else part["n_without"]
    return both // 2, both - both // 2
