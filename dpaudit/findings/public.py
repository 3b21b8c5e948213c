"""What the public edition of a report shows, and nothing else: no figure computed from private records
without noise has a field here.
"""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.answers import Side, Violation
from dpaudit.findings.declared import Mark
from dpaudit.findings.finding import Finding
from dpaudit.findings.membership import Word
from dpaudit.findings.release import Released, Rule
from dpaudit.schema import Count, Proportion, Size


@dataclass(frozen=True)
class PublicRun:
    """What was run. Texts that a person wrote and paths are no part of it: they may tell of the data."""

    name: str
    base: str  # the last part of its path or hub id
    base_licence: str | None  # as its folder states it
    base_weights: dict[str, str]  # file -> the first 128 bits of its SHA-256
    unit: str
    relation: str
    delta: float
    versions: dict[str, str]
    custody: str
    commitment: str | None
    declared: str  # when the settings were first written down: UTC


@dataclass(frozen=True)
class PublicAdapter:
    """One adapter. `covered` says whether epsilon covers every figure that is computed from it: only then
    does this edition have any. What is None is withheld, or there is none.
    """

    arm: str
    method: str
    loss: str
    private: bool
    covered: bool
    epsilon: float  # claimed, nats; inf: not private
    epsilon_spent: float | None  # by the accountant, at the claim's delta; rounded up to two places
    guess_right_at_most: Proportion | None
    noise_multiplier: float | None  # withheld where the number of units was counted from the data
    clip: float | None
    adapter_sha256: str | None


@dataclass(frozen=True)
class PublicQuestion:
    """One question about a claim. Figures of an adapter that epsilon does not cover are withheld."""

    side: Side
    arm: str
    refutes: bool
    shown_able: bool
    violation: Violation
    p_value: Proportion | None
    epsilon_lower: Size | None  # nats
    ceiling: Size | None
    power: Proportion | None  # from inside alone: from outside it comes from an adapter without noise


@dataclass(frozen=True)
class PublicAnswer:
    """A claim with its verdict, put in words."""

    arm: str
    epsilon: float
    delta: float
    unit: str
    relation: str
    verdict: Word
    reason: str
    questions: tuple[PublicQuestion, ...]


@dataclass(frozen=True)
class PublicClaim:
    """A claim of the record, with its verdict where `verify --run` has looked."""

    arm: str
    epsilon: float
    delta: float
    mark: Mark
    date: str
    verdict: Word | None


@dataclass(frozen=True)
class PublicAttack:
    """The primary attack on planted rows alone."""

    arm: str
    recipe: str
    n: Count
    members: Count
    auc: Proportion
    auc_lower: Proportion
    auc_upper: Proportion
    confidence: Proportion


@dataclass(frozen=True)
class PublicSecrets:
    """Planted secrets that came out, beside those that were kept out."""

    arm: str
    recipe: str
    planted: Count
    planted_found: Count
    found_upper: Proportion
    controls: Count
    controls_found: Count
    confidence: Proportion


@dataclass(frozen=True)
class PublicCheck:
    """One check by an observer inside the training."""

    name: str
    outcome: str


@dataclass(frozen=True)
class PublicInside:
    """What was seen from inside of noise, clip and sampling."""

    arm: str
    notion: str
    epsilon_lower: Size
    p_value: Proportion
    power_halved: Proportion
    power_third: Proportion
    checks: tuple[PublicCheck, ...]


@dataclass(frozen=True)
class PublicTask:
    """A model's accuracy on a benchmark whose items are no private records."""

    arm: str
    task: str
    accuracy: Proportion
    accuracy_lower: Proportion
    accuracy_upper: Proportion
    items: Count
    chance: Proportion


@dataclass(frozen=True)
class PublicReport(Finding):
    """The public edition of a report."""

    FORMAT: ClassVar = "public-report/1"
    edition: str
    withheld: tuple[str, ...]
    run: PublicRun
    rule: Rule
    release: tuple[Released, ...]
    adapters: tuple[PublicAdapter, ...]
    answers: tuple[PublicAnswer, ...]
    claims: tuple[PublicClaim, ...]
    composed_epsilon: Size | None  # of all private adapters together; rounded up to two places
    attacks: tuple[PublicAttack, ...]
    secrets: tuple[PublicSecrets, ...]
    inside: tuple[PublicInside, ...]
    quality: tuple[PublicTask, ...]
    stages: dict[str, str]  # how far each is
