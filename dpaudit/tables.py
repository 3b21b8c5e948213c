"""What a command found as plain text: aligned tables, one line for every other value."""

from typing import Any

from dpaudit.formats import show

Row = dict[str, Any]
PLAIN = ("pairs", "yes")  # styles of this module's own: a mapping as words, a truth value as yes or no

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
    },
    "declared": {
        "arm": ("arm", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "delta": ("delta", "delta"),
        "epsilon_lower": ("lower bound", "two_down"),
        "ceiling": ("ceiling", "two_down"),
        "verdict": ("verdict", "text"),
        "ledger": ("ledger", "text"),
        "ledger_reason": ("since", "text"),
    },
    "verdicts": {
        "arm": ("arm", "text"),
        "recipe": ("recipe", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "epsilon_lower": ("lower bound", "two_down"),
        "ceiling": ("ceiling", "two_down"),
        "auc": ("AUC", "three"),
        "auc_lower": ("from", "three_down"),
        "auc_upper": ("to", "three_up"),
        "records_auc": ("AUC of real units", "three"),
        "verdict": ("verdict", "text"),
    },
    "inside": {
        "arm": ("arm", "text"),
        "claim": ("claimed epsilon", "epsilon"),
        "noise_multiplier": ("sigma of the ledger", "sigma"),
        "noise_upper": ("largest not refuted", "two_up"),
        "epsilon_lower": ("which spends", "two_down"),
        "p_value": ("p", "p"),
        "failed": ("checks failed", "count"),
        "ledger": ("ledger", "text"),
    },
    "extraction": {
        "arm": ("arm", "text"),
        "planted_found": ("extracted", "count"),
        "planted": ("of planted", "count"),
        "found_upper": ("rate at most", "percent_up"),
        "controls_found": ("controls extracted", "count"),
        "controls": ("of controls", "count"),
        "extrapolated": ("exposures extrapolated", "count"),
    },
    "discoverable": {
        "arm": ("arm", "text"),
        "queries": ("attempts", "attempts"),
        "p": ("come out with chance", "percent"),
        "planted_found": ("planted", "count"),
        "planted": ("of planted", "count"),
        "found_upper": ("rate at most", "percent_up"),
        "controls_found": ("controls", "count"),
        "controls": ("of controls", "count"),
    },
    "pii": {
        "arm": ("arm", "text"),
        "field": ("field", "text"),
        "completed": ("completed", "count"),
        "fields": ("of fields trained on", "count"),
        "upper": ("rate at most", "percent_up"),
        "others_completed": ("completed", "count"),
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
        "uninformative": ("uninformative", "yes"),
    },
    "pairs": {
        "arm": ("arm", "text"),
        "against": ("against", "text"),
        "prompts": ("prompts", "count"),
        "win_rate": ("win rate", "percent_one"),
        "lower": ("from", "percent_down"),
        "upper": ("to", "percent_up"),
        "invalid": ("invalid", "count"),
    },
    "recipes": {
        "name": ("recipe", "text"),
        "kind": ("kind", "text"),
        "sees": ("the attacker has", "text"),
        "minimum_canaries": ("canaries", "count"),
        "cost": ("cost", "text"),
    },
    "controls": {
        "control": ("control", "text"),
        "passed": ("passed", "count"),
        "items": ("of", "count"),
        "rate": ("rate", "percent_one"),
        "lower": ("lower limit", "percent_down"),
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
    "outputs": {"file": ("output", "text"), "state": ("state", "text")},
}


def as_text(found: Row) -> str:
    """What a command found, as it is printed: tables under their names, every other value on a line of its own."""
    parts = [_part(key, value) for key, value in found.items() if value not in (None, [], {})]
    return "\n".join(parts).strip("\n").replace("\n\n\n", "\n\n") or "nothing yet"


def _part(key: str, value: Any) -> str:
    if key in COLUMNS and isinstance(value, list):
        return f"\n{table(value, COLUMNS[key])}\n"
    return str(value) if key == "caveat" else f"{key.replace('_', ' ')}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cell(value: Any, style: str) -> str:
    return (
        _plain(value)
        if style in PLAIN and value is not None
        else show(value, "text" if style in PLAIN else style)
    )


def table(rows: list[Row], columns: dict[str, tuple[str, str]]) -> str:
    """Rows as aligned plain text; `columns` is key -> (heading, style of `formats.show`). Empty without rows."""
    if not rows:
        return ""
    lines = [[heading for heading, _ in columns.values()]]
    lines += [[_cell(row.get(key), style) for key, (_, style) in columns.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join(padded)
