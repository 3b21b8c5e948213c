"""Numbers as a reader sees them. A lower bound is rounded down and an upper bound up: no figure claims more
than was found.
"""

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

ABSENT = "–"


def show(value: Any, style: str) -> str:
    """`value` in the style of that name (a key of STYLES); a dash for None and NaN.

    Raises KeyError for an unknown style, so that a misspelt one in a template is found by any test.
    """
    write = STYLES[style]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    return write(value)


def _epsilon(value: float | str) -> str:
    number = float(value)  # JSON keeps infinity as the text "inf"
    return "∞" if math.isinf(number) else f"{number:g}"


def _rounded(places: int, mode: str) -> Callable[[float], str]:
    def write(value: float | str) -> str:
        number = float(value)
        if math.isinf(number):
            return "∞" if number > 0 else "−∞"
        rounded = Decimal(repr(number)).quantize(Decimal(1).scaleb(-places), rounding=mode)
        return f"{rounded + 0:,f}".replace("-", "−")

    return write


def _percent(places: int, mode: str = ROUND_HALF_EVEN) -> Callable[[float], str]:
    def write(value: float) -> str:
        scaled = Decimal(repr(float(value))).scaleb(2)
        rounded = scaled.quantize(Decimal(1).scaleb(-places), rounding=mode)
        return f"{rounded + 0:f} %".replace("-", "−")

    return write


def _confidence(value: float) -> str:
    """Rounded down, with as many places as it takes, two at most: 95 %, 97.5 %, 98.33 %."""
    rounded = Decimal(repr(float(value))).scaleb(2).quantize(Decimal("0.01"), rounding=ROUND_FLOOR)
    return f"{rounded.normalize():f} %"


def _points(mode: str) -> Callable[[float], str]:
    """A difference of shares in percentage points; the column's head says so."""

    def write(value: float) -> str:
        return (
            f"{Decimal(repr(float(value))).scaleb(2).quantize(Decimal('0.1'), rounding=mode) + 0:f}".replace(
                "-", "−"
            )
        )

    return write


def _signed(write: Callable[[float], str]) -> Callable[[float], str]:
    def signed(value: float | str) -> str:
        return f"+{write(float(value))}" if float(value) > 0 else write(float(value))

    return signed


def _scientific(value: float) -> str:
    """1e-05 as 1e-5, 0.0125 as 0.0125: the shorter of the two that a privacy engineer would write."""
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("e-", "e−")


def _attempts(value: float) -> str:
    """A number of attempts; of a huge one its size, rounded down."""
    return f"{value:,.0f}" if value < 1e9 else f"over 10^{math.floor(math.log10(value))}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _bytes(value: float) -> str:
    for name, size in (("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:,.1f} {name}"
    return f"{value / 1e3:,.0f} kB"


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


STYLES: dict[str, Callable[[Any], str]] = {
    "text": _joined,
    "count": lambda value: f"{value:,}" if isinstance(value, int) else f"{value:,.0f}",
    "epsilon": _epsilon,
    "delta": _scientific,
    "number": _scientific,
    "sigma": _rounded(3, ROUND_HALF_EVEN),
    "two": _rounded(2, ROUND_HALF_EVEN),
    "two_down": _rounded(2, ROUND_FLOOR),
    "two_up": _rounded(2, ROUND_CEILING),
    "three": _rounded(3, ROUND_HALF_EVEN),
    "three_down": _rounded(3, ROUND_FLOOR),
    "three_up": _rounded(3, ROUND_CEILING),
    "one": _rounded(1, ROUND_HALF_EVEN),
    "signed_three": _signed(_rounded(3, ROUND_HALF_EVEN)),
    "signed_three_down": _signed(_rounded(3, ROUND_FLOOR)),
    "signed_three_up": _signed(_rounded(3, ROUND_CEILING)),
    "percent": _percent(0),
    "percent_one": _percent(1),
    "percent_down": _percent(1, ROUND_FLOOR),
    "percent_up": _percent(1, ROUND_CEILING),
    "percent_two_up": _percent(2, ROUND_CEILING),
    "confidence": _confidence,
    "points": _points(ROUND_HALF_EVEN),
    "points_up": _points(ROUND_CEILING),
    "signed_points": _signed(_points(ROUND_HALF_EVEN)),
    "signed_points_down": _signed(_points(ROUND_FLOOR)),
    "signed_points_up": _signed(_points(ROUND_CEILING)),
    "p": _p_value,
    "attempts": _attempts,
    "duration": _duration,
    "bytes": _bytes,
    "megabytes": lambda value: f"{value:,.0f} MB",
}
