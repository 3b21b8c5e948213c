"""The page of an observed training: the verdict on each claim, what was measured, and every check."""

from dataclasses import dataclass

from dpaudit.findings.answers import Answered
from dpaudit.findings.inside import Check, Inside
from dpaudit.findings.observed import ObservedVerification

ALONG = "canaries along their axes"  # a check that is there where canaries showed too little


@dataclass(frozen=True)
class ClaimShown:
    """A claim with its places."""

    at: str
    inside_at: str
    part: Answered
    inside: Inside

    @property
    def short(self) -> str | None:
        """Why its mechanism test could have found nothing."""
        return next((check.detail for check in self.inside.conformance if check.name == ALONG), None)


def claims(found: ObservedVerification) -> list[ClaimShown]:
    return [
        ClaimShown(f"/answers/{number}", f"/inside/{number}", answer, inside)
        for number, (answer, inside) in enumerate(zip(found.answers, found.inside, strict=True))
    ]


def checks(found: ObservedVerification) -> list[tuple[Check, ...]]:
    """Every check beside its outcome for each claim."""
    return list(zip(*(inside.conformance for inside in found.inside), strict=True))
