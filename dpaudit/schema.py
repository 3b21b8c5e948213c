"""Strict construction of frozen dataclasses from YAML and JSON: an unknown key, a wrong type, a missing key
is one line. `plain` is the way back.
"""

import ast
import contextlib
import difflib
import inspect
import math
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, cast

from dpaudit.errors import KINDS, BadValue, Gathering, UsageError, kind_of

T = TypeVar("T")

LISTED_MOST = 10  # mistakes of one list that are told


class Range(NamedTuple):
    """The values that an annotated number may have, both ends among them; a NaN is none."""

    low: float
    high: float


Proportion = Annotated[float, Range(0, 1)]
Size = Annotated[float, Range(0, math.inf)]
Count = Annotated[int, Range(0, math.inf)]

_PLAIN = frozenset((Any, bool, float, int, str))


def build(cls: type[T], data: object, *, file: str, key: str = "") -> T:
    """An instance of the dataclass `cls` made from the mapping `data`, nested dataclasses included.

    `file` and `key` name the place in messages. Raises UsageError, or Mistakes for several at once, on an
    unknown or missing key, a value of another type, or a BadValue from a dataclass's own `__post_init__`.
    """
    where = f"{file}: {key}" if key else file
    if not isinstance(data, dict):
        raise UsageError(where, "a mapping of keys", _kind(data))
    hints, faults = _hints(cast(Any, cls)), Gathering()
    known = _known(cast(Any, cls))
    for name in data:
        if name not in known:
            place, expected = f"{file}: {_join(key, name)}", f"one of {', '.join(known)}"
            faults.add(UsageError(place, expected, "an unknown key", _meant(str(name), key, cls)))
    meant = {near for name in data if name not in known for near in _nearest(str(name), known)}
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in data:
            try:
                values[name] = convert(hints[name], data[name], file=file, key=_join(key, name))
            except UsageError as error:
                faults.add(error)
        elif not _has_default(field) and name not in meant:
            faults.add(UsageError(f"{file}: {_join(key, name)}", "a value", "no value", "add the key"))
    if faults.errors and key:
        for refused in _refused(cls, values, known, file, key):
            faults.add(refused)
    faults.end()
    return _made(cls, values, known, file, key)


def _refused(
    cls: type[T], values: dict[str, Any], known: dict[str, Any], file: str, key: str
) -> Iterator[UsageError]:
    """What the dataclass refuses beside the keys that are faulty, with their defaults, or None, in their
    place; nothing where it looks at such a None.
    """
    absent = [name for name, field in known.items() if name not in values and not _has_default(field)]
    try:
        _made(cls, values | dict.fromkeys(absent), known, file, key)
    except UsageError as error:
        yield error
    except (AttributeError, TypeError):
        return


def _made(cls: type[T], values: dict[str, Any], known: dict[str, Any], file: str, key: str) -> T:
    """The instance. Where the dataclass refuses a value that has a default, it is made with that one, to see
    what else it refuses.
    """
    faults = Gathering()
    while True:
        try:
            made = cls(**values)
        except BadValue as error:
            place = f"{file}: {_join(key, error.key)}"
            faults.add(UsageError(place, error.expected, error.got, error.remedy))
            if error.key not in values or not _has_default(known[error.key]):
                faults.end()
            del values[error.key]
            continue
        faults.end()
        return made


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def field_of(cls: type[Any], key: str, data: dict[str, Any], *, file: str) -> Any:
    """The value of one field of the dataclass `cls` in the mapping `data`. Raises UsageError as `build`
    does.
    """
    if key not in data:
        raise UsageError(f"{file}: {key}", "a value", "no value", "add the key")
    return convert(_hints(cast(Any, cls))[key], data[key], file=file, key=key)


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known name that a mistyped one is nearest to, if any is near."""
    return difflib.get_close_matches(name, list(known), n=1)


def _meant(name: str, key: str, cls: Any) -> str:
    """What an unknown key may have been meant for: a key beside it, or one further in."""
    if near := _nearest(name, [f.name for f in fields(cls)]):
        return f"did you mean {near[0]}?"
    inner = dict(_further_in(key, cls))
    last = difflib.get_close_matches(name, set(inner.values()), n=1)
    paths = [path for path, own in inner.items() if own in last]
    return f"did you mean {' or '.join(paths[:3])}?" if paths else "remove it"


def _further_in(key: str, cls: Any) -> Iterator[tuple[str, str]]:
    """The keys inside of a dataclass's keys, each as it is typed and by its own name."""
    for field in fields(cls):
        hint = _hints(cls)[field.name]
        is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        for inner in (hint, *(typing.get_args(hint) if is_union else ())):
            if isinstance(inner, type) and is_dataclass(inner):
                path = _join(key, field.name)
                yield from ((_join(path, own.name), own.name) for own in fields(inner))
                yield from _further_in(path, inner)


def at_least(least: int, **values: int | None) -> None:
    """Raises BadValue for the first value below `least`; None is left alone."""
    for name, value in values.items():
        if value is not None and value < least:
            raise BadValue(name, f"at least {least}", value)


