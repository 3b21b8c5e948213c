"""What a command found as plain text: aligned tables, one line for every other value."""

import shutil
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dpaudit.page.columns import COLUMNS, INTERVAL, MARK
from dpaudit.page.formats import ABSENT, show
from dpaudit.terminal import visible

Row = dict[str, Any]
PLAIN = ("pairs", "yes")  # styles of this module's own: a mapping as words, a truth value as yes or no
CELL_MOST = 400  # characters
FITTED = ("recipes", "faults", "notes")  # tables of words, which are fitted to the terminal
UNBROKEN = 100_000  # characters: wider than any table

VALUES = {  # key of a command's findings -> style, where a value stands alone; others are printed as they are
    "epsilon_lower": "three_down",
    "epsilon_ceiling": "three_down",
    "ceiling_delta": "delta",
    "visibility_auc": "three",
    "visibly_planted": "percent",
    "composite": "three",
}
LABELS = {"ceiling_delta": "at delta", "visibility_auc": "visibility, AUC"}


def as_text(values: Row) -> str:
    """What a command found, as it is printed: tables under their names, every other value on a line of its
    own.
    """
    parts = [_part(key, value) for key, value in values.items() if value not in (None, [], {})]
    return "\n".join(parts).strip("\n").replace("\n\n\n", "\n\n") or "nothing yet"


def _part(key: str, value: Any) -> str:
    value = by_folder(value) if key == "outputs" else value
    if key in COLUMNS and isinstance(value, list):
        width = max(60, shutil.get_terminal_size((120, 24)).columns) if key in FITTED else UNBROKEN
        return f"\n{table(value, COLUMNS[key], width)}\n"
    if isinstance(value, list) and any(isinstance(row, dict) for row in value):
        return f"\n{table(value, _as_they_are(value))}\n"
    text = show(value, VALUES[key]) if key in VALUES else _plain(value)
    return visible(text if key == "caveat" else f"{LABELS.get(key, key.replace('_', ' '))}: {text}")


def _as_they_are(rows: list[Row]) -> dict[str, tuple[str, str]]:
    """The columns of rows that nobody wrote headings for: no mapping reaches a reader as Python writes it."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: (key.replace("_", " "), "pairs") for key in keys}


def by_folder(outputs: list[Row]) -> list[Row]:
    """Outputs with the current ones of a folder as one row; stale ones stay by themselves, since something is
    to be done.
    """
    current: dict[str, int] = {}
    for row in outputs:
        if row["state"] == "current":
            folder = str(row["file"]).rpartition("/")[0]
            current[folder] = current.get(folder, 0) + 1
    whole = [{"file": f"{folder}/", "state": f"{count} current"} for folder, count in current.items()]
    return whole + [row for row in outputs if row["state"] != "current"]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if value is None:
        return ABSENT
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def _cell(row: Row, key: str, style: str) -> str:
    value = row.get(key)
    if style == MARK:
        return "yes" if value else ""
    if style == INTERVAL:
        limits = [row.get(f"{key}_lower"), row.get(f"{key}_upper")]
        around = (
            "" if None in limits else f" [{show(limits[0], 'three_down')}, {show(limits[1], 'three_up')}]"
        )
        return show(value, "three") + around
    return (
        _plain(value)
        if style in PLAIN and value is not None
        else show(value, "text" if style in PLAIN else style)
    )


def table(rows: list[Row], columns: dict[str, tuple[str, str]], width: int = UNBROKEN) -> str:
    """Rows as aligned plain text; `columns` is key -> (heading, style of `formats.show`). Empty without rows.

    Cells are broken into lines where the whole would be wider than `width` characters.
    """
    if not rows:
        return ""
    heads, *lines = _lines(rows, columns)
    aligned = Table(*(Column(Text(head)) for head in heads), box=None, pad_edge=False, header_style="")
    for line in lines:
        aligned.add_row(*map(Text, line))
    page = StringIO()
    Console(file=page, width=width).print(aligned)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _lines(rows: list[Row], columns: dict[str, tuple[str, str]]) -> list[list[str]]:
    """The headings, then every row's cells."""
    cells = [
        [visible(_cell(row, key, style), CELL_MOST) for key, (_, style) in columns.items()] for row in rows
    ]
    return [[heading for heading, _ in columns.values()], *cells]
