"""What a judge is worth, and what it says of the arms' answers."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion


@dataclass(frozen=True)
class PassRate:
    """How many of one kind of control the judge got right."""

    items: Count
    passed: Count
    rate: Proportion | None
    lower: Proportion
    upper: Proportion


@dataclass(frozen=True)
class Passport(Finding):
    """What the judge did with controls whose right outcome is known, and whether that makes it fit."""

    FORMAT: ClassVar = "passport/2"
    rubric: str
    fit: bool
    reasons: tuple[str, ...]
    minimum: Proportion  # that every lower limit must reach
    confidence: Proportion
    faults: dict[str, PassRate]
    twins: dict[str, PassRate]
    swap: PassRate | None  # the same verdict in both orders; None where the rubric asks in one
    unscored: Count
    comparisons: Count


@dataclass(frozen=True)
class WinRate:
    """One arm against another over all prompts; no rate where nothing was judged."""

    arm: str
    against: str
    prompts: Count
    win_rate: Proportion | None
    lower: Proportion | None
    upper: Proportion | None
    wins: Count
    ties: Count
    losses: Count
    both_right: Count  # among the ties
    both_wrong: Count
    unscored: Count
    win_rate_worst: Proportion | None  # every unscored comparison a loss
    win_rate_best: Proportion | None  # every unscored comparison a win


@dataclass(frozen=True)
class Asked:
    """What was asked of a judge for its passport and its win rates, and what it cost."""

    comparisons: Count
    replies: Count  # those without a verdict, after which it was asked again, among them
    tokens_in: Count
    tokens_out: Count
    untold: Count  # replies that do not say what they took
    own_temperature: Count  # replies at the server's temperature, which refused the rubric's
    unscored: dict[str, Count]  # reason -> comparisons that got no verdict


@dataclass(frozen=True)
class Judgement(Finding):
    """What the judge says of all arms, with its passport."""

    FORMAT: ClassVar = "judgement/3"
    rubric: str
    title: str
    kind: str
    fit: bool
    reason: str | None  # why the judge is not fit
    passport: Passport
    pairs: tuple[WinRate, ...]
    asked: Asked | None  # None for a judge of the caller's own
