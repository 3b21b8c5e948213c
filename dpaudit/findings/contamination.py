"""Benchmark items that stand in the training text, and every model's accuracy without them."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion


@dataclass(frozen=True)
class WithoutThem:
    """A model's accuracy on the items that do not stand in the training text."""

    arm: str
    accuracy: Proportion  # on all items
    without: Proportion
    lower: Proportion
    upper: Proportion


@dataclass(frozen=True)
class TaskContamination:
    """The items of one benchmark that stand in the training text, by id; `models` is empty where hardly any
    item is left without them.
    """

    task: str
    items: Count
    found: Count
    ids: tuple[str, ...]
    models: tuple[WithoutThem, ...]


@dataclass(frozen=True)
class Contamination(Finding):
    """Every benchmark of a run beside its training text. An item counts where `share` or more of the runs of
    `width` words of its question, or of question and choices, stand there.
    """

    FORMAT: ClassVar = "contamination/1"
    width: Count
    share: Proportion
    tasks: tuple[TaskContamination, ...]
