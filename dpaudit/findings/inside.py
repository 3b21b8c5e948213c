"""What canaries along axes of the weights show of an arm's ledger."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from dpaudit.findings.finding import Finding
from dpaudit.privacy.claim import Claim
from dpaudit.schema import Count, Proportion, Size


@dataclass(frozen=True)
class MechanismTest:
    """Holds if what acted is Poisson-subsampled Gaussian noise at the claimed rate and steps."""

    notion: str
    epsilon_lower: Size  # nats, that the largest noise that is not refuted spends
    noise_upper: Size  # that noise multiplier; infinite where the test refutes none
    p_value: Proportion
    auc: Proportion


@dataclass(frozen=True)
class Caught:
    """What the mechanism test would have found: a training with this noise, so often."""

    noise_multiplier: Size
    epsilon: Size  # nats
    probability: Proportion


@dataclass(frozen=True)
class OneRun:
    """The one-run bound, for any mechanism whatever."""

    notion: str
    epsilon_lower: Size  # nats
    ceiling: Size  # the bound had all guesses been right
    guesses: Count  # that carry a weight
    right_share: Proportion  # of the weight of all guesses


@dataclass(frozen=True)
class Check:
    """One check by an observer inside the training."""

    name: str
    outcome: Literal["pass", "fail", "not observable"]
    detail: str


@dataclass(frozen=True)
class Inside(Finding):
    """The findings on one arm."""

    FORMAT: ClassVar = "inside/2"
    arm: str
    claim: Claim
    noise_multiplier: Size  # in the ledger
    canaries: Count
    confidence: Proportion  # at the first Holm step of the run's family
    draws: Count  # of the null
    mechanism_test: MechanismTest
    power_halved: Proportion  # the chance to refute a training with half of the noise at that step
    power_third: Proportion
    caught: Caught
    one_run: OneRun
    conformance: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed: near certain, and outside of any correction."""
        return tuple(check for check in self.conformance if check.outcome == "fail")
