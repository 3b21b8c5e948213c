"""Guesses whether canaries were in, and what they prove: every verdict from outside rests on these counts."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.evidence import detection
from dpaudit.findings.membership import Bound, FamilyBound
from dpaudit.findings.verification import Detection
from dpaudit.privacy.claim import Claim
from dpaudit.stats import epsilon, fdp

NOTION = "(eps,delta)"  # of the one-run bound: it holds for any mechanism
FAMILY_NOTION = "f-DP/Gaussian family"


@dataclass(frozen=True)
class Guesses:
    """How often an attacker guessed right whether a canary was in, by a rule fixed before scores were read.

    Ties count against the bound. Bounds are the one-run lower bounds of Steinke, Nasr, Jagielski 2023 (arXiv
    2305.08846), in nats.
    """

    canaries: int
    guesses: int
    correct: int
    correct_at_most: int  # if every guess that no tie decides were right
    equal_scores: bool  # every canary has the same score
    confidence: float

    @classmethod
    def of_bound(cls, bound: Bound) -> "Guesses":
        """The counts of a bound as findings keep it."""
        return cls(**{field.name: getattr(bound, field.name) for field in fields(cls)})

    def at(self, confidence: float) -> "Guesses":
        """The same guesses, whose bounds hold at another confidence."""
        return replace(self, confidence=confidence)

    def p_value(self, claim: Claim, correct: int | None = None) -> float:
        """Of "training was as private as claimed", had `correct` guesses been right (None: as they were)."""
        return epsilon.p_value_one_run(
            canaries=self.canaries,
            guesses=self.guesses,
            correct=self.correct if correct is None else correct,
            epsilon=claim.epsilon,
            delta=claim.delta,
        )

    def bound(self, delta: float) -> dict[str, Any]:
        """What the guesses prove at `delta`, JSON-ready, with the counts that it follows from."""
        proven = {"epsilon_lower": self.lower(delta), "ceiling": self.ceiling(delta)}
        return {**proven, **asdict(self), "delta": delta, "notion": NOTION}

    def lower(self, delta: float) -> float:
        """The bound that the guesses prove; 0.0 where they prove nothing."""
        return self._proven(self.correct, delta)

    def reachable(self, delta: float) -> float:
        """The bound if every guess that no tie decides were right."""
        return self._proven(self.correct_at_most, delta)

    def ceiling(self, delta: float) -> float:
        """The bound if all guesses were right."""
        return epsilon.epsilon_ceiling_one_run(
            canaries=self.canaries, guesses=self.guesses, delta=delta, confidence=self.confidence
        )

    def in_family(self, delta: float) -> FamilyBound:
        """What the same guesses prove if the training hides a unit as well as one Gaussian mechanism does."""
        if delta == 0:  # no Gaussian noise has an epsilon there
            return FamilyBound(None, None, FAMILY_NOTION)

        def proven(correct: int) -> float:
            return fdp.epsilon_lower_fdp_gaussian(
                canaries=self.canaries,
                guesses=self.guesses,
                correct=correct,
                delta=delta,
                confidence=self.confidence,
            )

        return FamilyBound(proven(self.correct), proven(self.guesses), FAMILY_NOTION)

    def power(self, claim: Claim) -> Detection:
        """How strong a violation of the claim these guesses refute."""
        return detection.of_one_run(
            canaries=self.canaries,
            guesses=self.guesses,
            epsilon=claim.epsilon,
            delta=claim.delta,
            confidence=self.confidence,
        )

    def _proven(self, correct: int, delta: float) -> float:
        return epsilon.epsilon_lower_one_run(
            canaries=self.canaries,
            guesses=self.guesses,
            correct=correct,
            delta=delta,
            confidence=self.confidence,
        )


def guess(
    scores: NDArray[np.float64], members: NDArray[np.bool_], sides: tuple[int, int], confidence: float
) -> Guesses:
    """The guesses when the highest scores are called members and the lowest are not; `sides` says how many.

    Both arrays have shape (canaries,); higher = more likely a member.
    """
    return Guesses(
        len(scores),
        sum(sides),
        guess_both(scores, members, sides),
        most_right(scores, members, sides),
        bool(scores.min() == scores.max()),
        confidence,
    )


def guess_both(scores: NDArray[np.float64], members: NDArray[np.bool_], sides: tuple[int, int]) -> int:
    """How many are right when the highest scores are called members and the lowest are not; `sides` says how
    many.

    Among ties, canaries that make the guess wrong are taken first, on either side, and no canary is guessed
    twice. Both arrays have shape (canaries,).
    """
    included, excluded = sides
    order = np.lexsort((members, -scores))  # by falling score, then controls before members
    rest = order[included:]
    lowest = rest[np.lexsort((~members[rest], scores[rest]))][:excluded]
    return int(members[order[:included]].sum()) + int((~members[lowest]).sum())


def most_right(scores: NDArray[np.float64], members: NDArray[np.bool_], sides: tuple[int, int]) -> int:
    """How many of the guesses could be right at most: all but those that ties make wrong, on either side."""
    included, excluded = sides
    rest = np.lexsort((members, -scores))[included:]
    return sum(sides) - _tied(scores, members, included) - _tied(-scores[rest], ~members[rest], excluded)


def _tied(scores: NDArray[np.float64], members: NDArray[np.bool_], guesses: int) -> int:
    """How many of the highest scores ties make wrong: the controls that are as high as the last of them."""
    if not guesses:
        return 0
    cut = np.sort(scores)[len(scores) - guesses]
    tied, taken = scores == cut, guesses - int((scores > cut).sum())
    return min(taken, int((tied & ~members).sum())) if tied.sum() > taken else 0
