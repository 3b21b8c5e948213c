"""Writes what the docs show of the program: docs/commands.md, the losses in docs/content.md (`make docs`)."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.commands.shipped import written_files
from dpaudit.findings import json_schema

ROOT = Path(__file__).parents[1]
LOSS_TABLE = re.compile(r"(<!-- losses -->\n).*?(<!-- /losses -->)", re.DOTALL)


@cache
def help_of(command: str) -> str:
    """What `dpaudit COMMAND --help` prints in a terminal of 80 columns."""
    done = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="dpaudit", terminal_width=78)
    assert done.exit_code == 0, done.output
    return done.stdout


def commands(group: str = "") -> list[str]:
    """The group ("" is the program itself) and all commands below it, as they are listed."""
    found = [group]
    listed = help_of(group).partition("Commands:\n")[2]
    for name in re.findall(r"^  ([a-z][a-z-]*)", listed, re.MULTILINE):
        found += commands(f"{group} {name}".strip())
    return found


def commands_page() -> str:
    parts = ["# Commands\n\nWritten by `make docs` from the program itself.\n"]
    for name in commands():
        parts.append(f"\n## `{f'dpaudit {name}'.strip()}`\n\n```text\n{help_of(name)}```\n")
    return "".join(parts)


def content_page() -> str:
    """docs/content.md with the present table of losses between its marks."""
    text = (ROOT / "docs" / "content.md").read_text(encoding="utf-8")
    return LOSS_TABLE.sub(lambda marks: marks[1] + loss_table() + "\n" + coupled_table() + marks[2], text)


def loss_table() -> str:
    from dpaudit.training.losses import LOSSES

    rows = [
        "| Loss | What | beta | Label smoothing | gamma | Reference | Source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, loss in LOSSES.items():
        settings = loss.settings
        cells = [
            f"{value:g}" if value else ""
            for value in (settings.beta, settings.label_smoothing, settings.gamma)
        ]
        cells = [
            f"`{name}`",
            loss.title,
            *cells,
            "the policy at the start" if loss.needs_reference else "none",
            loss.source,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def coupled_table() -> str:
    from dpaudit.training.losses import COUPLED, OPEN_ONLY

    rows = ["| Refused under privacy | Why | With `--eps inf` |", "|---|---|---|"]
    rows += [
        f"| {name} | {why} | {'by TRL' if name in OPEN_ONLY else 'no'} |" for name, why in COUPLED.items()
    ]
    return "\n".join(rows) + "\n"


def keys_page() -> str:
    """docs/keys.md: every key of a suite, a recipe and a rubric."""
    parts = [
        "# Keys\n\nWritten by `make docs` from the program itself: every key of the files that you write. "
        "`dpaudit list suites --schema` prints the same as JSON Schema, for an editor; so for `recipes` and "
        "`judges`. A key without a default must be there.\n"
    ]
    for title, (cls, name) in zip(("Suites", "Recipes", "Judges"), written_files().values(), strict=True):
        schema = json_schema.written(cls, name)
        parts.append(f"\n## {title}\n\n| Key | Takes | Default | What |\n|---|---|---|---|\n")
        parts += [f"| {' | '.join(cells)} |\n" for cells in key_rows(schema, schema, "", {})]
    return "".join(parts)


def key_rows(
    schema: dict[str, Any], whole: dict[str, Any], above: str, shown: dict[str, str]
) -> Iterator[tuple[str, ...]]:
    """Key, what it takes, default, meaning; `shown` has the keys whose inner keys are told already."""
    for key, about in schema["properties"].items():
        inner = next((one["$ref"] for one in alternatives(about) if "$ref" in one), None)
        listed = next((one["items"] for one in alternatives(about) if "$ref" in one.get("items", {})), None)
        default = json.dumps(about["default"], ensure_ascii=False) if "default" in about else "none"
        is_short = inner is None and len(default) < 60
        needed = key in schema["required"]
        name = (inner or (listed or {"$ref": ""})["$ref"]).rpartition("/")[2]
        told = [about.get("description", ""), f"keys as `{shown[name]}`" if name in shown else ""]
        yield (
            f"`{above}{key}`",
            ", ".join(dict.fromkeys(filter(None, map(takes, alternatives(about))))),
            "must be there" if needed else f"`{default}`" if is_short else "",
            "; ".join(filter(None, told)),
        )
        if name and name not in shown:
            shown[name] = f"{above}{key}"
            mark = "." if inner else "[]."
            yield from key_rows(whole["$defs"][name], whole, f"{above}{key}{mark}", shown)


def alternatives(about: dict[str, Any]) -> list[dict[str, Any]]:
    return list(about.get("anyOf", [about]))


def takes(one: dict[str, Any]) -> str:
    if "pattern" in one:  # a number as text
        return ""
    if "enum" in one:
        return "" if one["enum"] == ["inf", "-inf"] else " or ".join(f"`{value}`" for value in one["enum"])
    if "anyOf" in one:
        return ", ".join(filter(None, map(takes, one["anyOf"])))
    if one.get("type") == "array":
        return f"list of {takes(one['items']) or 'keys'}"
    return {"integer": "whole number", "object": "keys", "null": "null"}.get(
        one.get("type", ""), one.get("type", "keys")
    )


if __name__ == "__main__":
    (ROOT / "docs" / "keys.md").write_text(keys_page(), encoding="utf-8")
    (ROOT / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")
    (ROOT / "docs" / "content.md").write_text(content_page(), encoding="utf-8")
