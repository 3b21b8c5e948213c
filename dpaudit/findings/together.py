"""What an audit says of all arms together: one answer a claim, and the arms without noise beside them."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.answers import Answered
from dpaudit.findings.finding import Finding
from dpaudit.findings.membership import Word
from dpaudit.schema import Count, Proportion, Size


@dataclass(frozen=True)
class Promise:
    """What an arm's claim promises, and what the same attack proves on the arm without noise that is most
    like it.
    """

    arm: str
    epsilon: Size
    guess_right_at_most: Proportion
    control: str | None
    control_is_alike: bool | None  # of the same method and loss
    control_epsilon_lower: Size | None


@dataclass(frozen=True)
class AsIfClaimed:
    """What the guesses alone say of an arm without noise, had it made one claim of the run."""

    epsilon: Size
    verdict: Word


@dataclass(frozen=True)
class PositiveControl:
    """An arm without noise, as if it made each claim of the run."""

    arm: str
    epsilon_lower: Size
    ceiling: Size
    confidence: Proportion
    claims: tuple[AsIfClaimed, ...]
    weak: bool  # it proves no more than the smallest claim


@dataclass(frozen=True)
class OverSeeds:
    """What the trainings of one kind that differ by their seed prove together of that kind. It decides
    nothing.
    """

    arms: tuple[str, ...]
    epsilon: Size | None  # that each claims; None without noise
    seeds: Count
    own_least: Size  # of the bounds that each proves alone
    own_most: Size
    epsilon_lower: Size | None  # some training of this kind spends at least this; None where there is a note
    ceiling: Size | None  # the same, had all guesses been right
    delta: Proportion
    confidence: Proportion
    notion: str
    note: str | None  # why nothing is said of the kind


@dataclass(frozen=True)
class Beside:
    """The other runs that learn from the same data, and what all their private arms and this run's spend
    together; `unknown` says why that is not known.
    """

    runs: tuple[str, ...]
    epsilon: Size | None
    delta: Proportion | None
    unknown: str | None


@dataclass(frozen=True)
class Twice:
    """What one arm spends in all its trainings together: in this run and in those that it repeats."""

    arm: str
    trainings: Count
    epsilon: Size
    delta: Proportion


@dataclass(frozen=True)
class Together(Finding):
    """One answer a claim, all tested in one family, and what all private arms spend together."""

    FORMAT: ClassVar = "together/3"
    primary: str
    questions: Count  # of the family
    family_error: Proportion  # the chance that the family refutes any claim, if all are true
    pages_error: Proportion  # the same of this page and of those of the runs that it repeats, each by itself
    repeats: tuple[str, ...]  # those runs, oldest first: their questions are in the family
    answers: tuple[Answered, ...]
    claims: tuple[Promise, ...]
    positive_control: tuple[PositiveControl, ...]
    composed_epsilon: Size | None
    composed_delta: Proportion | None
    caveat: str | None
    beside: Beside | None  # None without another run on the same data
    twice: tuple[Twice, ...]
    over_seeds: tuple[OverSeeds, ...] = ()  # a kind of training each; none where all have one seed
