"""Two JSON trees compared: the first place where they differ, and how a value is told."""

import math
from collections.abc import Iterator
from typing import Any

TOLERANCE = 1e-9  # relative, of a number that is no whole number: other libraries add in another order
TOLD_MOST = 60  # characters of a text that is told

Place = tuple[str, Any, Any]  # a JSON pointer (RFC 6901), the value expected there, the value found
NOTHING = object()  # where a tree has no such key


def differences(expected: Any, got: Any, at: str = "") -> Iterator[Place]:
    """Every place where `got` is not `expected`, in the order of `expected`."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in [*expected, *(key for key in got if key not in expected)]:
            place = f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"
            yield from differences(expected.get(key, NOTHING), got.get(key, NOTHING), place)
    elif isinstance(expected, list) and isinstance(got, list):
        for index in range(max(len(expected), len(got))):
            wanted, there = (part[index] if index < len(part) else NOTHING for part in (expected, got))
            yield from differences(wanted, there, f"{at}/{index}")
    elif not _is_same(expected, got):
        yield at, expected, got


def _is_same(expected: Any, got: Any) -> bool:
    if type(expected) is float and type(got) is float:
        both_nan = math.isnan(expected) and math.isnan(got)
        return both_nan or math.isclose(expected, got, rel_tol=TOLERANCE, abs_tol=1e-12)
    if type(expected) is not type(got) and {type(expected), type(got)} != {int, float}:
        return False
    return bool(expected == got)


def at(tree: Any, *keys: str) -> Any:
    """The value below mappings of these keys; NOTHING where there is none."""
    for key in keys:
        tree = tree.get(key, NOTHING) if isinstance(tree, dict) else NOTHING
    return tree


def leaves(tree: Any) -> int:
    """How many numbers a tree holds."""
    if isinstance(tree, dict):
        return sum(map(leaves, tree.values()))
    if isinstance(tree, list):
        return sum(map(leaves, tree))
    return int(isinstance(tree, int | float) and not isinstance(tree, bool))


def told(value: Any) -> str:
    """A value in a message. Of a long text only how long it is."""
    if value is NOTHING:
        return "no such key"
    if value is None:
        return "no value"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value) if len(value) <= TOLD_MOST else f"a text of {len(value):,} characters"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else "a huge number"
    if isinstance(value, float):
        return repr(value)
    return f"a list of {len(value):,}" if isinstance(value, list) else f"a mapping of {len(value):,} keys"
