"""Charts as inline SVG: pure functions from numbers to text, no script, no external resource.

Colour, dash and type live in reports/page.css, under the classes named here, so that one chart serves light,
dark and print. Two things tell arms apart: the rung of the epsilon ladder by colour, the method by dash and
marker. Charts are 440 units wide and stay readable at 340 pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from dpaudit.page import svg
from dpaudit.page.formats import show
from dpaudit.page.svg import LEFT, RIGHT, WIDTH, Look, Scale


@dataclass(frozen=True)
class ClaimRow:
    """One arm of the claims chart. All epsilons at one delta; None where there is no claim or no bound."""

    label: str
    look: Look
    verdict: str
    claimed: float | None
    lower: float | None
    ceiling: float | None


@dataclass(frozen=True)
class RocCurve:
    """An ROC curve as points from (0, 0) to (1, 1), with its pointwise interval where there is one."""

    label: str
    look: Look
    fpr: Sequence[float]
    tpr: Sequence[float]
    tpr_lower: Sequence[float] = ()
    tpr_upper: Sequence[float] = ()


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; `lower` and `upper` None where none was given."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Rungs:
    """One method on the epsilon ladder: an estimate at each epsilon (inf = not private)."""

    label: str
    method: int
    points: Sequence[tuple[float, Look, Estimate]]


@dataclass(frozen=True)
class Strip:
    """Exposures of one arm, in bits: secrets that were planted and controls that were not."""

    label: str
    look: Look
    planted: Sequence[float]
    controls: Sequence[float]


@dataclass(frozen=True)
class Trace:
    """A quantity over training steps."""

    label: str
    look: Look
    steps: Sequence[float]
    values: Sequence[float]


def claims(rows: Sequence[ClaimRow], name: str) -> str:
    """Claim, proven lower bound and ceiling of each arm, one under another on one epsilon axis.

    A claim to the right of its ceiling could not have been refuted by all guesses right: the audit has no
    power.
    """
    finite = [v for row in rows for v in (row.claimed, row.lower, row.ceiling) if v is not None]
    top = max([v for v in finite if math.isfinite(v)], default=1.0)
    ticks = svg.ticks_over(0.0, max(top * 1.04, 0.1), 6)
    scale, pitch = Scale(0.0, max(ticks[-1], top * 1.04), 12.0, WIDTH - 16.0), 58.0
    bottom = 6.0 + pitch * len(rows)
    parts = [svg.x_axis(scale, ticks, 4.0, bottom, "epsilon")]
    parts += [_claim_row(row, scale, 6.0 + pitch * index) for index, row in enumerate(rows)]
    key, height = _claims_key(bottom + 62)
    description = "; ".join(_claim_words(row) for row in rows)
    return svg.drawing(
        name, bottom + 58 + height, "What was claimed and what was proven", description, [*parts, key]
    )


def roc(curves: Sequence[RocCurve], name: str) -> str:
    """ROC curves on two logarithmic axes with interval bands, the diagonal of guessing, and 1 % FPR marked.

    Rates of zero are drawn at the edge of the plot: a logarithm has no zero.
    """
    rates = [v for curve in curves for v in (*curve.fpr, *curve.tpr) if v > 0]
    low = 10.0 ** math.floor(math.log10(max(min(rates, default=0.01), 1e-5)) + 1e-9)
    low = min(low, 1e-3)  # 1 % FPR stands inside the plot
    left, bottom = 54.0, 346.0
    across = Scale(low, 1.0, left, WIDTH - RIGHT, log=True)
    up = Scale(low, 1.0, bottom, 26.0, log=True)
    decades = [10.0**k for k in range(round(math.log10(low)), 1)]
    parts = [
        svg.x_axis(across, decades, 26.0, bottom, "false positive rate", svg.percent_label),
        svg.y_axis(up, decades, left, WIDTH - RIGHT, "true positive rate", svg.percent_label),
        svg.line(across.at(low), up.at(low), across.at(1), up.at(1), "diagonal"),
        svg.line(across.at(0.01), 26, across.at(0.01), bottom, "marker-line"),
        svg.text(across.at(0.01) + 5, bottom - 7, "1 % FPR", "tick"),
    ]
    parts += [_band(curve, across, up) for curve in curves] + [_curve(c, across, up) for c in curves]
    key, height = svg.legend([(c.label, f"curve {c.look.css}", "") for c in curves], left, bottom + 60)
    description = "Both axes logarithmic. One curve per arm: " + ", ".join(curve.label for curve in curves)
    return svg.drawing(
        name, bottom + 50 + height, "Membership inference: ROC curves", description, [*parts, key]
    )


def ladder(
    series: Sequence[Rungs],
    name: str,
    *,
    title: str,
    unit: str,
    base: Estimate | None = None,
    chance: float | None = None,
    percent: bool = False,
) -> str:
    """A measure of quality on the epsilon ladder, with intervals; the base model and chance as level
    lines.
    """
    epsilons = sorted({epsilon for rungs in series for epsilon, _, _ in rungs.points})
    values = [v for rungs in series for _, _, e in rungs.points for v in _ends(e)]
    levels = [*(_ends(base) if base else []), *([chance] if chance is not None else [])]
    low, high = min([*values, *levels], default=0.0), max([*values, *levels], default=1.0)
    ticks = svg.ticks_over(low, high, 5)
    bottom, right = 232.0, WIDTH - RIGHT
    up = Scale(ticks[0], ticks[-1], bottom - 6, 30.0)
    write = svg.percent_label if percent else svg.plain_label(ticks)
    parts = [svg.y_axis(up, ticks, LEFT, right, unit, write)]
    parts += _levels(up, base, chance, right)
    parts += [rung_labels(epsilons, bottom), *_rung_marks(series, epsilons, up)]
    style = "percent_one" if percent else "three"
    description = f"{unit}; " + "; ".join(_rung_words(rungs, style) for rungs in series)
    key, height = svg.legend(_ladder_key(series, base, chance), 12.0, bottom + 60)
    return svg.drawing(name, bottom + 50 + height, title, description, [*parts, key])


def exposure(strips: Sequence[Strip], space_bits: float, name: str) -> str:
    """Exposures in bits, one dot per secret: planted above, never planted below, for each arm.

    `space_bits` is the most there can be: the secret ranks first of the whole space it was drawn from.
    """
    left = 74.0
    ticks = svg.ticks_over(0.0, space_bits, 6)
    scale = Scale(0.0, space_bits, left, WIDTH - RIGHT)
    pitch, top = 84.0, 26.0
    bottom = top + pitch * len(strips)
    parts = [
        svg.x_axis(scale, ticks, top, bottom, "exposure, bits"),
        svg.line(scale.at(space_bits), top - 4, scale.at(space_bits), bottom, "marker-line"),
        svg.text(scale.at(space_bits), top - 9, "ranked first of the whole space", "tick", "end"),
    ]
    parts += [_strip(strip, scale, top + pitch * index) for index, strip in enumerate(strips)]
    description = f"At most {space_bits:.1f} bits. Arms: " + ", ".join(strip.label for strip in strips)
    return svg.drawing(name, bottom + 44, "Exposure of planted secrets and of controls", description, parts)


def traces(lines: Sequence[Trace], name: str, *, title: str, unit: str) -> str:
    """A quantity over training steps (logarithmic), one line per arm."""
    values = [v for trace in lines for v in trace.values if math.isfinite(v)]
    last = max((s for trace in lines for s in trace.steps), default=1.0)
    ticks = svg.ticks_over(min([*values, 0.0]), max(values, default=1.0), 5)
    bottom, right = 232.0, WIDTH - RIGHT
    up, across = Scale(ticks[0], ticks[-1], bottom, 30.0), Scale(1, max(last, 10), LEFT, right, log=True)
    decades = [10.0**k for k in range(int(math.log10(max(last, 10))) + 1)]
    parts = [
        svg.x_axis(across, decades, 30.0, bottom, "step"),
        svg.y_axis(up, ticks, LEFT, right, unit, svg.plain_label(ticks)),
    ]
    for trace in lines:
        places = [(across.at(s), up.at(v)) for s, v in zip(trace.steps, trace.values, strict=True)]
        parts.append(f'<path class="curve thin {trace.look.css}" d="{svg.outline(svg.thinned(places))}"/>')
    key, height = svg.legend([(t.label, f"curve {t.look.css}", "") for t in lines], LEFT, bottom + 60)
    description = f"{unit} at each step. Arms: " + ", ".join(trace.label for trace in lines)
    return svg.drawing(name, bottom + 50 + height, title, description, [*parts, key])


# The parts of single charts


def _claim_row(row: ClaimRow, scale: Scale, top: float) -> str:
    bar, zero = top + 23, scale.at(0)
    parts = [
        svg.text(12, top + 15, row.label, "label strong"),
        svg.text(WIDTH - 16, top + 15, row.verdict, "label", "end"),
        svg.rectangle(zero, bar, scale.end - zero, 12, "track"),
    ]
    if row.ceiling is not None:
        parts.append(svg.rectangle(zero, bar, scale.at(row.ceiling) - zero, 12, "ceiling"))
        parts.append(svg.line(scale.at(row.ceiling), bar - 1, scale.at(row.ceiling), bar + 13, "ceiling-end"))
    if row.lower is not None:
        parts.append(svg.rectangle(zero, bar, max(scale.at(row.lower) - zero, 2.0), 12, "proven"))
    if row.claimed is not None:
        parts.append(_claim_mark(scale.at(row.claimed), bar))
    return f'<g class="{row.look.css}"><title>{escape(_claim_words(row))}</title>{"".join(parts)}</g>'


def _claim_mark(x: float, top: float) -> str:
    diamond = f'<path class="claim-dot" d="M{x:g} {top + 15:g}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>'
    return svg.line(x, top - 3, x, top + 18, "claim-line") + diamond


def _claims_key(y: float) -> tuple[str, float]:
    parts = [
        svg.rectangle(12, y - 9, 22, 10, "proven"),
        svg.text(40, y, "proven: epsilon is at least this", "label"),
        svg.rectangle(12, y + 11, 22, 10, "ceiling"),
        svg.text(40, y + 20, "ceiling: proven, were all of the guesses right", "label"),
        _claim_mark(23, y + 29),
        svg.text(40, y + 42, "claim: epsilon is at most this", "label"),
    ]
    return "".join(parts), 60.0


def _claim_words(row: ClaimRow) -> str:
    named = (
        ("claimed", row.claimed, "epsilon"),
        ("proven at least", row.lower, "two_down"),
        ("ceiling", row.ceiling, "two_down"),
    )
    return ", ".join(
        [row.label, *(f"{word} {show(v, style)}" for word, v, style in named if v is not None), row.verdict]
    )


def _curve(curve: RocCurve, across: Scale, up: Scale) -> str:
    places = [(across.at(x), up.at(y)) for x, y in zip(curve.fpr, curve.tpr, strict=True)]
    title = f"<title>{escape(curve.label)}</title>"
    return f'<path class="curve {curve.look.css}" d="{svg.outline(svg.thinned(places))}">{title}</path>'


def _band(curve: RocCurve, across: Scale, up: Scale) -> str:
    if not curve.tpr_lower or not curve.tpr_upper:
        return ""
    above = [(across.at(x), up.at(y)) for x, y in zip(curve.fpr, curve.tpr_upper, strict=True)]
    below = [(across.at(x), up.at(y)) for x, y in zip(curve.fpr, curve.tpr_lower, strict=True)]
    edge = [*svg.thinned(above), *reversed(svg.thinned(below))]
    return f'<path class="band {curve.look.css}" d="{svg.outline(edge)}z"/>'


def _ladder_key(
    series: Sequence[Rungs], base: Estimate | None, chance: float | None
) -> list[tuple[str, str, str]]:
    looks = [(rungs.label, Look(5, rungs.method)) for rungs in series]
    entries = [(label, f"joint {look.css}", svg.marker(0, 0, look)) for label, look in looks]
    entries += [("base model", "base-line", "")] if base is not None else []
    return entries + ([("chance", "chance-line", "")] if chance is not None else [])


def _levels(up: Scale, base: Estimate | None, chance: float | None, right: float) -> list[str]:
    parts = []
    if base is not None:
        if base.lower is not None and base.upper is not None:
            top = up.at(base.upper)
            parts.append(svg.rectangle(LEFT, top, right - LEFT, up.at(base.lower) - top, "base-band"))
        parts.append(svg.line(LEFT, up.at(base.value), right, up.at(base.value), "base-line"))
    if chance is not None:
        parts.append(svg.line(LEFT, up.at(chance), right, up.at(chance), "chance-line"))
    return parts


def rung_x(epsilon: float, epsilons: Sequence[float]) -> float:
    """Rungs stand at equal distances: the ladder is an order, and infinity has no place on a scale."""
    pitch = (WIDTH - RIGHT - LEFT) / max(len(epsilons), 1)
    return LEFT + pitch * (list(epsilons).index(epsilon) + 0.5)


def rung_labels(epsilons: Sequence[float], bottom: float) -> str:
    parts = [svg.line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis")]
    for epsilon in epsilons:
        word = "∞ (not private)" if math.isinf(epsilon) else f"{epsilon:g}"
        parts.append(svg.text(rung_x(epsilon, epsilons), bottom + 17, word, "tick", "middle"))
    parts.append(svg.text((LEFT + WIDTH - RIGHT) / 2, bottom + 35, "claimed epsilon", "label", "middle"))
    return "".join(parts)


def _rung_marks(series: Sequence[Rungs], epsilons: Sequence[float], up: Scale) -> list[str]:
    parts = []
    for index, rungs in enumerate(series):
        shift = (index - (len(series) - 1) / 2) * 14.0
        places = [(rung_x(e, epsilons) + shift, look, value) for e, look, value in rungs.points]
        joined = svg.outline([(x, up.at(value.value)) for x, _, value in places])
        parts.append(f'<path class="joint method{rungs.method % 4}" d="{joined}"/>')
        for x, look, value in places:
            if value.lower is not None and value.upper is not None:
                parts.append(svg.line(x, up.at(value.lower), x, up.at(value.upper), f"whisker {look.css}"))
            parts.append(svg.marker(x, up.at(value.value), look))
    return parts


def _rung_words(rungs: Rungs, style: str) -> str:
    points = ", ".join(
        f"{'inf' if math.isinf(e) else f'{e:g}'}: {show(v.value, style)}" for e, _, v in rungs.points
    )
    return f"{rungs.label} at epsilon {points}"


def _strip(strip: Strip, scale: Scale, top: float) -> str:
    rows = (("planted", strip.planted, top + 38), ("control", strip.controls, top + 66))
    parts = [svg.text(12, top + 17, strip.label, "label strong")]
    for word, values, y in rows:
        parts.append(svg.text(12, y + 4, word, "tick"))
        parts.append(svg.line(scale.start, y, scale.end, y, "gridline"))
        kind = "speck" if word == "planted" else "ring"
        parts += [svg.circle(x, y + shift, 2.7, kind) for x, shift in _swarm([scale.at(v) for v in values])]
    return f'<g class="{strip.look.css}">{"".join(parts)}</g>'


def _swarm(xs: Sequence[float]) -> list[tuple[float, float]]:
    """Dots that would cover one another are stacked around the line, closer the more there are."""
    columns: dict[int, list[float]] = {}
    for x in sorted(xs):
        columns.setdefault(round(x / 5.6), []).append(x)
    placed = []
    for column in columns.values():
        gap = min(5.0, 22.0 / max(len(column) - 1, 1))
        placed += [(x, round((i - (len(column) - 1) / 2) * gap, 2)) for i, x in enumerate(column)]
    return placed


def _ends(estimate: Estimate) -> list[float]:
    return [v for v in (estimate.value, estimate.lower, estimate.upper) if v is not None]
