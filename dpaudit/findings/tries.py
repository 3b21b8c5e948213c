"""How often a benchmark was measured, and with which settings: one try among several is no evidence alone."""

from dataclasses import dataclass, field
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.findings.quality import Asking, MeasureFigures, TaskFigures
from dpaudit.schema import Count


@dataclass(frozen=True)
class Try:
    """One benchmark as it was measured with one setting. A try goes on while models are added to it."""

    task: str
    date: str  # of its last answers; UTC, to the second
    digest: str  # of the benchmark, its items and how they were asked
    data: str | None  # digest of the items; None for those of lm-eval
    how: Asking
    figures: dict[str, TaskFigures]  # by model; empty for a benchmark without right and wrong
    measures: dict[str, tuple[MeasureFigures, ...]] = field(default_factory=dict)  # by model


@dataclass(frozen=True)
class Tries(Finding):
    """Every try of a run, oldest first; none is ever taken away."""

    FORMAT: ClassVar = "tries/2"
    tries: tuple[Try, ...]


@dataclass(frozen=True)
class Tried:
    """How often one benchmark was measured, with the tries before the last."""

    task: str
    times: Count
    earlier: tuple[Try, ...]
