"""The quality of a model that was trained elsewhere."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.findings.quality import (
    Asking,
    Comparison,
    Item,
    MeasureChange,
    MeasureFigures,
    Score,
    TaskFigures,
)
from dpaudit.schema import Count, Proportion


@dataclass(frozen=True)
class OutsideModel:
    """The model as it was named, and the base it is compared with, if any; `files` is a digest of all files
    that decide what they say.
    """

    name: str
    base: str | None
    files: str | None


@dataclass(frozen=True)
class MeasuredOutside(Finding):
    """Figures of the model, and of its base if one was named, on every benchmark, and the differences on the
    same items.
    """

    FORMAT: ClassVar = "quality-outside/5"
    model: OutsideModel
    how: Asking
    data: dict[str, str]  # benchmark -> digest of its file
    margin: Proportion
    fewest: Count  # clusters below which nothing shows that the model is no worse
    figures: dict[str, tuple[TaskFigures, ...]]  # by model
    compared: tuple[Comparison, ...]
    items: dict[str, dict[str, tuple[Item, ...]]]  # by model and benchmark
    measures: dict[str, tuple[MeasureFigures, ...]]  # by model
    changes: tuple[MeasureChange, ...]
    scores: dict[str, dict[str, dict[str, tuple[Score, ...]]]]  # by model, benchmark and measure
