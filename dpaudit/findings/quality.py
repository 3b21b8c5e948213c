"""What an arm is worth: accuracy and other measures on benchmarks, bits per byte of held-out text, and arms
compared on the same items.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion, Size

BASE = "base"  # how the base model is named among the arms


class Item(NamedTuple):
    """One benchmark item that a model got right or wrong. Items of one cluster (a passage, a condition) are
    not independent draws. `prompt` is a hash of what the model was asked, template and worked examples
    included. An item without choices has neither log-odds nor Brier score.
    """

    id: str
    correct: Count
    log_odds: float | None  # nats: log-probability of the right choice less that of the best wrong one
    cluster: str
    brier: float | None  # squared distance of the choices' probabilities from the right answer, in [0, 2]
    logprobs: tuple[float, ...]  # nats, of every choice
    prompt: str
    groups: tuple[str, ...] = ()  # what kind of item it is: "language: Chinese"
    length: Count = 0  # of the prompt, in characters
    cut: Count = 0  # 1 where the model's window did not hold all of the prompt


class HeldOut(NamedTuple):
    """The cost of one held-out record's answers: bits over their tokens, and their UTF-8 bytes."""

    id: str
    bits: Size
    bytes: Count
    cut: Count = 0  # tokens of the answers that did not fit


@dataclass(frozen=True)
class TaskFigures:
    """A model's accuracy on one benchmark, with its interval."""

    task: str
    accuracy: Proportion
    accuracy_lower: Proportion
    accuracy_upper: Proportion
    items: Count
    clusters: Count
    log_odds: (
        float | None
    )  # nats, of the right choice against the best wrong one; the mean. None without choices
    brier: (
        float | None
    )  # mean squared distance of the choices' probabilities from the right answer; less is better
    chance: Proportion
    above_chance: bool  # the interval lies above chance
    left_out: Count = 0  # items of the benchmark that were not asked
    cut: Count = 0  # items whose prompt was cut

    def row(self, arm: str) -> dict[str, Any]:
        """The line of a terminal."""
        return {
            "arm": arm,
            "measure": self.task,
            "items": self.items,
            "clusters": self.clusters,
            "left_out": self.left_out,
            "value": self.accuracy,
            "lower": self.accuracy_lower,
            "upper": self.accuracy_upper,
            "chance": self.chance,
            "above_chance": self.above_chance,
        }


class Score(NamedTuple):
    """One item by one measure: all values over all weights are the measure's figure."""

    id: str
    cluster: str
    prompt: str  # as Item.prompt
    value: float
    weight: Size = 1.0
    cut: Count = 0  # as Item.cut


Alone = Literal[
    "no score of its own an item",
    "a score that is no finite number",
    "it is not known whether more is better",
    "no reference has it",
    "every reference has it",
]


@dataclass(frozen=True)
class MeasureFigures:
    """One measure of a model on one benchmark, beside right and wrong. A perplexity stands as its
    logarithm.
    """

    task: str
    measure: str
    value: float | None  # None where no item has it
    lower: float | None  # None where items have no scores of their own
    upper: float | None
    items: Count
    clusters: Count
    higher_is_better: bool | None  # None where nobody says
    left_out: Count  # items of the benchmark that were not asked, or have nothing to measure
    cut: Count  # of them, those whose prompt was cut
    alone: Alone | None = None  # why models are not compared by it
    is_share: bool = False  # of every item it lies in [0, 1]

    def row(self, arm: str) -> dict[str, Any]:
        """The line of a terminal."""
        limits = {"value": self.value, "lower": self.lower, "upper": self.upper}
        counts = {"items": self.items, "clusters": self.clusters, "left_out": self.left_out}
        return {
            "arm": arm,
            "measure": f"{self.task}: {self.measure}",
            **counts,
            **limits,
            "not_compared": self.alone,
        }


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
    heldout_cut: Count = 0  # records of which a part of the answers does not fit
    measures: tuple[MeasureFigures, ...] = ()


@dataclass(frozen=True)
class Measured(Finding):
    """The figures of one model with the items and records that they come from, by id, and what was asked."""

    FORMAT: ClassVar = "quality/6"
    quality: Quality
    items: dict[str, tuple[Item, ...]]  # by task; empty for one without right and wrong
    scores: dict[str, dict[str, tuple[Score, ...]]]  # by task and measure; empty for what is not compared
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
    drawn: bool = False  # a limit left whole clusters, drawn by a fixed seed; else the first items


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


