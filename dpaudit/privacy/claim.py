"""A privacy claim: how much is promised, for whom, and against which change of the data."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Literal, get_args

from dpaudit.errors import BadValue

Unit = Literal["record", "patient", "pair", "label"]
Relation = Literal["add_or_remove", "replace"]

EPSILON_SLACK = 1.001  # spent over claimed; ten times the accountant's own error


def rounded_up(epsilon: float) -> float:
    """An epsilon that was spent, rounded up to two places; infinity as it is. Further places would tell the
    sampling rate, and so the number of units.
    """
    if not math.isfinite(epsilon):
        return epsilon
    return float(Decimal(repr(float(epsilon))).quantize(Decimal("0.01"), rounding=ROUND_CEILING))


@dataclass(frozen=True)
class Claim:
    """(epsilon, delta), for one `unit`, under the neighbouring `relation`.

    Claims with different units or relations are never compared. An infinite epsilon claims nothing. Raises
    BadValue (a ValueError) for anything out of range, naming what is allowed.
    """

    epsilon: float  # nats
    delta: float  # [0, 1)
    unit: Unit  # whose presence is hidden
    relation: Relation  # what neighbouring data sets are

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise BadValue("epsilon", "a number of 0 or more", self.epsilon)
        if not 0 <= self.delta < 1:
            raise BadValue("delta", "a number in [0, 1)", self.delta)
        if self.unit not in get_args(Unit):
            raise BadValue("unit", f"one of {', '.join(get_args(Unit))}", self.unit)
        if self.relation not in get_args(Relation):
            raise BadValue("relation", f"one of {', '.join(get_args(Relation))}", self.relation)

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:g} at delta {self.delta:g}, unit {self.unit}, {self.relation}"

    def covers(self, epsilon_spent: float) -> bool:
        """Whether the claim is at least what was spent at its delta, but for the accountant's error."""
        return epsilon_spent <= self.epsilon * EPSILON_SLACK
