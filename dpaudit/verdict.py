"""What an audit says of a claim. "Not refuted" is never to be worded "holds"."""

from dataclasses import dataclass
from typing import Literal

Word = Literal["refuted", "not refuted", "no power"]


@dataclass(frozen=True)
class Claim:
    """A privacy claim. Claims with different units or relations are never compared."""

    epsilon: float  # nats
    delta: float
    unit: str
    relation: str

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:g} at delta {self.delta:g}, unit {self.unit}, {self.relation}"


@dataclass(frozen=True)
class Verdict:
    """One of three words, and the sentence that says why."""

    verdict: Word
    reason: str


def decide(claim: Claim, epsilon_lower: float, ceiling: float) -> Verdict:
    """The verdict on a claim from a lower bound at the claim's delta and the most that the audit could have proven.

    `refuted` where the bound exceeds the claim; `no power` where not even a perfect attacker's would have; else
    `not refuted`, which presumes a trainer who did not filter canaries out. Raises ValueError unless
    0 <= epsilon_lower <= ceiling.
    """
    if not 0 <= epsilon_lower <= ceiling:
        raise ValueError(f"expected 0 <= epsilon_lower <= ceiling, got {epsilon_lower} and {ceiling}")
    if epsilon_lower > claim.epsilon:
        return Verdict(
            "refuted", f"the measured lower bound {epsilon_lower:.2f} is above the claimed {claim.epsilon:g}"
        )
    if ceiling <= claim.epsilon:
        return Verdict(
            "no power", f"a perfect attacker would have proven {ceiling:.2f}, no more than the claimed {claim.epsilon:g}"
        )  # fmt: skip
    return Verdict(
        "not refuted",
        f"the measured lower bound {epsilon_lower:.2f} is not above the claimed {claim.epsilon:g}; "
        f"up to {ceiling:.2f} could have been proven",
    )
