"""The chart of privacy against quality: two panels that share one epsilon axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from dpaudit.page import svg
from dpaudit.page.figures import Estimate, rung_labels, rung_x
from dpaudit.page.formats import show
from dpaudit.page.svg import LEFT, RIGHT, WIDTH, Look, Scale

TOP, MIDDLE, SPLIT, BOTTOM = 30.0, 170.0, 224.0, 400.0  # of the upper panel, then of the lower one
APART = 15.0  # between adapters of one epsilon


@dataclass(frozen=True)
class Point:
    """One adapter. `change` is its accuracy less that of the reference, None for the reference itself;
    `detectable` the smallest loss that the test would have told.
    """

    label: str
    look: Look
    epsilon: float
    attack: Estimate | None  # AUC on canaries
    change: Estimate | None
    detectable: float | None


def tradeoff(points: Sequence[Point], name: str, *, title: str, reference: str, margin: float) -> str:
    """Above, how well an attack tells members; below, the accuracy lost against the reference, with the band
    of losses that the margin allows and a bracket for the smallest loss that the test would have told.
    """
    epsilons = sorted({point.epsilon for point in points})
    changes = [point for point in points if point.change]
    parts = [*_attacks(points, epsilons), *(_changes(changes, epsilons, margin) if changes else ())]
    bottom = BOTTOM if changes else MIDDLE + 8
    parts.append(rung_labels(epsilons, bottom))
    key, height = _key(points, margin, bottom + 62, bool(changes))
    words = "; ".join(map(_words, points))
    beside = f", and accuracy less that of {reference}," if reference else ""
    description = f"Attack AUC{beside} by claimed epsilon: {words}"
    return svg.drawing(name, bottom + 50 + height, title, description, [*parts, key])


def _attacks(points: Sequence[Point], epsilons: Sequence[float]) -> list[str]:
    found = [point.attack for point in points if point.attack]
    low = min([0.5, *(one.lower if one.lower is not None else one.value for one in found)])
    ticks = svg.ticks_over(math.floor(low * 10) / 10, 1.0, 5)
    up = Scale(ticks[0], 1.0, MIDDLE, TOP)
    title = "attack: AUC on planted rows (half is guessing)"
    parts = [
        svg.y_axis(up, ticks, LEFT, WIDTH - RIGHT, title, svg.plain_label(ticks)),
        svg.line(LEFT, up.at(0.5), WIDTH - RIGHT, up.at(0.5), "chance-line"),
    ]
    for x, point in _placed(points, epsilons):
        if point.attack:
            parts.append(_mark(x, up, point.look, point.attack, _words(point)))
    return parts


def _changes(points: Sequence[Point], epsilons: Sequence[float], margin: float) -> list[str]:
    values = [value for point in points if point.change for value in _ends(point.change)]
    values += [-point.detectable for point in points if point.detectable is not None]
    low, high = min([*values, -margin]), max([*values, margin / 2])
    ticks = svg.ticks_over(100 * low, 100 * high, 5)
    up = Scale(ticks[0] / 100, ticks[-1] / 100, BOTTOM - 6, SPLIT)
    parts = [svg.text(4, SPLIT - 16, "quality: accuracy less the reference, points", "label")]
    parts.append(
        svg.rectangle(LEFT, up.at(0), WIDTH - RIGHT - LEFT, up.at(-margin) - up.at(0), "margin-band")
    )
    for tick in ticks:
        y = up.at(tick / 100)
        parts.append(svg.line(LEFT, y, WIDTH - RIGHT, y, "gridline"))
        parts.append(svg.text(LEFT - 7, y + 4, f"{tick:g}".replace("-", "−"), "tick", "end"))
    parts.append(svg.line(LEFT, up.at(0), WIDTH - RIGHT, up.at(0), "axis"))
    for x, point in _placed(points, epsilons):
        if point.detectable is not None:
            y = up.at(-point.detectable)
            parts.append(svg.line(x + 7, y, x + 17, y, "detectable"))
            parts.append(svg.line(x + 12, up.at(0), x + 12, y, "detectable thread"))
        if point.change:
            parts.append(_mark(x, up, point.look, point.change, _words(point)))
    return parts


def _mark(x: float, up: Scale, look: Look, value: Estimate, words: str) -> str:
    whisker = ""
    if value.lower is not None and value.upper is not None:
        whisker = svg.line(x, up.at(value.lower), x, up.at(value.upper), f"whisker {look.css}")
    return f"<g><title>{escape(words)}</title>{whisker}{svg.marker(x, up.at(value.value), look)}</g>"


def _placed(points: Sequence[Point], epsilons: Sequence[float]) -> list[tuple[float, Point]]:
    """Adapters of one epsilon stand beside each other."""
    placed = []
    for epsilon in epsilons:
        group = [point for point in points if point.epsilon == epsilon]
        middle = rung_x(epsilon, epsilons)
        placed += [
            (middle + (at - (len(group) - 1) / 2) * 2 * APART, point) for at, point in enumerate(group)
        ]
    return placed


def _key(points: Sequence[Point], margin: float, y: float, with_changes: bool) -> tuple[str, float]:
    methods = dict.fromkeys((_method(point), point.look.method) for point in points)
    looks = [(word, Look(5, method)) for word, method in methods]
    marks, height = svg.legend([(word, "", svg.marker(0, 0, look)) for word, look in looks], 12.0, y)
    if not with_changes:
        return marks, height
    below = y + height
    parts = [
        marks,
        svg.rectangle(12, below - 11, 26, 12, "margin-band"),
        svg.text(46, below, f"within the margin of {show(margin, 'points')} points", "label"),
        svg.line(20, below + 18, 30, below + 18, "detectable"),
        svg.text(46, below + 21, "smallest loss that the test would have told", "label"),
    ]
    return "".join(parts), height + 42


def _method(point: Point) -> str:
    return "SFT" if point.look.method == 0 else "DPO " + point.label.split("-")[1]


def _ends(estimate: Estimate) -> list[float]:
    return [v for v in (estimate.value, estimate.lower, estimate.upper) if v is not None]


def _words(point: Point) -> str:
    parts = [point.label]
    if point.attack:
        parts.append(f"AUC {show(point.attack.value, 'three')}")
    if point.change:
        parts.append(f"accuracy {show(point.change.value, 'signed_points')} points")
    if point.detectable is not None:
        parts.append(f"detectable {show(point.detectable, 'points_up')} points")
    return ", ".join(parts)
