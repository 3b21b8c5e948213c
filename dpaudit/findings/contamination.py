"""Benchmark items that stand in the training text, and every model's accuracy without them."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion


@dataclass(frozen=True)
class WithoutThem:
    """A model's accuracy on the items that do not stand in the training text."""

    arm: str
    items: Count  # that remain, those too short to be looked for among them
    accuracy: Proportion  # on all items
    without: Proportion
    lower: Proportion
    upper: Proportion


@dataclass(frozen=True)
class TaskContamination:
    """The items of one benchmark that stand in the training text, by id; `models` is empty where hardly any
    item is left without them. Whether an item that is too short to be looked for stands there is not known.
    """

    task: str
    items: Count
    looked_for: Count  # items that are long enough
    too_short: Count
    found: Count
    ids: tuple[str, ...]
    models: tuple[WithoutThem, ...]

    @property
    def share(self) -> float:
        """Of the items that were looked for, the share that stands in the training text."""
        return self.found / self.looked_for if self.looked_for else 0.0


@dataclass(frozen=True)
class Contamination(Finding):
    """Every benchmark of a run beside its training text. An item counts where `share` or more of the runs of
    `width` words of its question, or of question and choices, stand there.
    """

    FORMAT: ClassVar = "contamination/2"
    width: Count
    share: Proportion
    tasks: tuple[TaskContamination, ...]