Word = Literal["no worse than the margin", "worse", "cannot tell"]
Reason = Literal[
    "prompts cut",
    "reference at chance",
    "margin reaches chance",
    "too few clusters",
    "at the ceiling",
    "neither is shown",
    "too few for an interval",
    "no control",
    "control not told",
    "items in the training text",
]


@dataclass(frozen=True)
class Group:
    """The items of one kind on which the arm lost most, with an interval that allows for the choice."""

    name: str
    kinds: Count  # of which it is the worst
    items: Count
    clusters: Count
    difference: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Margin:
    """How an arm's accuracy stands to a loss of the margin, and the word for it."""

    word: Word
    reason: Reason | None  # why one cannot tell
    p_holm: Proportion  # of "no difference", over all accuracies that are compared
    p_no_worse: Proportion  # of "the loss is at least the margin"
    p_no_worse_holm: Proportion | None  # None for a pair with too few clusters, which is not in the family
    p_worse: Proportion  # of "the loss is at most the margin"
    p_worse_holm: Proportion
    detectable: Proportion | None  # the smallest loss told with chance .8; None where there is none
    gains: Count  # items that the arm alone got right
    losses: Count
    wrong: Count  # clusters in which either got an item wrong
    is_wide: bool  # the margin is more than half of what the reference knows above chance
    worst: Group | None  # None where the items are all of one kind


@dataclass(frozen=True)
class Comparison:
    """An arm against a reference on the same items."""

    arm: str
    against: str
    task: str | None  # None for held-out text
    measure: Literal["accuracy", "log_odds", "bits_per_byte"]
    difference: float  # arm less reference
    lower: float
    upper: float
    p_value: Proportion
    items: Count
    clusters: Count
    margin: Margin | None = None  # of accuracy alone

    @property
    def is_loss_shown(self) -> bool:
        """Whether a loss of accuracy is itself shown, whatever the margin: the interval lies below 0."""
        return self.measure == "accuracy" and self.upper < 0


@dataclass(frozen=True)
class MeasureChange:
    """A measure of an arm against that of a reference on the same items."""

    arm: str
    against: str
    task: str
    measure: str
    higher_is_better: bool
    difference: float  # arm less reference
    lower: float
    upper: float
    p_value: Proportion
    p_holm: Proportion  # over all measures that are compared
    word: Literal["better", "worse", "cannot tell"]
    reason: Reason | None  # why one cannot tell
    items: Count
    clusters: Count


@dataclass(frozen=True)
class Degraded:
    """A non-private arm with its adapter scaled down, against the same arm as it is: can a task see that?"""

    task: str
    arm: str
    factor: Proportion  # of the adapter; 0 is the base
    accuracy: Proportion
    difference: float  # degraded less whole
    lower: float
    upper: float
    p_holm: Proportion  # of "no difference", over the factors
    told: bool  # the test tells that the degraded arm is worse
    items: Count
    clusters: Count


@dataclass(frozen=True)
class Rung:
    """An arm against its neighbour on a ladder, in one measure."""

    arm: str
    against: str
    difference: float
    lower: float
    upper: float
    p_holm: Proportion  # of "no difference", over the rungs of the ladder


@dataclass(frozen=True)
class Trend:
    """Page's test of whether a measure gets worse along a ladder of arms."""

    task: str | None  # None for held-out text
    measure: Literal["accuracy", "log_odds", "bits_per_byte"]
    arms: tuple[str, ...]
    means: tuple[float, ...]
    direction: Literal["rising", "falling"]
    ordered: bool
    p_value: Proportion
    clusters: Count
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Comparisons(Finding):
    """All arms of a run compared in pairs and along ladders."""

    FORMAT: ClassVar = "comparisons/5"
    margin: Proportion  # of non-inferiority
    is_wide: bool  # the margin is more than ten points, whatever the references know
    is_default: bool  # the suite names no margin
    fewest: Count  # clusters below which nothing shows that an arm is no worse
    family: Count  # comparisons of accuracy, over which Holm runs
    confidence: Proportion
    pairs: tuple[Comparison, ...]
    trend: tuple[Trend, ...]
    controls: tuple[Degraded, ...]
    measures: tuple[MeasureChange, ...] = ()
