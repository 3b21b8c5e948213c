"""What a command found as plain text: aligned tables, one line for every other value."""

import shutil
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dpaudit.page.columns import COLUMNS, INTERVAL, MARK, RATE, RATES, VIEWS
from dpaudit.page.formats import ABSENT, show
from dpaudit.terminal import visible

Row = dict[str, Any]
PLAIN = ("pairs", "yes")  # styles of this module's own: a mapping as words, a truth value as yes or no
CELL_MOST = 400  # characters
FITTED = (  # tables of words, which are fitted to the terminal
    *("recipes", "faults", "notes", "pairs", "pairs_beside", "pairs_cautions", "trends", "not_compared"),
    *("mean_scores", "answers_ahead"),
    *("judges_tried", "judges_tried_in", "reasons", "people", "controls"),
)
WIDTH = 100  # characters, where nobody tells how wide the terminal is
WORDS = ("text", *PLAIN)  # styles of cells that may be broken into lines
NONE = "none: "  # begins the words for why there is no rate
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
        return "".join(f"\n{_view(name, value)}\n" for name in VIEWS.get(key, (key,)))
    if isinstance(value, list) and any(isinstance(row, dict) for row in value):
        return f"\n{table(value, _as_they_are(value))}\n"
    text = show(value, VALUES[key]) if key in VALUES else _plain(value)
    return visible(text if key == "caveat" else f"{LABELS.get(key, key.replace('_', ' '))}: {text}")


def _view(name: str, rows: list[Row]) -> str:
    """Rows under the headings of a table; of cautions those that have one."""
    width = max(60, shutil.get_terminal_size((WIDTH, 24)).columns) if name in FITTED else UNBROKEN
    told = [row for row in rows if row["caution"]] if name == "pairs_cautions" else rows
    return table(told, COLUMNS[name], width)


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
        said = row.get(f"{key}_says")
        return show(value, "three") + around + (f" {said}" if said else "")
    if style == RATE:
        return _rate(row, key)
    return (
        _plain(value)
        if style in PLAIN and value is not None
        else show(value, "text" if style in PLAIN else style)
    )


def _rate(row: Row, key: str) -> str:
    lower, upper, absent = (name and row.get(name) for name in RATES[key])
    if row.get(key) is None:
        return f"{NONE}{absent}" if absent else ABSENT
    limits = [show(lower, "percent_down"), show(upper, "percent_up")]
    return f"{show(row[key], 'percent_one')} [{', '.join(limit.removesuffix(' %') for limit in limits)}]"


def table(rows: list[Row], columns: dict[str, tuple[str, str]], width: int = UNBROKEN) -> str:
    """Rows as aligned plain text; `columns` is key -> (heading, style of `formats.show`). Empty without rows.

    Cells of words are broken into lines where the whole would be wider than `width` characters; numbers are
    not, as far as they fit.
    """
    if not rows:
        return ""
    heads, *lines = _lines(rows, columns)
    styles = [style for _, style in columns.values()]
    shaped = [_column(*column) for column in zip(heads, styles, *lines, strict=True)]
    aligned = Table(*shaped, box=None, pad_edge=False, header_style="")
    for line in lines:
        aligned.add_row(*map(Text, line))
    page = StringIO()
    Console(file=page, width=width).print(aligned)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _column(heading: str, style: str, *cells: str) -> Column:
    """A column of words is broken where it must be, also inside of a word; in one of rates, only the words
    for why there is none.
    """
    rates = [len(cell) for cell in cells if style == RATE and not cell.startswith(NONE)]
    is_words = style in WORDS or (style == RATE and len(rates) < len(cells))
    least = max(rates, default=None) if is_words else None
    return Column(Text(heading), overflow="fold", no_wrap=not is_words, min_width=least)


def _lines(rows: list[Row], columns: dict[str, tuple[str, str]]) -> list[list[str]]:
    """The headings, then every row's cells."""
    cells = [
        [visible(_cell(row, key, style), CELL_MOST) for key, (_, style) in columns.items()] for row in rows
    ]
    return [[heading for heading, _ in columns.values()], *cells]
