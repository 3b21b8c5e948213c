"""Writes what the docs show of the command line: docs/commands.md, and the help in the README (`make docs`)."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
IN_README = re.compile(r"(<!-- help -->\n```text\n).*?(```\n<!-- /help -->)", re.DOTALL)


@cache
def help_of(command: str) -> str:
    """What `dpaudit COMMAND --help` prints in a terminal of 80 columns."""
    words = [sys.executable, "-m", "dpaudit.cli", *command.split(), "--help"]
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout


def commands(group: str = "") -> list[str]:
    """The group ("" is the program itself) and all commands below it, as they are listed."""
    found = [group]
    listed = help_of(group).partition("Commands:\n")[2]
    for name in re.findall(r"^  ([a-z]+)", listed, re.MULTILINE):
        found += commands(f"{group} {name}".strip())
    return found


def commands_page() -> str:
    parts = ["# Commands\n\nWritten by `make docs` from the program itself.\n"]
    for name in commands():
        parts.append(f"\n## `{f'dpaudit {name}'.strip()}`\n\n```text\n{help_of(name)}```\n")
    return "".join(parts)


def readme() -> str:
    """The README with the present help between its marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return IN_README.sub(lambda marks: marks[1] + help_of("") + marks[2], text)


if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
