"""Where the content folders (suites, attacks, judges, reports) live: the repository root in a checkout, the
package in a wheel.
"""

import os
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from dpaudit import strict_yaml
from dpaudit.errors import UsageError, kind_of, unread

FOLDERS = ("suites", "attacks", "judges", "reports")


def shipped(folder: str) -> Path:
    """The folder of shipped content named `folder`; only this module knows which of its two homes is in
    use.
    """
    package = Path(__file__).parent
    inside = package / "_content" / folder
    return inside if inside.is_dir() else package.parent / folder


def listing(folder: str, own: Path | None = None) -> dict[str, Path]:
    """Name (file stem) -> YAML file, the user's own folder (`./FOLDER`, or `own`) before the shipped one."""
    places = _places(folder, own)
    return {file.stem: file for place in places if place.is_dir() for file in sorted(place.glob("*.yaml"))}


def _places(folder: str, own: Path | None) -> tuple[Path, Path]:
    return shipped(folder), own if own is not None else Path.cwd() / folder


def find(folder: str, name: str, own: Path | None = None) -> Path:
    """The YAML file that `name` means: a path as typed, or the stem of a file in `listing`. Raises
    UsageError.
    """
    if name.endswith((".yaml", ".yml")):
        typed = Path(name)
        if typed.is_file():
            return typed
        if str(typed.parent) not in (folder, "."):
            raise UsageError(name, f"a YAML file for {folder}", "no such file")
        name = typed.stem
    for place in reversed(_places(folder, own)):  # a list of the whole folder takes far longer
        if Path(name).name == name and os.path.isfile(file := place / f"{name}.yaml"):
            return file
    known = listing(folder, own)
    if name not in known:
        raise UsageError(
            f"{folder}/{name}",
            f"one of {', '.join(sorted(known)) or 'none'}",
            "no such file",
            f"name a file or put {name}.yaml into ./{folder}",
        )
    return known[name]


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UsageError, with the line of a syntax error, for anything else."""
    data = deepcopy(_parsed(text(path), str(path)))
    if not isinstance(data, dict):
        raise UsageError(str(path), "a mapping of keys", kind_of(data))
    return data


@lru_cache(maxsize=256)
def _parsed(text: str, where: str) -> Any:
    """The parsed text; it is kept, because one command loads a recipe many times."""
    return strict_yaml.parse(text, where)


def text(path: Path) -> str:
    """A file as text. Raises UsageError for one that cannot be read or is not UTF-8."""
    try:
        with path.open("rb") as stream:
            # one byte more than allowed: a longer file is refused without reading its end
            read = stream.read(strict_yaml.MOST_BYTES + 1)
    except OSError as error:
        raise unread(path, "a readable file", error) from error
    try:
        return read.decode("utf-8-sig", errors="strict" if len(read) <= strict_yaml.MOST_BYTES else "replace")
    except UnicodeDecodeError:
        raise UsageError(
            str(path), "text in UTF-8", "another encoding, or a file that is not text", "save it as UTF-8"
        ) from None
