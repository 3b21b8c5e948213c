"""report.json as one self-contained HTML page. Every number on it is looked up in the report by a JSON
pointer.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dpaudit import content
from dpaudit.page import figures, formats
from dpaudit.page.figures import ClaimRow, Estimate, RocCurve, Rungs, Strip, Trace
from dpaudit.page.svg import Look


def render(report: dict[str, Any]) -> str:
    """The page. Text from the report is escaped; a name that the template misspells is an error."""
    return _rendered("page.html.j2", report, charts(report))


def render_verification(found: dict[str, Any]) -> str:
    """The page of one claim about a model that others trained."""
    bound, name = found["bound"], found["audited"]["kind"]
    row = ClaimRow(
        name,
        Look(0, 0),
        found["verdict"]["verdict"],
        found["claim"]["epsilon"],
        bound["epsilon_lower"],
        bound["ceiling"],
    )
    curve = found["performance"]["roc"]
    drawn = {
        "claims": Markup(figures.claims([row], "claims")),
        "roc": Markup(
            figures.roc(
                [
                    RocCurve(
                        name, Look(0, 0), curve["fpr"], curve["tpr"], curve["tpr_lower"], curve["tpr_upper"]
                    )
                ],
                "roc",
            )
        ),
    }
    return _rendered("verify.html.j2", found, drawn)


def _rendered(template: str, report: dict[str, Any], drawn: dict[str, Any]) -> str:
    def num(pointer: str, style: str = "text") -> Markup:
        return data_element(report, pointer, style)

    def each(pointer: str) -> list[tuple[str, Any]]:
        return list(_members(pointer, look_up(report, pointer)))

    css = Markup((content.shipped("reports") / "page.css").read_text(encoding="utf-8"))
    shown = {"r": report, "css": css, "charts": drawn, "num": num, "each": each, "ptr": join}
    return _environment().get_template(template).render(shown)


@cache
def _environment() -> Environment:
    """Kept, since a template takes longer to compile than to fill."""
    return Environment(
        loader=FileSystemLoader(content.shipped("reports")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def look_up(report: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), such as `/audits/0/bound/epsilon_lower`. Raises KeyError
    without one.
    """
    found = report
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(f"report.json has nothing at {pointer}") from None
    return found


def join(pointer: str, *parts: object) -> str:
    """A pointer continued by keys, which may hold any character."""
    return pointer + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def data_element(report: Any, pointer: str, style: str) -> Markup:
    """The value at `pointer` as the page shows it: the exact value, its place and its style beside the
    text.
    """
    value = look_up(report, pointer)
    exact = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    html = '<data value="{}" data-key="{}" data-style="{}">{}</data>'
    return Markup(html).format(exact, pointer, style, formats.show(value, style))


def charts(report: dict[str, Any]) -> dict[str, Any]:
    """The page's charts by name, drawn from the same report; a chart without its data is the empty text."""
    looks = _looks(report["arms"])
    primary = [audit for audit in report["audits"] if audit["primary"] and audit["bound"]]
    return {
        "claims": _claims(primary, looks),
        "roc": _roc(primary, looks),
        "bits": _bits(report, looks),
        "tasks": _tasks(report, looks),
        "exposure": _exposure(report["extraction"], looks, "exposure"),
        "extrapolated": _exposure(report["extraction"], looks, "exposure_extrapolated"),
        "loss": _traces(report["arms"], looks, "loss", "training loss", "Training loss"),
        "clipped": _traces(report["arms"], looks, "clipped_share", "share of units clipped", "Clipping"),
    }


