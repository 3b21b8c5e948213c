"""Strict construction: what fits is built, everything else is one line with file and key."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from dpaudit.errors import BadValue, UsageError
from dpaudit.schema import build


@dataclass(frozen=True)
class Inner:
    rate: float
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise BadValue("rate", "a number above 0", self.rate, "raise it")


@dataclass(frozen=True)
class Outer:
    inner: Inner
    count: int = 1
    flag: bool = False
    name: str | None = None
    numbers: tuple[float, ...] = ()
    parts: tuple[Inner, ...] = ()
    targets: str | tuple[str, ...] = "all"
    extra: dict[str, Any] = field(default_factory=dict)


def test_nested_values_and_defaults() -> None:
    made = build(Outer, {"inner": {"rate": "1e-5"}, "numbers": [1, "inf"], "parts": [{"rate": 2}]}, file="f")
    assert made == Outer(Inner(1e-5), numbers=(1.0, math.inf), parts=(Inner(2.0),))
    assert isinstance(made.numbers[0], float)


def test_a_union_takes_either_kind() -> None:
    assert build(Outer, {"inner": {"rate": 1}, "targets": "q"}, file="f").targets == "q"
    assert build(Outer, {"inner": {"rate": 1}, "targets": ["q", "v"]}, file="f").targets == ("q", "v")
    assert build(Outer, {"inner": {"rate": 1}, "name": None}, file="f").name is None


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"inner": {"rate": 1}, "cuont": 2}, ["f: cuont", "an unknown key", "did you mean count?"]),
        ({"inner": {"rate": 1, "zzz": 2}}, ["f: inner.zzz", "one of rate, kind", "remove it"]),
        ({}, ["f: inner", "a value", "no value"]),
        ({"inner": {}}, ["f: inner.rate", "no value"]),
        ({"inner": {"rate": -1}}, ["f: inner.rate: expected a number above 0, got -1.0; raise it"]),
        ({"inner": {"rate": "fast"}}, ["f: inner.rate", "a number", "fast"]),
        ({"inner": {"rate": True}}, ["f: inner.rate", "a number", "got true"]),
        ({"inner": {"rate": 1, "kind": "c"}}, ["f: inner.kind", "one of a, b", "'c'"]),
        ({"inner": {"rate": 1}, "count": 1.5}, ["f: count", "a whole number", "1.5"]),
        ({"inner": {"rate": 1}, "count": True}, ["f: count", "a whole number"]),
        ({"inner": {"rate": 1}, "flag": "no"}, ["f: flag", "true or false"]),
        ({"inner": {"rate": 1}, "numbers": 3}, ["f: numbers", "a list"]),
        ({"inner": {"rate": 1}, "numbers": [1, "x"]}, ["f: numbers[1]", "a number"]),
        ({"inner": {"rate": 1}, "extra": [1]}, ["f: extra", "a mapping"]),
        ({"inner": 3}, ["f: inner", "a mapping of keys", "a whole number, 3"]),
        ([], ["f: expected a mapping of keys"]),
    ],
)
def test_what_does_not_fit_is_one_line(data: object, wanted: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        build(Outer, data, file="f")
    line = str(caught.value)
    assert "\n" not in line
    for part in wanted:
        assert part in line
