"""The two questions that are asked of a claim, and the one answer that follows."""

from dataclasses import dataclass
from typing import Literal

from dpaudit.findings.membership import Word
from dpaudit.privacy.claim import Claim
from dpaudit.schema import Proportion, Size

Side = Literal["outside", "inside"]
Violation = Literal["no noise at all", "half of the noise", "a third of the noise"]
SHOWN = 0.8  # the power from which a question is shown able to refute


@dataclass(frozen=True)
class Question:
    """One question about a claim: what an attacker sees of the adapter (outside), or whether a training ran
    the mechanism of its ledger (inside).

    `p_value` is at the claim; None where no guess counts. `level` is the one at which it was tested; None
    where the question was left out beforehand. `violation` is fixed beforehand, and `power` the chance that
    the question refutes it at the first Holm step; None where it is unknown.
    """

    side: Side
    arm: str  # whose training or adapter is looked at: inside, also a stage before
    p_value: Proportion | None
    level: Proportion | None
    epsilon_lower: Size | None  # outside: what the guesses prove at that level
    ceiling: Size | None  # outside: the same, had all guesses been right
    violation: Violation
    power: Proportion | None
    control: str | None  # outside: the arm or adapter without noise that the power is of
    note: str | None  # why the question was left out, or says nothing, or its power is unknown or too small

    @property
    def refutes(self) -> bool:
        return self.p_value is not None and self.level is not None and self.p_value <= self.level

    @property
    def is_shown_able(self) -> bool:
        """Whether it was tested, and would have found its violation with a chance of at least SHOWN."""
        return self.level is not None and self.power is not None and self.power >= SHOWN


@dataclass(frozen=True)
class Before:
    """The same claim in a run that this one repeats: its questions as this page's family tests them, and its
    verdict, which stays refuted where its own page or this family refutes it.
    """

    run: str
    questions: tuple[Question, ...]
    verdict: Word
    reason: str
    own_page: Word | None  # the verdict of its own page; None where that page does not have the claim


@dataclass(frozen=True)
class Answered:
    """A claim with its questions and its verdict. `failed` is near certain: failed checks of conformance, a
    ledger that spends more than is claimed. `unseen` are the trainings that the claim rests on and that no
    question looked at from inside, each with why. `before` has the runs that this one repeats, oldest first.
    """

    arm: str
    claim: Claim
    questions: tuple[Question, ...]
    failed: tuple[str, ...]
    verdict: Word
    reason: str
    unseen: tuple[str, ...] = ()
    before: tuple[Before, ...] = ()
