"""A mechanism as it is typed: `sigma=0.92,rate=64/2148,steps=990`."""

import math
from fractions import Fraction

from dpaudit.errors import UsageError
from dpaudit.privacy.mechanism import Mechanism

EXAMPLE = "--mechanism sigma=0.92,rate=64/2148,steps=990"
KEYS = ("sigma", "rate", "steps")
RATE_LEAST = 1e-9  # with less nobody is drawn


def parse(text: str) -> Mechanism:
    """The mechanism in `text`, with a clip of 1. Raises UsageError for a key that is missing, unknown or out
    of range.
    """
    given: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in KEYS or not equals or key in given:
            raise UsageError(
                "--mechanism", f"each of {', '.join(KEYS)} once, as KEY=VALUE", f"{part:.40}", EXAMPLE
            )
        given[key] = value
    for key in KEYS:
        if key not in given:
            raise UsageError(
                "--mechanism", f"each of {', '.join(KEYS)} once, as KEY=VALUE", f"no {key}", EXAMPLE
            )
    sigma = _number(given["sigma"])
    if not 0 < sigma < math.inf:
        raise UsageError("--mechanism: sigma", "a noise multiplier above 0", f"{given['sigma']:.40}")
    rate = _number(given["rate"])
    if not RATE_LEAST <= rate <= 1:
        expected = f"a sampling rate from {RATE_LEAST:g} to 1, such as 0.03 or 64/2148"
        raise UsageError("--mechanism: rate", expected, f"{given['rate']:.40}")
    steps = _number(given["steps"])
    if not (1 <= steps < 1e9 and steps.is_integer()):
        raise UsageError("--mechanism: steps", "a whole number of 1 or more", f"{given['steps']:.40}")
    return Mechanism(sigma, rate, int(steps), 1.0)


def _number(text: str) -> float:
    """A decimal number or a fraction; NaN for anything else."""
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan
