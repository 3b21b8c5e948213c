"""What came out of an arm: secrets that were planted and kept out, and personal fields of real records."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.baselines import Blind, Near
from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion, Size


@dataclass(frozen=True)
class Extract(Finding):
    """What every recipe of kind `extract` says first."""

    arm: str
    recipe: str
    kind: str
    signal: str
    confidence: Proportion  # of each interval alone, two-sided
    blind: Blind | None
    near_duplicates: Near | None


@dataclass(frozen=True)
class Counts:
    """How many secrets of each side came out, with the interval of each rate."""

    planted: Count
    planted_found: Count
    found_rate: Proportion | None
    found_lower: Proportion
    found_upper: Proportion
    controls: Count
    controls_found: Count
    controls_lower: Proportion
    controls_upper: Proportion


# ---- ranks


@dataclass(frozen=True)
class Exposure:
    """Exposures in bits, sorted, so that nothing links them to a canary."""

    extrapolated: bool
    planted: tuple[float, ...]
    controls: tuple[float, ...]
    space_bits: Size | None  # the most there can be; None where the space has no size
    median_planted: float | None
    median_control: float | None


@dataclass(frozen=True)
class Extrapolated(Exposure):
    """Exposures that rest on a curve fitted to a sample of each secret's alternatives."""

    beyond_samples_planted: Count
    beyond_samples_controls: Count
    capped_planted: Count
    capped_controls: Count
    samples: Count  # of each secret, at least


@dataclass(frozen=True)
class Ranks(Counts):
    """Secrets that greedy decoding wrote, and exposures: those by rank and those by extrapolation apart."""

    rank_first_planted: Count
    rank_first_controls: Count
    exposure: Exposure
    exposure_extrapolated: Extrapolated | None


@dataclass(frozen=True)
class RanksOfLevel(Ranks):
    """The same for the secrets of one number of copies."""

    repetitions: Count


@dataclass(frozen=True)
class Extraction(Ranks, Extract):
    """What a recipe with signal exact_rank found on an arm."""

    FORMAT: ClassVar = "extraction/1"
    by_repetitions: tuple[RanksOfLevel, ...]


# ---- sampling


@dataclass(frozen=True)
class Decoding:
    """How words are drawn."""

    temperature: Size
    top_k: Count  # 0: all
    top_p: Proportion


@dataclass(frozen=True)
class Rate(Counts):
    """The secrets that come out within so many attempts."""

    queries: Count


@dataclass(frozen=True)
class Attempts:
    """How many attempts each secret takes, sorted; those that never come out are left out."""

    planted: tuple[float, ...]
    controls: tuple[float, ...]


@dataclass(frozen=True)
class Sampled:
    """(n, p)-discoverable secrets for each n, and how many attempts they take."""

    p: Proportion
    decoding: Decoding
    rates: tuple[Rate, ...]
    queries_needed: Attempts
    fewest_planted: float | None
    fewest_controls: float | None
    never_planted: Count
    never_controls: Count


@dataclass(frozen=True)
class SampledOfLevel(Sampled):
    """The same for the secrets of one number of copies."""

    repetitions: Count


@dataclass(frozen=True)
class Discoverable(Sampled, Extract):
    """What a recipe with signal discoverable found on an arm."""

    FORMAT: ClassVar = "discoverable/1"
    by_repetitions: tuple[SampledOfLevel, ...]


# ---- personal fields


@dataclass(frozen=True)
class Tally:
    """Fields that were tried and completed. The interval takes fields for independent."""

    fields: Count
    completed: Count
    rate: Proportion | None
    lower: Proportion
    upper: Proportion
    mean_logprob: float | None  # nats
    given: Count  # said by the prompt itself
    untrained: Count
    cut: Count


@dataclass(frozen=True)
class UnitTally(Tally):
    """The same with the units that the fields are of."""

    units: Count
    units_tried: Count
    units_out: Count
    units_lower: Proportion
    units_upper: Proportion


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
