"""YAML as a configuration needs it: text, numbers, truth values, lists and mappings, each read as its writer
meant it.

Where YAML 1.1 would read something else in silence (010 as 8, 1:30 as 90, a date, the last of two equal keys)
it is refused or stays text; so do values that JSON cannot keep, and files made to be slow.
"""

import math
import re
from typing import Any

import yaml

from dpaudit.errors import UsageError, kind_of

MOST_BYTES = 2**17  # PyYAML reads some 50 kB a second; the longest suite has 3 kB
MOST_VALUES = 10_000  # aliases counted wherever they stand: a file of ten lines can mean a billion
MOST_LEVELS = 20
MOST_INTEGER = 2**63  # and below: what other programs can read
MERGE = "tag:yaml.org,2002:merge"
DATE = "tag:yaml.org,2002:timestamp"
NUMBERS = {  # as in YAML 1.1, but neither 010 nor 1:30 is one
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?"
        r"|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN))$"
    ),
}


class _Loader(yaml.SafeLoader):
    """The safe loader without dates and base 60, and with an error for a repeated key, of which PyYAML takes
    the last.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"key {key.value!r} twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merged keys, each once: merges of merges would multiply them otherwise."""
        super().flatten_mapping(node)
        if len(node.value) > 1:
            last = {
                (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key): (key, value)
                for key, value in node.value
            }
            node.value = list(last.values())


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """The resolvers of YAML 1.1, without its dates and with numbers as `NUMBERS` has them."""
    return {
        first: [(tag, NUMBERS.get(tag, pattern)) for tag, pattern in resolvers if tag != DATE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.yaml_implicit_resolvers = _resolvers()


def parse(text: str, where: str) -> Any:
    """The plain value that `text` says. Raises UsageError, in one line with `where` and the place, for
    anything else.
    """
    if len(text) > MOST_BYTES:
        raise UsageError(
            where,
            f"at most {MOST_BYTES // 1024} KiB of YAML",
            "a larger file",
            "a suite, recipe or rubric is a page of text; data go into a file of their own",
        )
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "a character that YAML does not allow"
        raise UsageError(f"{where}:{mark.line + 1}" if mark else where, "valid YAML", str(problem)) from None
    except RecursionError:
        raise _too_deep(where) from None
    except (ValueError, ArithmeticError, AttributeError, KeyError, TypeError) as error:  # of constructors
        raise UsageError(where, "valid YAML", f"an invalid value ({type(error).__name__})") from None
    _measured(value, where, {}, 0)
    _check(value, where, "")
    return value


def _measured(value: Any, where: str, known: dict[int, tuple[int, int]], level: int) -> tuple[int, int]:
    """The number of values, where an alias counts as its content, and of levels. Raises UsageError for too
    many.
    """
    count, levels = 1, 0
    if isinstance(value, dict | list) and level <= MOST_LEVELS:
        if id(value) not in known:
            inner = value.values() if isinstance(value, dict) else value
            parts = [_measured(part, where, known, level + 1) for part in inner]
            known[id(value)] = 1 + sum(n for n, _ in parts), 1 + max((high for _, high in parts), default=0)
        count, levels = known[id(value)]
    if level + levels > MOST_LEVELS:
        raise _too_deep(where)
    if count > MOST_VALUES:
        raise UsageError(where, f"at most {MOST_VALUES} values, aliases written out", "more values")
    return count, levels


def _check(value: Any, where: str, key: str) -> None:
    """Raises UsageError for a value that no configuration needs or that JSON cannot hold."""
    place = f"{where}: {key}" if key else where
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise UsageError(place, "keys of text", f"{name!r:.40}", "put it in quotes")
            _check_text(name, place)
            _check(inner, where, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check(inner, where, f"{key}[{number}]")
    elif isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, int):
        if abs(value) >= MOST_INTEGER:
            raise UsageError(place, "a number below 2^63", "a larger number")
    elif isinstance(value, float):
        if math.isnan(value):
            raise UsageError(place, "a number", "NaN")
    elif value is not None:
        raise UsageError(
            place, "text, a number, a truth value, a list or keys", kind_of(value), "put text in quotes"
        )


def _check_text(text: str, place: str) -> None:
    """No file of a run can hold half of a surrogate pair, and no path a NUL."""
    if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
        raise UsageError(place, "text", "an invalid character")


def _too_deep(where: str) -> UsageError:
    return UsageError(where, f"at most {MOST_LEVELS} levels", "more levels")
