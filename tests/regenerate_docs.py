"""Writes what the docs show of the program: docs/commands.md, the losses in docs/content.md (`make docs`)."""

import re
from functools import cache
from pathlib import Path

from typer.testing import CliRunner

from dpaudit.cli import app

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


if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")
    (ROOT / "docs" / "content.md").write_text(content_page(), encoding="utf-8")
