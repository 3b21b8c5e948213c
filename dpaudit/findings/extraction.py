"""What came out of an arm: secrets that were planted and kept out, and personal fields of real records."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.baselines import Blind, Near
from dpaudit.findings.finding import Finding


@dataclass(frozen=True)
class Extract(Finding):
    """What every recipe of kind `extract` says first."""

    arm: str
    recipe: str
    kind: str
    signal: str
    confidence: float  # of each interval alone, two-sided
    blind: Blind | None
    near_duplicates: Near | None


@dataclass(frozen=True)
class Counts:
    """How many secrets of each side came out, with the interval of each rate."""

    planted: int
    planted_found: int
    found_rate: float | None
    found_lower: float
    found_upper: float
    controls: int
    controls_found: int
    controls_lower: float
    controls_upper: float


# ---- ranks


@dataclass(frozen=True)
class Exposure:
    """Exposures in bits, sorted, so that nothing links them to a canary."""

    extrapolated: bool
    planted: tuple[float, ...]
    controls: tuple[float, ...]
    space_bits: float | None  # the most there can be; None where the space has no size
    median_planted: float | None
    median_control: float | None


@dataclass(frozen=True)
class Extrapolated(Exposure):
    """Exposures that rest on a curve fitted to a sample of each secret's alternatives."""

    beyond_samples_planted: int
    beyond_samples_controls: int
    capped_planted: int
    capped_controls: int
    samples: int  # of each secret, at least


@dataclass(frozen=True)
class Ranks(Counts):
    """Secrets that greedy decoding wrote, and exposures: those by rank and those by extrapolation apart."""

    rank_first_planted: int
    rank_first_controls: int
    exposure: Exposure
    exposure_extrapolated: Extrapolated | None


@dataclass(frozen=True)
class RanksOfLevel(Ranks):
    """The same for the secrets of one number of copies."""

    repetitions: int


@dataclass(frozen=True)
class Extraction(Ranks, Extract):
    """What a recipe with signal exact_rank found on an arm."""

    FORMAT: ClassVar = "extraction/1"
    by_repetitions: tuple[RanksOfLevel, ...]


# ---- sampling


@dataclass(frozen=True)
class Decoding:
    """How words are drawn."""

    temperature: float
    top_k: int  # 0: all
    top_p: float


@dataclass(frozen=True)
class Rate(Counts):
    """The secrets that come out within so many attempts."""

    queries: int


@dataclass(frozen=True)
class Attempts:
    """How many attempts each secret takes, sorted; those that never come out are left out."""

    planted: tuple[float, ...]
    controls: tuple[float, ...]


@dataclass(frozen=True)
class Sampled:
    """(n, p)-discoverable secrets for each n, and how many attempts they take."""

    p: float
    decoding: Decoding
    rates: tuple[Rate, ...]
    queries_needed: Attempts
    fewest_planted: float | None
    fewest_controls: float | None
    never_planted: int
    never_controls: int


@dataclass(frozen=True)
class SampledOfLevel(Sampled):
    """The same for the secrets of one number of copies."""

    repetitions: int


@dataclass(frozen=True)
class Discoverable(Sampled, Extract):
    """What a recipe with signal discoverable found on an arm."""

    FORMAT: ClassVar = "discoverable/1"
    by_repetitions: tuple[SampledOfLevel, ...]


# ---- personal fields


@dataclass(frozen=True)
class Tally:
    """Fields that were tried and completed. The interval takes fields for independent."""

    fields: int
    completed: int
    rate: float | None
    lower: float
    upper: float
    mean_logprob: float | None  # nats
    given: int  # said by the prompt itself
    untrained: int
    cut: int


@dataclass(frozen=True)
class UnitTally(Tally):
    """The same with the units that the fields are of."""

    units: int
    units_tried: int
    units_out: int
    units_lower: float
    units_upper: float


@dataclass(frozen=True)
class TallyOfKind:
    """The fields of one kind, of units trained on and of units left out."""

    field: str
    members: Tally
    non_members: Tally


@dataclass(frozen=True)
class PersonalFields(Extract):
    """What a recipe with signal pii_fields found on an arm."""

    FORMAT: ClassVar = "personal-fields/1"
    unit: str
    trained_on: str
    members: UnitTally
    non_members: UnitTally
    by_kind: tuple[TallyOfKind, ...]
