"""What the texts tell of membership without any model: blind baselines and near-duplicates of a run."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion


@dataclass(frozen=True)
class Blind:
    """How well a classifier that sees texts alone tells members from others; None where too few are there."""

    auc: Proportion | None
    auc_lower: Proportion | None
    auc_upper: Proportion | None
    p_value: Proportion | None  # that the texts say nothing, one-sided
    alarm: bool  # fair coins do not allow this
    units: Count
    finding: str


@dataclass(frozen=True)
class Near:
    """Near-duplicates across the coin: how many non-members have a copy in training."""

    members: Count
    nonmembers: Count
    nonmembers_in_training: Count
    members_among_nonmembers: Count
    pairs_across: Count
    alike: Count  # units with a near-duplicate anywhere


@dataclass(frozen=True)
class Blinds(Finding):
    """The baseline of every comparison of a run; None where nothing is compared."""

    FORMAT: ClassVar = "blind/1"
    canaries: Blind | None
    extraction: Blind | None
    records: Blind | None
    texts: Blind | None
    pairs: Blind | None

    def of(self, part: str) -> Blind | None:
        """The baseline of one comparison, by its name."""
        baseline: Blind | None = vars(self)[part]
        return baseline


@dataclass(frozen=True)
class NearDuplicates(Finding):
    """The near-duplicates of every comparison of a run; None where nothing is compared."""

    FORMAT: ClassVar = "near-duplicates/1"
    width: Count  # words of a shingle
    threshold: Proportion  # share of shingles in common from which two texts are alike
    canaries: Near | None
    extraction: Near | None
    records: Near | None
    texts: Near | None
    pairs: Near | None

    def of(self, part: str) -> Near | None:
        """The counts of one comparison, by its name."""
        counts: Near | None = vars(self)[part]
        return counts
