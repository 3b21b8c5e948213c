"""The page of an observed training: the verdict on each claim, what was measured, and every check."""

from dataclasses import dataclass

from dpaudit.findings.answers import Answered
from dpaudit.findings.inside import Check, Inside
from dpaudit.findings.observed import ObservedVerification


@dataclass(frozen=True)
class ClaimShown:
    """A claim with its places."""

    at: str
    inside_at: str
    part: Answered
    inside: Inside


def claims(found: ObservedVerification) -> list[ClaimShown]:
    return [
        ClaimShown(f"/answers/{number}", f"/inside/{number}", answer, inside)
        for number, (answer, inside) in enumerate(zip(found.answers, found.inside, strict=True))
    ]


def checks(found: ObservedVerification) -> list[tuple[Check, ...]]:
    """Every check beside its outcome for each claim."""
    return list(zip(*(inside.conformance for inside in found.inside), strict=True))
