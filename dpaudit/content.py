"""Where the content folders (suites, attacks, judges, reports) live: the repository root in a checkout, the package in a wheel."""

from pathlib import Path
from typing import Any

import yaml

from dpaudit.errors import UsageError

FOLDERS = ("suites", "attacks", "judges", "reports")


def shipped(folder: str) -> Path:
    """The folder of shipped content named `folder`; only this module knows which of its two homes is in use."""
    package = Path(__file__).parent
    inside = package / "_content" / folder
    return inside if inside.is_dir() else package.parent / folder


def listing(folder: str, own: Path | None = None) -> dict[str, Path]:
    """Name (file stem) -> YAML file, the user's own folder (`./FOLDER`, or `own`) before the shipped one."""
    places = [shipped(folder), own if own is not None else Path.cwd() / folder]
    return {file.stem: file for place in places if place.is_dir() for file in sorted(place.glob("*.yaml"))}


def find(folder: str, name: str, own: Path | None = None) -> Path:
    """The YAML file that `name` means: a path as typed, or the stem of a file in `listing`. Raises UsageError."""
    if name.endswith((".yaml", ".yml")):
        typed = Path(name)
        if typed.is_file():
            return typed
        if str(typed.parent) not in (folder, "."):
            raise UsageError(name, expected=f"a YAML file for {folder}", got="no such file")
        name = typed.stem
    known = listing(folder, own)
    if name not in known:
        raise UsageError(f"{folder}/{name}", expected=f"one of {', '.join(sorted(known)) or 'none'}", got="no such file",
                         remedy=f"name a file or put {name}.yaml into ./{folder}")  # fmt: skip
    return known[name]


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice is an error: YAML forbids it, and PyYAML takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"key {key.value!r} twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read by the safe loader. Raises UsageError with the line of a syntax error."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(str(path), expected="a readable file", got=error.strerror or "an error") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(
            place, expected="valid YAML", got=str(getattr(error, "problem", "undecodable text"))
        ) from error
    except (
        ValueError,
        ArithmeticError,
        AttributeError,
        KeyError,
        RecursionError,
    ) as error:  # by PyYAML's constructors
        raise UsageError(
            str(path), expected="valid YAML", got=f"a value that is none ({type(error).__name__})"
        ) from None
    if not isinstance(data, dict):
        raise UsageError(str(path), expected="a mapping of keys", got=type(data).__name__)
    return data
