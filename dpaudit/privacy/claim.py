"""A privacy claim: how much is promised, for whom, and against which change of the data."""

from dataclasses import dataclass
from typing import Literal, get_args

Unit = Literal["record", "patient", "pair", "label"]
Relation = Literal["add_or_remove", "replace"]

EPSILON_SLACK = 1.001  # spent over claimed; ten times the accountant's own error


@dataclass(frozen=True)
class Claim:
    """(epsilon, delta), for one `unit`, under the neighbouring `relation`.

    Claims with different units or relations are never compared. An infinite epsilon claims nothing. Raises
    ValueError for anything out of range, naming what is allowed.
    """

    epsilon: float  # nats
    delta: float  # [0, 1)
    unit: Unit  # whose presence is hidden
    relation: Relation  # what neighbouring data sets are

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise ValueError(f"expected epsilon >= 0, got {self.epsilon}")
        if not 0 <= self.delta < 1:
            raise ValueError(f"expected delta in [0, 1), got {self.delta}")
        if self.unit not in get_args(Unit):
            raise ValueError(f"expected unit in {get_args(Unit)}, got {self.unit!r}")
        if self.relation not in get_args(Relation):
            raise ValueError(f"expected relation in {get_args(Relation)}, got {self.relation!r}")

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:g} at delta {self.delta:g}, unit {self.unit}, {self.relation}"

    def covers(self, epsilon_spent: float) -> bool:
        """Whether the claim is at least what was spent at its delta, but for the accountant's error."""
        return epsilon_spent <= self.epsilon * EPSILON_SLACK
