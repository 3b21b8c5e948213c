"""A suite as it is written: read from YAML, with dotted keys of the command line put over it."""

import math
from collections.abc import Iterable
from typing import Any

from dpaudit import content, strict_yaml
from dpaudit.errors import UsageError, kind_of
from dpaudit.schema import build
from dpaudit.suite.suite import Suite


def load(name: str, overrides: dict[str, Any] | None = None) -> Suite:
    """The suite called `name` (a file, or a name of `suites/`), with dotted keys of `overrides` put over it.

    Raises UsageError with file and key on anything unknown or ill-typed.
    """
    path = content.find("suites", name)
    data = content.load_yaml(path)
    for key, value in (overrides or {}).items():
        put(data, key, value)
    return build(Suite, data, file=str(path))


def parse_override(text: str) -> tuple[str, Any]:
    """`training.private.steps=20` as key and YAML value. Raises UsageError where there is no `=`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(
            f"--set {text}",
            "KEY=VALUE",
            "no `=`",
            "for example --set training.private.steps=20",
        )
    if key.count(".") >= strict_yaml.MOST_LEVELS:
        raise UsageError(f"--set {key}", "a key of a suite", "a key of too many levels")
    return key, strict_yaml.parse(value, f"--set {key}")


def parse_epsilons(text: str) -> tuple[float, ...]:
    """`1,4,8` or `inf,8` as numbers. Raises UsageError on anything that is no epsilon above 0."""
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    if not values or any(not value > 0 for value in values):
        raise UsageError(
            "--eps",
            "numbers above 0 with commas between, such as 1,4,8",
            text,
            "write inf for the non-private arm",
        )
    return values


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key of nested mappings. Raises UsageError where a part of it holds no keys."""
    *parents, last = key.split(".")
    for parent in parents:
        inner = data[parent] = {} if data.get(parent) is None else data[parent]
        if not isinstance(inner, dict):
            raise UsageError(f"--set {key}", f"{parent} to hold keys", kind_of(inner))
        data = inner
    data[last] = value


def get(data: dict[str, Any], key: str) -> Any:
    """The value of a dotted key of nested mappings."""
    for part in key.split("."):
        data = data[part]
    return data


def drop(data: dict[str, Any], keys: Iterable[str]) -> None:
    """Takes dotted keys out of nested mappings, where they are there."""
    for key in keys:
        *parents, last = key.split(".")
        inner: Any = data
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)


def finite(value: Any) -> Any:
    """JSON has no infinity: it is kept as the text "inf", which `build` reads back as a number."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value