def _members(pointer: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((join(pointer, key), inner) for key, inner in value.items())
    return ((join(pointer, index), inner) for index, inner in enumerate(value))


def _looks(arms: list[dict[str, Any]]) -> dict[str, Look]:
    """Colour by rung of the ladder (0 = not private, then from the largest epsilon), marker by method and
    loss.
    """
    finite = sorted({float(arm["epsilon"]) for arm in arms if arm["private"]}, reverse=True)
    losses = sorted({arm["loss"] for arm in arms if arm["method"] != "sft"})
    method = {"sft": 0} | {loss: 1 + index for index, loss in enumerate(losses)}
    return {
        arm["arm"]: Look(
            1 + finite.index(float(arm["epsilon"])) if arm["private"] else 0, method[arm["loss"]]
        )
        for arm in arms
    }


def _claims(primary: list[dict[str, Any]], looks: dict[str, Look]) -> Markup:
    rows = [
        ClaimRow(
            audit["arm"],
            looks[audit["arm"]],
            audit["verdict"]["verdict"] if audit["claim"] else "no claim",
            float(audit["claim"]["epsilon"]) if audit["claim"] else None,
            None if (audit.get("blind") or {}).get("alarm") else audit["bound"]["epsilon_lower"],
            audit["bound"]["ceiling"],
        )
        for audit in sorted(
            primary, key=lambda audit: audit["claim"] is None
        )  # the control last, as in the text
    ]
    return Markup(figures.claims(rows, "claims") if rows else "")


def _roc(primary: list[dict[str, Any]], looks: dict[str, Look]) -> Markup:
    curves = []
    for audit in primary:
        roc = audit["canaries"]["roc"]
        bounds = roc.get("tpr_lower") or (), roc.get("tpr_upper") or ()
        curves.append(RocCurve(audit["arm"], looks[audit["arm"]], roc["fpr"], roc["tpr"], *bounds))
    return Markup(figures.roc(curves, "roc") if curves else "")


def _bits(report: dict[str, Any], looks: dict[str, Look]) -> Markup:
    rows = {entry["arm"]: entry["bits_per_byte"] for entry in report["quality"]}
    values = {arm: _estimate(row, "value") for arm, row in rows.items() if row}  # none held out: no figure
    title, unit = "Held-out text, bits per byte", "bits per byte on held-out records (lower is better)"
    return _ladder(report["arms"], values, looks, "bits", title=title, unit=unit)


def _tasks(report: dict[str, Any], looks: dict[str, Look]) -> list[Markup]:
    names = list(dict.fromkeys(t["task"] for entry in report["quality"] for t in entry["tasks"]))
    drawn = []
    for index, name in enumerate(names):
        rows = {e["arm"]: t for e in report["quality"] for t in e["tasks"] if t["task"] == name}
        values = {arm: _estimate(row, "accuracy") for arm, row in rows.items()}
        chance = next((row.get("chance") for row in rows.values()), None)
        drawn.append(
            _ladder(
                report["arms"],
                values,
                looks,
                f"task{index}",
                title=f"Accuracy on {name}",
                unit=f"accuracy on {name}",
                chance=chance,
                percent=True,
            )
        )
    return drawn


def _estimate(row: dict[str, Any], key: str) -> Estimate:
    """Both spellings of an interval occur: `lower` beside `value`, `accuracy_lower` beside `accuracy`."""
    prefix = "" if key == "value" else f"{key}_"
    return Estimate(row[key], row.get(f"{prefix}lower"), row.get(f"{prefix}upper"))


def _ladder(
    arms: list[dict[str, Any]],
    values: dict[str, Estimate],
    looks: dict[str, Look],
    name: str,
    **words: Any,
) -> Markup:
    """One line per method and loss over the epsilon ladder, with the base model as a level."""
    lines: dict[str, list[tuple[float, Look, Estimate]]] = {}
    for arm in sorted(arms, key=lambda arm: float(arm["epsilon"])):
        if arm["arm"] in values:
            label = "SFT" if arm["method"] == "sft" else f"DPO {arm['loss']}"
            point = (float(arm["epsilon"]), looks[arm["arm"]], values[arm["arm"]])
            lines.setdefault(label, []).append(point)
    series = [Rungs(label, points[0][1].method, points) for label, points in lines.items()]
    base = values.get("base")
    return Markup(figures.ladder(series, name, base=base, **words) if series else "")


def _exposure(extraction: list[dict[str, Any]], looks: dict[str, Look], key: str) -> Markup:
    """Exposures by rank, or those that were extrapolated: never both in one figure."""
    found = [(e["arm"], e[key]) for e in extraction if e.get(key)]
    found = [(arm, bits) for arm, bits in found if bits["planted"] or bits["controls"]]
    if not found:
        return Markup("")
    strips = [Strip(arm, looks[arm], bits["planted"], bits["controls"]) for arm, bits in found]
    space_bits = max(bits["space_bits"] or max(*bits["planted"], *bits["controls"], 1.0) for _, bits in found)
    return Markup(figures.exposure(strips, space_bits, key.replace("_", "-")))


def _traces(arms: list[dict[str, Any]], looks: dict[str, Look], key: str, unit: str, title: str) -> Markup:
    lines = []
    for arm in arms:
        columns = arm["steps"]
        pairs = [
            (step + 1, v)  # steps.jsonl counts from 0
            for step, v in zip(columns.get("step", ()), columns.get(key, ()), strict=False)
            if v is not None and math.isfinite(v)
        ]
        if pairs:
            lines.append(Trace(arm["arm"], looks[arm["arm"]], [s for s, _ in pairs], [v for _, v in pairs]))
    return Markup(figures.traces(lines, key.replace("_", "-"), title=title, unit=unit) if lines else "")
