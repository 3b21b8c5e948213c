"""A drafted suite as YAML, with a comment above each key; written once, never over another file."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpaudit import strict_yaml
from dpaudit.data.reading import is_hub_id
from dpaudit.errors import UsageError
from dpaudit.pipeline import plans
from dpaudit.pipeline.drafting import Draft, Setting
from dpaudit.schema import build
from dpaudit.storage.whole_files import write_text
from dpaudit.suite.suite import Suite

PRIVATE = "from private data: not covered by epsilon; declare a public value instead"
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_/-]*(?:[.:][A-Za-z0-9_/-]+)*")  # needs no quotes
HEAD = """\
# Drafted by `dpaudit init`: read it, change it, then type
{commands}
# Where a comment says "from private data", the value was computed from the records, and no epsilon covers it.
# Workers (adapters trained at once) are no key: --workers N; default: one a core for a small model, else one.
"""


def require_free(out: Path) -> None:
    """Raises UsageError where there is something already, and for a name that no command would read."""
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(
            f"--out {out}", "a name that ends in .yaml", "another name", f"--out {out.stem}.yaml"
        )
    if out.exists() or out.is_symlink():
        raise UsageError(
            f"--out {out}",
            "a name that is free",
            "a folder" if out.is_dir() else "a file that is there already",
            "name another, or move that one away: nothing is written over it",
        )


def commands(made: Draft, out: Path) -> list[str]:
    """What to type next. A hub is asked only for what is typed, so that a hub id stands there again."""
    from dpaudit.models import hub

    wanted = made.wanted
    more = ["--model", wanted.base] if hub.is_id(wanted.base) else []
    more += ["--data", wanted.source] if is_hub_id(wanted.source) else []
    return [shlex.join(["dpaudit", command, str(out), *more]) for command in ("plan", "run")]


def write(made: Draft, out: Path, commands: Sequence[str]) -> None:
    """Writes the suite, whole or not at all, once it was read back. Raises UsageError as `require_free`."""
    text = text_of(made, commands)
    build(Suite, strict_yaml.parse(text, str(out)), file=str(out))
    require_free(out)
    write_text(out, text)


def text_of(made: Draft, commands: Sequence[str]) -> str:
    """The suite as YAML."""
    called = plans.name_of(Path(made.wanted.source))
    named = [
        Setting("name", called, "what its runs are called"),
        Setting("description", f"Own dialogues, each {made.unit} private.", "stands on the page"),
    ]
    lines: list[str] = []
    above: list[str] = []
    for setting in (*named, *made.settings):
        *parents, key = setting.key.split(".")
        known = _shared(above, parents)
        lines += [f"{'  ' * level}{parents[level]}:" for level in range(known, len(parents))]
        pad = "  " * len(parents)
        lines += [f"{pad}# {comment}" for comment in _comments(setting)]
        lines.append(f"{pad}{key}: {_value(setting.value)}")
        above = parents
    return (
        HEAD.format(commands="\n".join(f"#   {' '.join(line.split())}" for line in commands))
        + "\n".join(lines)
        + "\n"
    )


def _shared(above: Sequence[str], parents: Sequence[str]) -> int:
    """How many parents the key before has too."""
    count = 0
    while count < min(len(above), len(parents)) and above[count] == parents[count]:
        count += 1
    return count


def _comments(setting: Setting) -> list[str]:
    private = [f"{PRIVATE} ({setting.instead})"] if setting.instead else []
    return [setting.why, *private]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str):
        return json.dumps(value)
    is_plain = PLAIN.fullmatch(value) and strict_yaml.parse(value, "") == value
    return value if is_plain else json.dumps(value, ensure_ascii=False)
