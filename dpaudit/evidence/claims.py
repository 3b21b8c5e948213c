"""Claims as they are typed: `eps=3,delta=1e-5,unit=record,relation=add_or_remove`."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar, cast, get_args

from dpaudit.errors import UsageError
from dpaudit.privacy.claim import Claim, Relation, Unit

KEYS = {"eps": "eps=3", "delta": "delta=1e-5", "unit": "unit=record", "relation": "relation=add_or_remove"}
UNITS, RELATIONS = get_args(Unit), get_args(Relation)
EXAMPLE = f"--claim {','.join(KEYS.values())}"

M = TypeVar("M")


def parse(text: str) -> Claim:
    """The claim in `text`. Raises UsageError for a key that is missing, unknown or out of range."""
    given: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = "eps" if key == "epsilon" else key
        if key not in KEYS or not equals:
            raise UsageError(
                "--claim", f"some of {', '.join(KEYS)}, each as KEY=VALUE", f"{part:.40}", EXAMPLE
            )
        if key in given:
            raise UsageError("--claim", f"{key} once", f"{key} twice")
        given[key] = value
    for key, example in KEYS.items():
        if not given.get(key):
            raise UsageError(
                "--claim",
                f"{key}, such as {example}",
                f"no {key}",
                "a claim names epsilon, delta, unit and relation",
            )
    epsilon = _number(given["eps"], "eps", 0, math.inf)
    delta = _number(given["delta"], "delta", 0, 1)
    for key, known in (("unit", UNITS), ("relation", RELATIONS)):
        if given[key] not in known:
            raise UsageError(f"--claim: {key}", f"one of {', '.join(known)}", f"{given[key]:.40}")
    return Claim(epsilon, delta, cast(Unit, given["unit"]), cast(Relation, given["relation"]))


def typed(claim: Claim) -> str:
    """The claim as it would be typed: `parse` reads it back."""
    return f"eps={claim.epsilon!r},delta={claim.delta!r},unit={claim.unit},relation={claim.relation}"


def paired(models: Sequence[M], said: Sequence[Claim]) -> tuple[tuple[M, Claim], ...]:
    """Every claim with the model that it is about: all claims are of the one model, or the one claim is of
    all models, or the first claim is of the first model, the second of the second.

    Raises UsageError where none of these fits, and for a claim that one model makes twice.
    """
    if 1 not in (len(models), len(said)) and len(models) != len(said):
        raise UsageError(
            "--claim",
            "one --adapter, one --claim, or as many of one as of the other",
            f"{len(models)} adapters and {len(said)} claims",
            "type a --claim after each --adapter: the first claim is of the first adapter",
        )
    count = max(len(models), len(said))
    pairs = tuple(zip([*models] * (count // len(models)), [*said] * (count // len(said)), strict=True))
    twice = next((claim for (_, claim), times in Counter(pairs).items() if times > 1), None)
    if twice is not None:
        raise UsageError(
            "--claim", "each claim once of one adapter", f"{typed(twice)} twice", "leave one out"
        )
    return pairs


def check_testable(claim: Claim, unit: str) -> None:
    """Raises UsageError where fair coins on the membership of a `unit` cannot test the claim."""
    if claim.unit != unit:
        remedy = "no canary is planted for it" if claim.unit == "label" else f"plant with --unit {claim.unit}"
        raise UsageError(
            "--claim: unit",
            f"{unit}, the unit that was planted",
            claim.unit,
            f"claims of different units are never compared; {remedy}",
        )
    if claim.relation != "add_or_remove":
        raise UsageError(
            "--claim: relation",
            "add_or_remove, which coins in or out test",
            claim.relation,
            "a `replace` claim needs twin canaries, which are not planted",
        )


def _number(text: str, key: str, low: float, high: float) -> float:
    try:
        value = float(text.replace("\N{MINUS SIGN}", "-"))  # as pages print a number
    except ValueError:
        value = math.nan
    if not low <= value < high:
        allowed = f"a number of {low:g} or more" + (f", below {high:g}" if high < math.inf else "")
        remedy = "an infinite epsilon claims nothing that could be tested" if math.isinf(value) else ""
        raise UsageError(
            f"--claim: {key}", f"{allowed}, and finite" if remedy else allowed, f"{text:.40}", remedy
        )
    return value
