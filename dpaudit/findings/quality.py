"""What an arm is worth: accuracy on benchmarks, bits per byte of held-out text, and arms compared on the same
items.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion, Size


class Item(NamedTuple):
    """One benchmark item as one model answered it. Items of one cluster (a passage, a condition) are not
    independent draws. `prompt` is a hash of what the model was asked, template and worked examples included.
    """

    id: str
    correct: Count
    margin: float  # nats: log-probability of the right choice minus that of the best wrong one
    cluster: str
    brier: float  # squared distance of the choices' probabilities from the right answer, in [0, 2]
    logprobs: tuple[float, ...]  # nats, of every choice
    prompt: str


class HeldOut(NamedTuple):
    """The cost of one held-out record's answers: bits over their tokens, and their UTF-8 bytes."""

    id: str
    bits: Size
    bytes: Count


@dataclass(frozen=True)
class TaskFigures:
    """A model's accuracy on one benchmark, with its interval."""

    task: str
    accuracy: Proportion
    accuracy_lower: Proportion
    accuracy_upper: Proportion
    items: Count
    clusters: Count
    margin: float  # nats
    brier: float  # mean squared distance of the choices' probabilities from the right answer; lower is better
    chance: Proportion
    above_chance: bool  # the interval lies above chance
    uninformative: bool  # neither the base nor a non-private arm is above chance


@dataclass(frozen=True)
class Bits:
    """Bits per byte of held-out answers, all bits over all bytes: lower is better."""

    value: float
    lower: float
    upper: float
    records: Count
    clusters: Count


@dataclass(frozen=True)
class Quality:
    """The figures of one model: what the page shows of it."""

    arm: str
    tasks: tuple[TaskFigures, ...]
    bits_per_byte: Bits | None  # None where nothing was held out
    heldout_left_out: Count  # records of which no answer fits


@dataclass(frozen=True)
class Measured(Finding):
    """The figures of one model with the items and records that they come from, by id, and what was asked."""

    FORMAT: ClassVar = "quality/2"
    quality: Quality
    items: dict[str, tuple[Item, ...]]  # by task
    heldout: tuple[HeldOut, ...]
    base: dict[str, str]  # hashes of the base's files
    asked: dict[str, str]  # task -> digest of how it was asked


@dataclass(frozen=True)
class Skipped:
    """A benchmark that was not run, since its items are not there."""

    task: str
    expected: str
    got: str


@dataclass(frozen=True)
class Asking:
    """How items are asked; None for all items, and for as many worked examples as the task says."""

    lm_eval: str  # version
    limit: Count | None
    fewshot: Count | None
    chat_template: bool


@dataclass(frozen=True)
class TaskAsked:
    """A benchmark and how it is asked."""

    config: dict[str, Any] | None  # None for a task that lm-eval brings
    data: str | None  # digest of the items
    how: Asking


@dataclass(frozen=True)
class TasksAsked(Finding):
    """The benchmarks of a run, and those that were skipped."""

    FORMAT: ClassVar = "tasks/2"
    tasks: dict[str, TaskAsked]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Comparison:
    """An arm against a reference on the same items. The last five are of accuracy alone."""

    arm: str
    against: str
    task: str | None  # None for held-out text
    measure: Literal["accuracy", "margin", "bits_per_byte"]
    difference: float  # arm less reference
    lower: float
    upper: float
    p_value: Proportion
    items: Count
    clusters: Count
    uninformative: bool | None
    non_inferior: bool | None = None  # the one-sided lower limit lies above minus the margin
    shown_worse: bool | None = None  # the one-sided upper limit lies below minus the margin
    one_sided_lower: float | None = None
    one_sided_upper: float | None = None
    p_holm: Proportion | None = None  # over the arms that share the reference


@dataclass(frozen=True)
class Trend:
    """Page's test of whether a measure gets worse along a ladder of arms."""

    task: str | None  # None for held-out text
    measure: Literal["accuracy", "margin", "bits_per_byte"]
    arms: tuple[str, ...]
    means: tuple[float, ...]
    direction: Literal["rising", "falling"]
    ordered: bool
    p_value: Proportion
    clusters: Count


@dataclass(frozen=True)
class Comparisons(Finding):
    """All arms of a run compared in pairs and along ladders."""

    FORMAT: ClassVar = "comparisons/1"
    margin: float  # of non-inferiority, as a share
    confidence: Proportion
    pairs: tuple[Comparison, ...]
    trend: tuple[Trend, ...]