def above_zero(**values: float) -> None:
    """Raises BadValue for the first value that is no finite number above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise BadValue(name, "a number above 0", value)


def between(low: float, high: float, **values: float) -> None:
    """Raises BadValue for the first value outside of low <= value < high; a NaN is outside."""
    for name, value in values.items():
        if not low <= value < high:
            raise BadValue(name, f"at least {low} and below {high}", value)


def plain(value: Any) -> Any:
    """`value` as JSON holds it: a dataclass as a mapping, a tuple as a list, an infinite number as "inf"."""
    if isinstance(value, float):
        return str(value) if math.isinf(value) else value
    if value is None or isinstance(value, str | int):
        return value
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    raise TypeError(f"no value of a finding: {type(value).__name__}")


def comments(cls: type[Any]) -> dict[str, str]:
    """What stands as a comment beside each field of a dataclass, or above it; None is told as the null of
    YAML.
    """
    lines = inspect.getsource(cls).splitlines()
    (made,) = ast.parse(textwrap.dedent("\n".join(lines))).body
    found = {}
    for node in getattr(made, "body", ()):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno - 1
            while lines[first - 1].lstrip().startswith("#"):
                first -= 1
            told = [line.partition("#")[2].strip() for line in lines[first : node.end_lineno]]
            if text := "; ".join(filter(None, told)):
                found[node.target.id] = re.sub(r"\bNone\b", "null", text)
    return found


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


@cache
def _known(cls: Any) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cls)}


@cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """What the annotation is made of: `typing` works it out anew at every call."""
    return typing.get_origin(hint), typing.get_args(hint)


def convert(hint: Any, value: object, *, file: str, key: str) -> Any:
    """`value` as the annotated type `hint`; raises UsageError where it is of another kind."""
    if hint in _PLAIN:
        return _convert_plain(hint, value, file=file, key=key)
    origin, arguments = _parts(hint)
    if origin is Annotated:
        return _convert_number(arguments, value, file=file, key=key)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, file=file, key=key)
    if is_dataclass(hint):
        return build(cast(Any, hint), value, file=file, key=key)
    if origin is tuple:
        return tuple(_convert_list(arguments[0], value, file=file, key=key))
    if isinstance(hint, type) and issubclass(hint, tuple):
        return _convert_row(hint, value, file=file, key=key)
    if origin is dict:
        if not isinstance(value, dict):
            raise UsageError(f"{file}: {key}", "a mapping of keys", _kind(value))
        return {k: convert(arguments[1], v, file=file, key=_join(key, k)) for k, v in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise UsageError(f"{file}: {key}", f"one of {', '.join(map(str, arguments))}", _short(value))
        return value
    return _convert_plain(hint, value, file=file, key=key)


def _convert_number(annotated: tuple[Any, ...], value: object, *, file: str, key: str) -> Any:
    hint, within = annotated
    number = convert(hint, value, file=file, key=key)
    if not within.low <= number <= within.high:
        most = "" if math.isinf(within.high) else f" and at most {within.high:g}"
        raise UsageError(f"{file}: {key}", f"at least {within.low:g}{most}", _short(number))
    return number


def _convert_list(hint: Any, value: object, *, file: str, key: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{file}: {key}", "a list", _kind(value))
    if hint is float and all(type(inner) is float for inner in value):  # curves are long
        return list(value)
    faults, found = Gathering(), []
    for at, inner in enumerate(value):
        try:
            found.append(convert(hint, inner, file=file, key=f"{key}[{at}]"))
        except UsageError as error:
            faults.add(error)
            if len(faults.errors) == LISTED_MOST:
                break
    faults.end()
    return found


def _convert_row(cls: Any, value: object, *, file: str, key: str) -> Any:
    """A NamedTuple, which stands as a list of its values."""
    names = cls._fields
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise UsageError(f"{file}: {key}", f"a list of {', '.join(names)}", _kind(value))
    hints = _hints(cls)
    values = [
        convert(hints[name], v, file=file, key=_join(key, name)) for name, v in zip(names, value, strict=True)
    ]
    return cls(*values)


def _convert_union(arguments: tuple[Any, ...], value: object, *, file: str, key: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    inner = [a for a in arguments if a is not type(None)]
    for candidate in inner[:-1]:
        try:
            return convert(candidate, value, file=file, key=key)
        except UsageError:
            continue
    return convert(inner[-1], value, file=file, key=key)


def _convert_plain(hint: Any, value: object, *, file: str, key: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)  # YAML reads 1e-5 as a string
            if not (isinstance(value, str) and math.isnan(number)):
                return number
    elif (hint is int and isinstance(value, int) and not isinstance(value, bool)) or (
        hint in (str, bool) and isinstance(value, hint)
    ):
        return value
    raise UsageError(f"{file}: {key}", KINDS.get(hint, "another value"), _kind(value))


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "no value" if value is None else str(value).lower()
    return f"{kind_of(value)}, {_short(value)}"


def _short(value: object) -> str:
    try:
        return f"{value!r:.40}"
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of thousands of digits"


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
