"""Label privacy by randomised response: it hides which answer of a pair was preferred, and nothing else.

Each preference is flipped once, before training, with a probability that epsilon sets. Training sees nothing
but the answers to that question, so that it needs neither clipping nor noise, and any number of steps costs
nothing.
"""

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dpaudit.errors import UsageError
from dpaudit.privacy.claim import Claim
from dpaudit.suite.suite import Suite
from dpaudit.training.lazy import Lazy

if TYPE_CHECKING:
    from dpaudit.privacy.ledger import Ledger
    from dpaudit.training.examples import Example

UNIT: Final = "label"
LOSS: Final = "robust"
BITS = 256  # of one draw
ROUNDING = 1e-12  # relative; above the error of the exponential, towards more flips


def flip_probability(epsilon: float) -> float:
    """1 / (1 + exp(epsilon)), in [0, 1/2): the chance of a turned label that makes one (epsilon, 0)-private.

    0 for an infinite epsilon. Source: Warner 1965; Dwork and Roth 2014, section 3.2.
    """
    odds = math.exp(-epsilon)
    return odds / (1 + odds)


def is_flipped(name: str, epsilon: float, key: bytes) -> bool:
    """Whether the label called `name` is turned: the same at every call with the same secret `key`.

    A keyed hash replaces the coin, so that a resumed or repeated training flips the same labels. Its 256 bits
    are compared with the probability rounded up, at least 2**-256, so that the claim is kept at any epsilon.
    """
    numerator, denominator = (flip_probability(epsilon) * (1 + ROUNDING)).as_integer_ratio()
    least = -((-numerator << BITS) // denominator)
    draw = int.from_bytes(hmac.digest(key, name.encode(), hashlib.sha256), "big")
    return draw < max(least, 1) and math.isfinite(epsilon)


def randomised(
    units: "Sequence[Sequence[Example]]", names: Sequence[str], epsilon: float, key: bytes
) -> "Sequence[list[Example]]":
    """The units with chosen and rejected answer exchanged where the label is turned; `names` are the units'
    own.

    Each is made at access, and always the same.
    """
    if len(names) != len(units):
        raise ValueError(f"expected a name for each of {len(units)} units, got {len(names)}")

    def answered(place: int) -> "list[Example]":
        unit, name = units[place], names[place]
        return [_turned(e) if is_flipped(f"{name}/{i}", epsilon, key) else e for i, e in enumerate(unit)]

    return Lazy(len(units), answered)


def ledger_of(made: "Ledger") -> "Ledger":
    """An arm's ledger with randomised response in place of DP-SGD; no accountant is asked."""
    from dpaudit.privacy import ledger

    epsilon = made.claim.epsilon
    claim = Claim(epsilon, 0.0, UNIT, "replace")
    return ledger.of_labels(made, claim, flip_probability(epsilon))


def check(suite: Suite) -> None:
    """Raises UsageError where a suite of unit label asks for more than DPO arms of the robust loss."""
    if suite.training.unit != UNIT:
        return
    if "sft" in suite.grid.stages or "cpt" in suite.grid.stages:
        raise UsageError(
            "grid.stages",
            "no stage beside the DPO arms under unit label",
            ", ".join(suite.grid.stages),
            "only preferences have a label: --set grid.stages=[]",
        )
    if set(suite.grid.dpo) != {LOSS}:
        raise UsageError(
            "grid.dpo",
            f"only {LOSS} under unit label, which is unbiased under flipped labels",
            ", ".join(suite.grid.dpo) or "no loss",
            f"type --dpo {LOSS}",
        )
    if suite.training.dpo_label_smoothing is not None:
        raise UsageError(
            "training.dpo_label_smoothing",
            "no value under unit label, where epsilon sets it",
            f"{suite.training.dpo_label_smoothing:g}",
        )
    for kind in ("mia", "preference"):
        if kind in suite.attacks:
            refuse_membership("attacks", kind)


def refuse_membership(where: str, kind: str) -> None:
    """Raises UsageError: an attack that finds members cannot refute a claim that hides labels only."""
    raise UsageError(
        where,
        "no membership inference under unit label",
        kind,
        "the claim hides which answer was preferred, not who was trained on (a suite: attacks: [])",
    )


def _turned(example: "Example") -> "Example":
    return replace(example, sequences=example.sequences[::-1], reference=example.reference[::-1])
