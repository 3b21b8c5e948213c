"""What a command found as plain text: aligned tables, one line for every other value."""

import shutil
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dpaudit.page.formats import ABSENT, show
from dpaudit.terminal import visible

Row = dict[str, Any]
PLAIN = ("pairs", "yes")  # styles of this module's own: a mapping as words, a truth value as yes or no
MARK, INTERVAL = "mark", "interval"  # yes or nothing; a value with the limits that stand beside it in its row
CELL_MOST = 400  # characters
FITTED = ("recipes", "faults", "notes")  # tables of words, which are fitted to the terminal
UNBROKEN = 100_000  # characters: wider than any table

# key of a command's findings -> column of a row -> (heading, style of `formats.show`)
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "runs": {
        "run": ("run", "text"),
        "suite": ("suite", "text"),
        "arms": ("arms", "text"),
        "stages": ("stages done", "text"),
        "verdicts": ("verdicts", "pairs"),
    },
    "arms": {
        "arm": ("arm", "text"),
        "epsilon": ("claimed epsilon", "epsilon"),
        "delta": ("delta", "delta"),
        "unit": ("unit", "text"),
        "noise_multiplier": ("sigma", "sigma"),
        "sampling_rate": ("rate", "number"),
        "steps": ("steps", "count"),
        "clip": ("clip", "number"),
        "epsilon_spent": ("epsilon spent", "three_up"),
        "sequences_truncated": ("cut short", "count"),
        "trained": ("trained", "yes"),
    },
    "forecast": {
        "arm": ("arm", "text"),
        "start": ("starts at", "text"),
        "epsilon": ("claimed epsilon", "epsilon"),
        "noise_multiplier": ("sigma", "sigma"),
        "sampling_rate": ("rate", "number"),
        "steps": ("steps", "count"),
        "batch": ("batch", "count"),
        "clip": ("clip", "number"),
        "trainable_parameters": ("trains", "count"),
        "memory_gib": ("GiB, about", "number"),
        "axes": ("canaries along axes", "count"),
    },
    "declared": {
        "arm": ("arm", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "delta": ("delta", "delta"),
        "epsilon_lower": ("lower bound", "two_down"),
        "ceiling": ("ceiling", "two_down"),
        "verdict": ("verdict", "text"),
        "reason": ("because", "text"),
        "mark": ("made", "text"),
    },
    "before": {
        "arm": ("arm", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "run": ("in the run", "text"),
        "verdict": ("verdict", "text"),
        "own_page": ("on its own page", "text"),
        "reason": ("because", "text"),
    },
    "verdicts": {
        "arm": ("arm", "text"),
        "recipe": ("recipe", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "epsilon_lower": ("lower bound", "two_down"),
        "confidence": ("holds with", "percent"),
        "ceiling": ("ceiling", "two_down"),
        "auc": ("AUC of canaries", "interval"),
        "records_auc": ("AUC of real units", "interval"),
        "blind_auc": ("blind AUC", "three"),
        "verdict": ("verdict", "text"),
    },
    "answers": {
        "arm": ("arm", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "delta": ("delta", "delta"),
        "outside_p": ("p from outside", "p"),
        "outside_level": ("tested at", "p"),
        "outside_power": ("finds no noise", "percent"),
        "inside_p": ("p from inside", "p"),
        "inside_level": ("tested at", "p"),
        "inside_power": ("finds less noise", "percent"),
        "verdict": ("verdict", "text"),
        "reason": ("because", "text"),
    },
    "over_seeds": {
        "arms": ("trainings of one kind", "text"),
        "epsilon": ("claimed epsilon", "epsilon"),
        "seeds": ("seeds", "count"),
        "own_least": ("bounds of single seeds from", "two_down"),
        "own_most": ("to", "two_down"),
        "epsilon_lower": ("pooled bound of the method", "two_down"),
        "ceiling": ("its ceiling", "two_down"),
        "note": ("none because", "text"),
    },
    "tested": {
        "arm": ("model", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "delta": ("delta", "delta"),
        "verdict": ("verdict", "text"),
        "epsilon_lower": ("lower bound", "two_down"),
        "confidence": ("holds with", "confidence"),
        "reason": ("because", "text"),
    },
    "inside": {
        "arm": ("arm", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "noise_multiplier": ("sigma of the ledger", "sigma"),
        "noise_upper": ("largest not refuted", "two_up"),
        "epsilon_lower": ("which spends", "two_down"),
        "p_value": ("p", "p"),
        "failed": ("checks failed", "count"),
        "power": ("finds half of the noise", "percent"),
    },
    "extraction": {
        "arm": ("arm", "text"),
        "planted_found": ("extracted", "count"),
        "planted": ("of planted", "count"),
        "found_upper": ("rate at most", "percent_up"),
        "controls_found": ("controls extracted", "count"),
        "controls": ("of controls", "count"),
        "median_planted": ("median exposure, bits", "one"),
        "median_control": ("of controls", "one"),
        "space_bits": ("most there can be", "one"),
        "extrapolated": ("exposures extrapolated", "count"),
    },
    "discoverable": {
        "arm": ("arm", "text"),
        "recipe": ("recipe", "text"),
        "queries": ("attempts", "attempts"),
        "p": ("with this chance", "percent"),
        "planted_found": ("come out", "count"),
        "planted": ("of planted", "count"),
        "found_upper": ("rate at most", "percent_up"),
        "controls_found": ("controls come out", "count"),
        "controls": ("of controls", "count"),
    },
    "pii": {
        "arm": ("arm", "text"),
        "field": ("field", "text"),
        "completed": ("completed", "count"),
        "fields": ("of fields trained on", "count"),
        "upper": ("rate at most", "percent_up"),
        "others_completed": ("others completed", "count"),
        "others_fields": ("of fields left out", "count"),
        "given": ("given in the prompt", "count"),
        "units_out": ("units concerned", "count"),
    },
    "quality": {
        "arm": ("arm", "text"),
        "measure": ("measure", "text"),
        "value": ("value", "three"),
        "lower": ("from", "three_down"),
        "upper": ("to", "three_up"),
        "items": ("items", "count"),
        "chance": ("chance", "three"),
        "above_chance": ("above chance", "yes"),
    },
    "pairs": {
        "arm": ("arm", "text"),
        "against": ("against", "text"),
        "prompts": ("prompts", "count"),
        "win_rate": ("win rate", "percent_one"),
        "lower": ("from", "percent_down"),
        "upper": ("to", "percent_up"),
        "unscored": ("unscored", "count"),
    },
    "scorecard": {
        "name": ("figure", "text"),
        "value": ("value", "three"),
        "lower": ("from", "three_down"),
        "upper": ("to", "three_up"),
        "items": ("items", "count"),
        "meaning": ("meaning", "text"),
    },
    "set_aside": {
        "name": ("set aside of", "text"),
        "reason": ("because of", "text"),
        "items": ("items", "count"),
        "counted": ("counted", "text"),
    },
    "faults": {
        "figure": ("figure", "text"),
        "original": ("score.py", "text"),
        "here": ("here", "text"),
    },
    "notes": {"note": ("note", "text")},
    "recipes": {
        "name": ("recipe", "text"),
        "own": ("yours", "mark"),
        "kind": ("kind", "text"),
        "minimum_canaries": ("canaries", "count"),
        "sees": ("the attacker has", "text"),
        "cost": ("cost", "text"),
    },
    "controls": {
        "control": ("control", "text"),
        "controls": ("distinct", "count"),
        "facts": ("facts", "count"),
        "right": ("right", "count"),
        "verdicts": ("of", "count"),
        "unscored": ("no verdict", "count"),
        "rate": ("rate", "percent_one"),
        "lower": ("lower limit", "percent_down"),
        "tested": ("tested", "yes"),
    },
    "power": {
        "trainer": ("broken trainer", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "true_epsilon": ("true epsilon", "two_down"),
        "seen_by": ("meant to be seen by", "text"),
        "power": ("caught", "percent_one"),
        "power_lower": ("lower limit", "percent_down"),
        "mechanism_test": ("mechanism test", "percent_one"),
        "one_run_bound": ("one-run bound", "percent_one"),
        "conformance": ("conformance", "percent_one"),
        "ledger": ("ledger", "percent_one"),
        "passed": ("passed", "yes"),
    },
    "audits": {
        "canaries": ("canaries", "count"),
        "guesses": ("guesses", "count"),
        "epsilon_ceiling": ("ceiling of the bound", "two_down"),
        "one_run_bound": ("one-run bound refutes", "percent_one"),
        "mechanism_test": ("mechanism test refutes", "percent_one"),
    },
    "correct_page": {
        "claims": ("one page of claims", "text"),
        "pages": ("pages", "count"),
        "refuted": ("refuted anywhere", "count"),
        "rate": ("rate", "percent_one"),
        "lower": ("at least", "percent_one"),
        "upper": ("at most", "percent_one"),
        "passed": ("passed", "yes"),
    },
    "correct_engine": {
        "claim": ("correct engine at epsilon", "epsilon"),
        "audits": ("audits", "count"),
        "refuted": ("refuted by mechanism test", "count"),
        "rate": ("rate", "percent_one"),
        "lower": ("from", "percent_down"),
        "upper": ("to", "percent_up"),
        "refuted_by_bound": ("by one-run bound", "count"),
        "failed_checks": ("failed checks", "count"),
        "mean_bound": ("mean bound", "two_down"),
        "ceiling": ("its ceiling", "two_down"),
        "stopped": ("stopped by", "text"),
        "passed": ("passed", "yes"),
    },
    "packages": {
        "package": ("package", "text"),
        "installed": ("installed", "text"),
        "tested": ("tested with", "text"),
        "same": ("same", "yes"),
    },
    "stages": {
        "noise_multiplier": ("sigma", "sigma"),
        "sampling_rate": ("rate", "number"),
        "steps": ("steps", "count"),
    },
    "unfinished": {
        "arm": ("arm not trained", "text"),
        "steps_done": ("stopped at step", "count"),
        "steps": ("of", "count"),
    },
    "records": {
        "record": ("record", "text"),
        "date": ("date", "text"),
        "mark": ("when", "text"),
        "by": ("by", "text"),
    },
    "origins": {
        "run": ("run", "text"),
        "arm": ("arm", "text"),
        "epsilon": ("claimed epsilon", "epsilon"),
        "delta": ("delta", "delta"),
        "unit": ("unit", "text"),
        "relation": ("relation", "text"),
        "epsilon_spent": ("epsilon spent", "three_up"),
        "ledger_beside": ("ledger beside it", "yes"),
        "custody": ("custody", "text"),
    },
    "outputs": {"file": ("output", "text"), "state": ("state", "text")},
}
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
