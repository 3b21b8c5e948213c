"""What a judge is worth, and what it says of the arms' answers."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding


@dataclass(frozen=True)
class PassRate:
    """How many of one kind of control the judge got right."""

    items: int
    passed: int
    rate: float | None
    lower: float
    upper: float


@dataclass(frozen=True)
class Passport(Finding):
    """What the judge did with controls whose right outcome is known, and whether that makes it fit."""

    FORMAT: ClassVar = "passport/1"
    rubric: str
    fit: bool
    reasons: tuple[str, ...]
    minimum: float  # that every lower limit must reach
    confidence: float
    faults: dict[str, PassRate]
    twins: dict[str, PassRate]
    swap: PassRate | None  # the same verdict in both orders; None where the rubric asks in one
    invalid: int
    comparisons: int


@dataclass(frozen=True)
class WinRate:
    """One arm against another over all prompts; no rate where nothing was judged."""

    arm: str
    against: str
    prompts: int
    win_rate: float | None
    lower: float | None
    upper: float | None
    wins: int
    ties: int
    losses: int
    invalid: int
    win_rate_worst: float | None  # every invalid verdict a loss
    win_rate_best: float | None  # every invalid verdict a win


@dataclass(frozen=True)
class Judgement(Finding):
    """What the judge says of all arms, with its passport."""

    FORMAT: ClassVar = "judgement/1"
    rubric: str
    title: str
    kind: str
    fit: bool
    reason: str | None  # why the judge is not fit
    passport: Passport
    pairs: tuple[WinRate, ...]
