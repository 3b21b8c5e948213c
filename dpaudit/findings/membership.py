"""What guesses of membership prove of an arm and of its claim, and what is said of all arms together."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from dpaudit.errors import BadValue
from dpaudit.findings.baselines import Blind, Near
from dpaudit.findings.finding import Finding
from dpaudit.privacy.claim import Claim
from dpaudit.schema import Count, Proportion, Size

Word = Literal["refuted", "not refuted", "no power"]


@dataclass(frozen=True)
class Curve:
    """An ROC curve from (0, 0) to (1, 1), with the pointwise interval of its true positive rate."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    tpr_lower: tuple[float, ...]
    tpr_upper: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            if len(values) != len(self.fpr):
                raise BadValue(name, f"{len(self.fpr)} values, as many as fpr has", f"{len(values)} values")

    def at(self, fpr: float) -> "Curve":
        """The ends, and the last point with at most this false positive rate."""
        last = max(place for place, value in enumerate(self.fpr) if value <= fpr)
        kept = sorted({0, last, len(self.fpr) - 1})
        return Curve(**{name: tuple(values[place] for place in kept) for name, values in vars(self).items()})


@dataclass(frozen=True)
class TprAtFpr:
    """The true positive rate at a low false positive rate; no interval where too few controls were drawn."""

    measurable: bool
    fpr_target: Proportion
    controls: Count
    members: Count
    tpr: Proportion | None
    tpr_lower: Proportion | None
    tpr_upper: Proportion | None
    fpr_measured: Proportion | None
    fpr_upper: Proportion | None
    tpr_on_curve: Proportion  # its threshold is chosen on the same controls


@dataclass(frozen=True)
class Per:
    """What one score is of; under unit patient, over how many records it is summed."""

    unit: str
    score: str | None = None
    records_least: Count | None = None
    records_most: Count | None = None


@dataclass(frozen=True)
class Area:
    """How well scores tell members from others."""

    n: Count
    members: Count
    auc: Proportion
    auc_lower: Proportion
    auc_upper: Proportion
    confidence: Proportion
    tpr_at_fpr: TprAtFpr


@dataclass(frozen=True)
class Performance(Area):
    """The same with its curve: whole where the page draws it, that of the primary recipe on canaries, else as
    `without_curve` leaves it.
    """

    roc: Curve

    def without_curve(self) -> Self:
        """The same with no more of the curve than `tpr_at_fpr` tells of, and its ends."""
        return replace(self, roc=self.roc.at(self.tpr_at_fpr.fpr_target))


@dataclass(frozen=True)
class Scored(Performance):
    """The same with what one score is of, and how many examples were cut or not scored."""

    per: Per
    truncated: Count | None = None
    unscored: Count | None = None


@dataclass(frozen=True)
class NearRecords(Near):
    """Near-duplicates of real units, and the AUC without all that have one; None where none is across."""

    n_without: Count | None = None
    auc_without: Proportion | None = None
    auc_without_lower: Proportion | None = None
    auc_without_upper: Proportion | None = None


@dataclass(frozen=True)
class Records(Scored):
    """The same recipe on real units."""

    blind: Blind | None = None
    near_duplicates: NearRecords | None = None


@dataclass(frozen=True)
class Proven:
    """What guesses prove, with the counts that it follows from."""

    epsilon_lower: Size  # nats
    ceiling: Size  # the bound had all guesses been right
    canaries: Count
    guesses: Count
    correct: Count
    correct_at_most: Count  # had every guess that no tie decides been right
    equal_scores: bool
    delta: Proportion
    confidence: Proportion
    notion: str


@dataclass(frozen=True)
class Bound(Proven):
    """The same, with the method and the guess rule."""

    method: str
    rule: str  # of guessing, in words


@dataclass(frozen=True)
class FamilyBound:
    """The bound of the same guesses inside the Gaussian family, which decides nothing; None at delta 0."""

    epsilon_lower: Size | None  # nats
    ceiling: Size | None
    notion: str


@dataclass(frozen=True)
class Answer:
    """What is said of a claim and why; none where the recipe carries no verdict or nothing is claimed."""

    verdict: Word | None
    reason: str


@dataclass(frozen=True)
class Fitted:
    """What a combination of recipes was fitted to, on examples that then left every count."""

    examples: Count
    weights: dict[str, float]  # by recipe
    picked: str  # the recipe that does best alone
    picked_on_rest: Area | None = None


@dataclass(frozen=True)
class Slope:
    """How much of the reference's score was taken off the audited model's, from 0 (none) to 1 (all).

    `fitted` is the least-squares slope, which differs where it lies outside of [0, 1]; None where no line can
    be fitted, because the reference says the same of all.
    """

    used: Proportion
    fitted: float | None
    per_token: float  # taken off for each token of a text, nats


@dataclass(frozen=True)
class Membership(Finding):
    """What a recipe of kind `mia` or `preference` found on an arm."""

    FORMAT: ClassVar = "membership/5"
    arm: str
    recipe: str
    kind: str
    primary: bool  # carries the verdict
    signal: str
    unit: str
    claim: Claim | None
    canaries: Scored
    records: Records | None
    bound: Bound | None
    blind: Blind | None
    equal_secrets: Count  # canaries left out with the secret of one trained on
    fitted: dict[str, Fitted] | None  # by kind of example
    slopes: dict[str, Slope] | None = None  # by kind of example, of a recipe that calibrates
    fdp: FamilyBound | None = None  # of the primary recipe
