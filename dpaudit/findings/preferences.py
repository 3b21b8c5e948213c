"""What preference training is for, on held-out pairs: whether the chosen answer is the likelier one, and how
that changed.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion

Role = Literal["its start", "fine-tuning at the same claim"]
Measure = Literal["accuracy", "log_ratio", "chosen", "rejected", "bits_per_byte"]


class HeldPair(NamedTuple):
    """What one model says of a held-out pair: log-probabilities of both answers, closing tokens included."""

    id: str
    chosen: float  # nats
    rejected: float  # nats
    chosen_tokens: Count
    rejected_tokens: Count
    cluster: str  # the patient, or the pair itself


@dataclass(frozen=True)
class PreferenceFigures:
    """One model on all held-out pairs. `accuracy` is the share of pairs whose chosen answer is the likelier;
    `shorter` the same of the pairs whose chosen answer is the shorter one.
    """

    arm: str
    accuracy: Proportion
    accuracy_lower: Proportion
    accuracy_upper: Proportion
    chosen: float  # nats an answer, the mean
    rejected: float
    pairs: Count
    clusters: Count
    left_out: Count  # pairs of which an answer does not fit
    shorter: Proportion | None
    shorter_pairs: Count


@dataclass(frozen=True)
class Change:
    """One measure of a DPO arm less that of what it is compared with, on the same pairs or records."""

    measure: Measure
    difference: float
    lower: float
    upper: float
    p_value: Proportion


@dataclass(frozen=True)
class PreferenceChange:
    """A DPO arm against its start, or against the arm that fine-tuning alone gives for the same claim.

    `log_ratio` is the change of the log-ratio of the two answers, in nats: times the loss's beta it is the
    difference of their implicit rewards, which training raises.
    `worse` says why the page warns of the arm; None where it is better in its purpose, or cost nothing.
    """

    arm: str
    against: str
    role: Role
    changes: tuple[Change, ...]
    worse: str | None


@dataclass(frozen=True)
class Incomparable:
    """A DPO arm without the arm that dialogues alone give for the same claim: whether its pairs were worth
    their part of epsilon is not known.
    """

    arm: str
    against: str  # the name of the arm that is not there
    epsilon: float  # of both; inf: without noise


@dataclass(frozen=True)
class PreferenceResults:
    """What the page shows: every model that is compared, and the comparisons."""

    confidence: Proportion
    models: tuple[PreferenceFigures, ...]
    compared: tuple[PreferenceChange, ...]
    incomparable: tuple[Incomparable, ...]


@dataclass(frozen=True)
class Preferences(Finding):
    """The results of a run's DPO arms with the answers that they come from."""

    FORMAT: ClassVar = "preferences/2"
    results: PreferenceResults
    pairs: dict[str, tuple[HeldPair, ...]]  # by model
    base: dict[str, str]  # hashes of the base's files
