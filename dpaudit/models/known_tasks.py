"""The tasks that lm-eval brings: where each is written, and the names that an unknown one may have been meant
for.

lm-eval's own list takes seconds of the processor, since it parses some 14,000 YAML files. Here each file is
searched for the line that names its task, in a small part of that; lm-eval is asked only for a name that no
file gives.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError

_NAME = re.compile(rb"""^["']?task["']?[ \t]*:[ \t]*(['"]?)([^'"\s#]+)\1[ \t\r]*(?:#.*)?$""", re.MULTILINE)


@cache
def files() -> dict[str, Path]:
    """Name -> the YAML file of each task. Of two files with one name the first counts, as for lm-eval."""
    found = find_spec("lm_eval")
    if found is None or found.origin is None:
        return {}
    named: dict[str, Path] = {}
    for file in sorted(Path(found.origin).parent.glob("tasks/**/*.yaml"), key=Path.as_posix):
        if match := _NAME.search(file.read_bytes()):
            named.setdefault(match[2].decode(errors="replace"), file)
    return named


def file_of(name: str, ours: Collection[str] = ()) -> Path:
    """The YAML file of a task of lm-eval's own. Raises UsageError for a name that is no single task there;
    `ours` are tasks that it may have been meant for.
    """
    if name in files():
        return files()[name]
    index = _own_index()
    if name not in index:
        raise unknown(name, ours, [*index])
    if index[name].kind.name in ("GROUP", "TAG"):
        raise several(name, list(dict.fromkeys(_members(name, index))))
    return Path(index[name].yaml_path)


@cache
def _own_index() -> dict[str, Any]:
    """Everything that lm-eval lists, by name: groups and tags too."""
    from lm_eval.tasks import TaskManager

    return dict(TaskManager().task_index)


def _members(name: str, index: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[str]:
    """The tasks of a group or tag, those of groups in it too."""
    entry = index.get(name)
    if entry is None or entry.kind.name not in ("GROUP", "TAG"):
        yield name
        return
    listed = (entry.cfg or {}).get("task") or () if entry.kind.name == "GROUP" else sorted(entry.tags)
    for member in [listed] if isinstance(listed, str) else listed:
        inner = member.get("task", member.get("group")) if isinstance(member, dict) else member
        if isinstance(inner, str) and inner not in above:
            yield from _members(inner, index, (*above, name))


def several(name: str, members: Sequence[str]) -> UsageError:
    """The error for a name that stands for many tasks."""
    return UsageError(
        f"evaluation.tasks: {name}",
        "one task",
        f"a group of {len(members):,}",
        f"name its tasks, such as {', '.join(members[:3])}",
    )


def unknown(name: str, ours: Collection[str], theirs: Sequence[str]) -> UsageError:
    """The error for a name that neither `ours` nor `theirs` has, with those that are like it."""
    longer = [task for task in theirs if task.startswith(f"{name}_")][:2]
    slip, close = (
        difflib.get_close_matches(name, [*ours, *theirs], n, least) for n, least in ((1, 0.85), (3, 0.6))
    )
    near = dict.fromkeys([*slip, *like(name, ours), *longer, *close])
    alike = f"; names like it: {', '.join(near)}" if near else ""
    return UsageError(
        f"evaluation.tasks: {name}",
        "a YAML of suites/tasks/ or a task of lm-eval",
        "an unknown name",
        f"see `lm-eval ls tasks`{alike}",
    )


def like(name: str, ours: Collection[str]) -> list[str]:
    """The names of tasks that a name may have been meant for, by their first part."""
    first = name.partition("_")[0].lower()
    return [task for task in ours if task.partition("_")[0] == first or first in task.split("_")]
