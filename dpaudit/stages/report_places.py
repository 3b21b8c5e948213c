"""Where report.json has a figure that another file of the run holds."""

from collections.abc import Mapping
from typing import Any

from dpaudit.stages import contaminated, evaluate, preferences, report
from dpaudit.stages.audit.repeats import SUMMARY
from dpaudit.stages.judge import SUMMARY as JUDGED
from dpaudit.stages.report import FIGURES


def of(held: Mapping[str, Any], file: str, key: str) -> str:
    """The place in report.json of a figure of another file; empty where the report does not show it."""
    if file == FIGURES:
        return key
    whole = {
        SUMMARY: "/together",
        evaluate.SUMMARY: "/comparisons",
        contaminated.FILE: "/contamination",
        JUDGED: "/judge",
        report.CLAIMS: "",
    }
    if file in whole:
        return whole[file] + key
    if file == preferences.FILE:
        return f"/preferences{key.removeprefix('/results')}"
    stage, _, rest = file.partition("/")
    name, _, recipe = rest.removesuffix(".json").partition("/")
    if stage == "train":
        return _member(held, ("arms",), {"arm": name}, f"/privacy{key}")
    if stage == "evaluate":
        return _member(held, ("quality",), {"arm": name}, key.removeprefix("/quality"))
    if name == "inside":
        return _member(held, ("inside",), {"arm": recipe}, key)
    of = {"arm": name, "recipe": recipe}
    return _member(held, ("audits", "extraction", "discoverable", "pii"), of, key)


def _member(held: Mapping[str, Any], lists: tuple[str, ...], wanted: Mapping[str, str], key: str) -> str:
    for part in lists:
        rows = held.get(part)
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(row, dict) and all(row.get(name) == value for name, value in wanted.items()):
                return f"/{part}/{index}{key}"
    return ""
