"""The licence of a base, as the folder that it was read from states it."""

import json
import re
from pathlib import Path

from dpaudit.models import hub

MOST = 65536  # characters of a card or configuration that are looked at
LICENCE = re.compile(r"^licen[cs]e:[ \t]*[\"']?([A-Za-z0-9][\w .+/-]{0,60}?)[\"']?[ \t]*$", re.MULTILINE)
FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def folder_of(base: str) -> Path | None:
    """The folder that a base was read from, if it is still there; the hub is not asked."""
    if base.startswith("builtin:"):
        return Path(hub.__file__).parents[1] / "builtin" / base.removeprefix("builtin:")
    place = Path(base).expanduser()
    if place.is_dir():
        return place
    return hub.fetched(base) if hub.is_id(base) else None


def licence_of(folder: Path | None) -> str | None:
    """The licence that a model's folder states: in the head of README.md, else in config.json. None where
    neither does.
    """
    if folder is None:
        return None
    head = FRONT.match(_beginning(folder / "README.md"))
    if head and (found := LICENCE.search(head[1])):
        return found[1]
    try:
        stated = json.loads(_beginning(folder / "config.json")).get("license")
    except (ValueError, AttributeError):
        return None
    return stated[:61] if isinstance(stated, str) and stated.strip() else None


def _beginning(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.read(MOST)
