"""A small kit to draw SVG as text: scales, axes, legends, markers. Colour and type are classes of
reports/page.css.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 440.0
LEFT, RIGHT = 50.0, 22.0  # margins beside a plot
_CHARACTER = 6.7  # width of a 12-unit letter, for legends

Write = Callable[[float], str]


@dataclass(frozen=True)
class Look:
    """How an arm is drawn: `rung` is its colour (0 = not private), `method` its dash and marker (0 = SFT)."""

    rung: int
    method: int = 0

    @property
    def css(self) -> str:
        return f"rung{self.rung % 6} method{self.method % 4}"


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on positions from `start` to `end`; values outside are drawn at the
    edge.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        kept = min(max(value, self.low), self.high)
        share = (self._measure(kept) - self._measure(self.low)) / self._span
        return round(self.start + share * (self.end - self.start), 2)

    def _measure(self, value: float) -> float:
        return math.log10(value) if self.log else value

    @property
    def _span(self) -> float:
        return self._measure(self.high) - self._measure(self.low)


def percent_label(value: float) -> str:
    return f"{100 * value:g} %"


def plain_label(ticks: Sequence[float]) -> Write:
    """Writes values with as many places as the ticks need."""
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return lambda value: f"{value:.{places}f}"


def ticks_over(low: float, high: float, count: int) -> list[float]:
    """About `count` round values, the first at or below `low` and the last at or above `high`."""
    span = (high - low) or max(abs(high), 1.0)
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + span) / step - 1e-9)
    return [round(step * k, 12) for k in range(first, last + 1)]


def x_axis(
    scale: Scale, ticks: Sequence[float], top: float, bottom: float, title: str, write: Write | None = None
) -> str:
    write = write or (lambda value: f"{value:g}")
    parts = [line(scale.start, bottom, scale.end, bottom, "axis")]
    for tick in ticks:
        if tick <= scale.high:
            parts.append(line(scale.at(tick), top, scale.at(tick), bottom, "gridline"))
            parts.append(text(scale.at(tick), bottom + 17, write(tick), "tick", "middle"))
    parts.append(text((scale.start + scale.end) / 2, bottom + 35, title, "label", "middle"))
    return "".join(parts)


def y_axis(scale: Scale, ticks: Sequence[float], left: float, right: float, title: str, write: Write) -> str:
    """Grid lines with values beside them; the title stands level above the axis, where it can be read."""
    parts = [text(4, 14, title, "label")]
    for tick in ticks:
        parts.append(line(left, scale.at(tick), right, scale.at(tick), "gridline"))
        parts.append(text(left - 7, scale.at(tick) + 4, write(tick), "tick", "end"))
    return "".join(parts)


def legend(entries: Sequence[tuple[str, str, str]], x: float, y: float) -> tuple[str, float]:
    """(word, class of its line, marker) in as many rows as they need; returns them and their height."""
    parts, left, row = [], x, 0
    for word, css, sign in entries:
        wide = 34 + _CHARACTER * len(word) + 16
        if left > x and left + wide > WIDTH:
            left, row = x, row + 1
        middle = y + 20.0 * row
        place = f"translate({_n(left + 13)} {_n(middle - 4)})"
        drawn = f'<g transform="{place}">{sign}</g>' if sign else ""
        parts += [
            line(left, middle - 4, left + 26, middle - 4, css),
            drawn,
            text(left + 34, middle, word, "label"),
        ]
        left += wide
    return "".join(parts), 20.0 * (row + 1)


def marker(x: float, y: float, look: Look) -> str:
    """Circle, diamond, square, triangle: one shape a method."""
    shapes = ("", "M0 -6.2l6.2 6.2l-6.2 6.2l-6.2 -6.2z", "M-4.6 -4.6h9.2v9.2h-9.2z", "M0 -6l5.6 10h-11.2z")
    shape = shapes[look.method % 4]
    if not shape:
        return f'<circle class="dot {look.css}" cx="{_n(x)}" cy="{_n(y)}" r="5"/>'
    return f'<path class="dot {look.css}" transform="translate({_n(x)} {_n(y)})" d="{shape}"/>'


def thinned(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a line less those that move it by under half a unit; corners stay where they were."""
    kept: list[tuple[float, float]] = []
    for index, (x, y) in enumerate(places):
        last = index == len(places) - 1
        if not kept or last or math.hypot(x - kept[-1][0], y - kept[-1][1]) >= 0.5:
            kept.append((x, y))
    return kept


def outline(places: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if index else 'M'}{_n(x)} {_n(y)}" for index, (x, y) in enumerate(places))


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class="{css}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def rectangle(x: float, y: float, width: float, height: float, css: str) -> str:
    return f'<rect class="{css}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(height)}"/>'


def circle(x: float, y: float, radius: float, css: str) -> str:
    return f'<circle class="{css}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"/>'


def text(x: float, y: float, words: str, css: str, anchor: str = "start") -> str:
    place = f'x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"'
    return f'<text class="{css}" {place}>{escape(words)}</text>'


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def drawing(name: str, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    """The whole chart, with the words that a screen reader speaks; `name` keeps ids apart on one page."""
    words, ids = "".join(parts), quoteattr(f"{name}-title {name}-desc")
    return (
        f'<svg class="chart" role="img" aria-labelledby={ids} viewBox="0 0 {_n(WIDTH)} {_n(height)}">'
        f"<title id={quoteattr(name + '-title')}>{escape(title)}</title>"
        f"<desc id={quoteattr(name + '-desc')}>{escape(description)}</desc>{words}</svg>"
    )
