"""What is typed over a suite: epsilons, and dotted keys with YAML values."""

import math
from typing import Any

import pytest

from dpaudit.errors import Mistakes, UsageError
from dpaudit.suite import loading


@pytest.mark.parametrize(
    ("text", "values"), [("1,4,8", (1, 4, 8)), ("inf, 0.5", (math.inf, 0.5)), ("2,", (2,))]
)
def test_parse_epsilons(text: str, values: tuple[float, ...]) -> None:
    assert loading.parse_epsilons(text) == values


@pytest.mark.parametrize("text", ["0", "-1", "1,0", "nan", "one", "", ",", "1;2"])
def test_an_epsilon_must_be_above_zero(text: str) -> None:
    with pytest.raises(UsageError, match="--eps: expected numbers above 0") as caught:
        loading.parse_epsilons(text)
    assert caught.value.got == text


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a.b=3", ("a.b", 3)),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=x=y", ("a", "x=y")),
        ("a=null", ("a", None)),
        ("a=", ("a", None)),
    ],
)
def test_parse_override(text: str, pair: tuple[str, Any]) -> None:
    assert loading.parse_override(text) == pair


@pytest.mark.parametrize("text", ["a.b", "=3", "a=[", f"a={'9' * 5000}"], ids=range(4))
def test_an_override_is_key_and_yaml(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        loading.parse_override(text)


def test_values_are_looked_at_beside_a_key_that_is_wrong() -> None:
    """One go tells them all: a mistyped key, a missing one, and values that do not fit beside both."""
    changed = {"training.clipp": 1, "training.clip": -1, "candidates.familly": "x", "candidates.canaries": -5}
    with pytest.raises(Mistakes) as told:
        loading.load("small", {**changed, "training.nonprivate": {"batch": 16, "steps": 20}})
    lines = [str(error) for error in told.value.errors]
    for key in (*changed, "training.nonprivate.learning_rate"):
        assert sum(f": {key}: " in line for line in lines) == 1, key
    assert len(lines) == len(changed) + 1
