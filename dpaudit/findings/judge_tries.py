"""Every judge that a run tried: a fit one among several tried is weaker evidence than it seems."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count


@dataclass(frozen=True)
class JudgeTry:
    """One passport as it was made."""

    rubric: str
    kind: str
    model: str  # as `judging.names.told` tells it
    date: str  # UTC, to the second
    digest: str  # of the rubric with its model, the way to a server apart
    fit: bool
    reasons: tuple[str, ...]  # why it is not fit
    untested: tuple[str, ...]  # kinds of control
    replies: Count | None  # to its controls; None for a judge of the caller's own
    oldest: str | None  # date of a reply, UTC
    newest: str | None
    failed: dict[str, Count]  # reason -> tries without a verdict that were repeated


@dataclass(frozen=True)
class JudgeTries(Finding):
    """Every passport of a run, oldest first; none is ever taken away."""

    FORMAT: ClassVar = "judge-tries/2"
    tries: tuple[JudgeTry, ...]
