"""All that the page shows. report/report.json holds it and nothing else: what is no field is not copied."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpaudit.findings.contamination import Contamination
from dpaudit.findings.declared import ClaimOfRun, Mark
from dpaudit.findings.extraction import Discoverable, Extraction, PersonalFields
from dpaudit.findings.finding import Finding
from dpaudit.findings.human import HumanAgreement
from dpaudit.findings.identity import Identity
from dpaudit.findings.inside import Inside
from dpaudit.findings.judge_tries import JudgeTry
from dpaudit.findings.judgement import Judgement
from dpaudit.findings.membership import Membership
from dpaudit.findings.preferences import PreferenceResults
from dpaudit.findings.quality import Asking, Comparisons, Quality, Skipped
from dpaudit.findings.recipes import ArmRecipes
from dpaudit.findings.release import Released, Rule
from dpaudit.findings.together import Together
from dpaudit.findings.tries import Tried
from dpaudit.privacy.claim import Claim
from dpaudit.schema import Count, Proportion

State = Literal["done", "partial", "out of date", "not run", "not planned", "not applicable"]


@dataclass(frozen=True)
class Share:
    """What canaries are expected to make up of what one method learns from."""

    units: float
    bytes: float


@dataclass(frozen=True)
class Run:
    """What was run, and how far it can be repeated."""

    name: str
    title: str
    suite: str
    description: str
    model: str
    data: str
    max_length: int
    unit: str
    relation: str
    delta: float
    primary: str
    margin: float
    seed: int
    insecure_seed: int | None
    corpus_words: bool  # canaries' secrets are words of the records
    canary_share: dict[str, Share]  # by method
    random_weights: bool  # of the base: only memory and time mean anything
    assumed_public: bool  # the adapter that it began with has no ledger
    reproducible_noise: bool
    versions: dict[str, str]
    custody: str
    commitment: str | None
    repeats: tuple[str, ...]  # the runs that this one repeats with fresh coins, oldest first
    repeats_gone: tuple[str, ...]  # those of them that lie no more beside this one: nothing can be concluded
    repeated_by: tuple[str, ...]
    same_data: tuple[str, ...]  # other runs with private arms on the same data


@dataclass(frozen=True)
class Acted:
    """What acted, by the ledger: noise on clipped sums, or, with a name, labels that are turned around."""

    noise_multiplier: float | None = None
    sampling_rate: float | None = None
    steps: int | None = None
    clip: float | None = None
    name: str | None = None
    flip_probability: float | None = None


@dataclass(frozen=True)
class Spent:
    """What an arm's ledger says."""

    claim: Claim
    mechanism: Acted
    population: int
    population_assumed: bool
    epsilon_pld: float
    reproducible_noise: bool
    epsilon_rdp: float | None = None
    expected_batch: int | None = None
    sampler: str | None = None
    steps_done: int | None = None
    trainable_parameters: int | None = None


@dataclass(frozen=True)
class TrainingFigures:
    """What the training of an arm took, and what was checked in it."""

    seconds: float
    device: str | None = None
    devices: int | None = None  # that trained it together
    peak_memory_mb: float | None = None  # of one device
    longest: int | None = None  # tokens of the longest sequence
    tokens: int | None = None
    tokens_per_second: float | None = None
    trainable_parameters: int | None = None
    sequences_truncated: int | None = None
    guards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stepped:
    """How the suite says that an arm steps."""

    batch: Count  # units expected in a step
    steps: Count
    learning_rate: float
    warmup: float
    decay: str
    weight_decay: float
    optimizer: str
    momentum: float


@dataclass(frozen=True)
class Steps:
    """The training curves, column by column: private figures, which the page sets apart."""

    step: tuple[int | None, ...] = ()
    loss: tuple[float | None, ...] = ()
    clipped_share: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """One adapter: what it is, what it spent, how it was trained."""

    arm: str
    method: str
    loss: str
    epsilon: float  # inf: not private
    seed: int
    starts_from: str  # an arm, or words
    private: bool
    privacy: Spent
    training: TrainingFigures
    schedule: Stepped | None  # None where the suite has none for this kind of arm
    steps: Steps
    adapter_sha256: str
    trainings: int  # on the same records


@dataclass(frozen=True)
class Asked:
    """Whether the settings of a stage were declared before training, and when those in force were written."""

    mark: Mark
    date: str


@dataclass(frozen=True)
class Gone:
    """A result that the run had and has not, and the command that makes it again."""

    file: str
    command: str


def by_command(gone: Iterable[Gone]) -> dict[str, list[str]]:
    """The files that each command makes again."""
    files: dict[str, list[str]] = {}
    for result in gone:
        files.setdefault(result.command, []).append(result.file)
    return files


@dataclass(frozen=True)
class Lost:
    """A record of the run, or a note of what it had, that was lost and written again."""

    record: str
    entries: int | None
    date: str


@dataclass(frozen=True)
class Stage:
    """How far a stage is: for which arms it is not done, what is out of date, and what to type."""

    state: State
    command: str
    absent: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True)
class Stages:
    """The stages that fill the page's sections."""

    train: Stage
    audit: Stage
    extraction: Stage
    quality: Stage
    judge: Stage


@dataclass(frozen=True)
class Report(Finding):
    """All that the page shows, each finding as its stage left it."""

    FORMAT: ClassVar = "report/13"
    run: Run
    identity: Identity
    rule: Rule  # of release
    release: tuple[Released, ...]
    arms: tuple[Adapter, ...]
    audits: tuple[Membership, ...]
    recipes: tuple[ArmRecipes, ...]  # the audits of each arm, corrected over its recipes
    inside: tuple[Inside, ...]
    together: Together | None
    extraction: tuple[Extraction, ...]
    discoverable: tuple[Discoverable, ...]
    pii: tuple[PersonalFields, ...]
    quality: tuple[Quality, ...]
    skipped: tuple[Skipped, ...]
    comparisons: Comparisons | None
    asked_how: dict[str, Asking]  # by benchmark
    tried: tuple[Tried, ...]  # how often each benchmark was measured
    margins_before: tuple[Proportion, ...]  # that were asked for before the one in force
    contamination: Contamination | None  # None before `eval`, and without a benchmark
    preferences: PreferenceResults | None  # None without a DPO arm or held-out pairs
    judge: Judgement | None  # without win rates where the judge is not fit
    people: HumanAgreement | None  # the judge beside people; None where nobody's verdicts were given
    judges_tried: tuple[JudgeTry, ...]  # every passport, oldest first
    asked: dict[str, Asked]  # by record, and since when the margin in force stands
    claims: tuple[ClaimOfRun, ...]
    gone: tuple[Gone, ...]
    records_lost: tuple[Lost, ...]
    stages: Stages
