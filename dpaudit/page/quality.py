"""What privacy cost: every model's figures, and arms compared with their references on the same items."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from dpaudit.findings.quality import Comparison, Quality, TaskFigures
from dpaudit.findings.report import Adapter
from dpaudit.page import losses, tries
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, placed, say
from dpaudit.page.phrases import ABSENT, absence

BASE = "base"


@dataclass(frozen=True)
class ModelRow:
    """One model: its name and one cell a column."""

    arm: str
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class Against:
    """All arms that are compared with one reference."""

    reference: str
    title: Markup
    rows: tuple[ModelRow, ...]


@dataclass(frozen=True)
class QualitySection:
    """The section as the template places it."""

    absent: Markup | None
    is_filled: bool
    warnings: tuple[Markup, ...]
    tasks: tuple[str, ...]
    models: tuple[ModelRow, ...]
    skipped: tuple[Markup, ...]
    preference: tuple[Markup, ...]  # what a DPO arm started from and lacks
    against: tuple[Against, ...]
    notes: tuple[Markup, ...]  # below the comparisons
    earlier: tuple[Markup, ...]  # benchmarks that were measured more than once
    trends: tuple[Markup, ...]
    controls: tuple[Markup, ...]  # what each benchmark says of an arm that was degraded on purpose


def quality(joins: Joins) -> QualitySection:
    tables = _Tables(joins)
    return QualitySection(
        absent=absence(joins.report.stages.quality, "the price of privacy"),
        is_filled=bool(joins.report.quality),
        warnings=tuple(losses.warnings(joins)),
        tasks=tuple(tables.tasks),
        models=tuple(tables.models()),
        skipped=tuple(
            say(
                "<strong>{task}</strong> was skipped: expected {expected}, got {got}.",
                task=skipped.task,
                expected=skipped.expected,
                got=skipped.got,
            )
            for skipped in joins.report.skipped
        ),
        preference=tuple(_preference(joins, arm) for arm in joins.report.arms if arm.method == "dpo"),
        against=tuple(tables.against()),
        notes=tuple(_notes(joins)),
        earlier=tuple(tries.earlier(joins)),
        trends=tuple(losses.trends(joins)),
        controls=tuple(losses.controls(joins)),
    )


@dataclass(frozen=True)
class _Tables:
    """The tables of the section, with the columns that they share."""

    joins: Joins

    @cached_property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task.task for model in self.joins.report.quality for task in model.tasks))

    @cached_property
    def pairs(self) -> dict[tuple[str, str, str | None, str], Placed[Comparison]]:
        """Arm, reference, task and measure -> their comparison."""
        rows = pairs_of(self.joins)
        return {(row.part.arm, row.part.against, row.part.task, row.part.measure): row for row in rows}

    def models(self) -> Iterator[ModelRow]:
        num = self.joins.num
        for at, model in placed("/quality", self.joins.report.quality):
            bits = Markup("none held out")
            if model.bits_per_byte:
                value = num(f"{at}/bits_per_byte/value", "three")
                limits = num.interval(f"{at}/bits_per_byte", "lower", "upper", "three")
                bits = say("{value} {limits}, {of}", value=value, limits=limits, of=self._records(at, model))
            cells = {
                row.part.task: self._accuracy(row.at, row.part) for row in placed(f"{at}/tasks", model.tasks)
            }
            accuracies = (cells.get(task, [ABSENT] * 4) for task in self.tasks)
            yield ModelRow(model.arm, (bits, *(cell for four in accuracies for cell in four)))

    def _accuracy(self, at: str, task: TaskFigures) -> list[Markup]:
        num = self.joins.num
        accuracy = say(
            "{accuracy} {limits}",
            accuracy=num(f"{at}/accuracy", "percent_one"),
            limits=num.interval(at, "accuracy_lower", "accuracy_upper", "percent"),
        )
        return [accuracy, num(f"{at}/log_odds", "two"), self._items(at, task), num(f"{at}/clusters", "count")]

    def _items(self, at: str, task: TaskFigures) -> Markup:
        """How many items were asked, and of how many a part was not."""
        num, parts = self.joins.num, [self.joins.num(f"{at}/items", "count")]
        if task.left_out:
            parts.append(say("{count} left out", count=num(f"{at}/left_out", "count")))
        if task.cut:
            parts.append(say("{count} with a cut prompt", count=num(f"{at}/cut", "count")))
        return Markup(", ").join(parts)

    def _records(self, at: str, model: Quality) -> Markup:
        num = self.joins.num
        parts = [say("{count} records", count=num(f"{at}/bits_per_byte/records", "count"))]
        if model.heldout_left_out:
            parts.append(
                say("<strong>{count} left out</strong>", count=num(f"{at}/heldout_left_out", "count"))
            )
        if model.heldout_cut:
            parts.append(say("{count} cut", count=num(f"{at}/heldout_cut", "count")))
        return Markup(", ").join(parts)

    def against(self) -> Iterator[Against]:
        for reference in dict.fromkeys(row.part.against for row in self.pairs.values()):
            arms = [arm for arm in self.joins.arm_names if self._is_compared(arm, reference)]
            rows = tuple(ModelRow(arm, tuple(self._compared(arm, reference))) for arm in arms)
            title = say(
                "Against {what} {reference}, on the same items",
                what=_what(reference),
                reference=code(reference),
            )
            yield Against(reference, title, rows)

    def _is_compared(self, arm: str, reference: str) -> bool:
        by_task = [(arm, reference, task, "accuracy") for task in self.tasks[:1]]
        return any(key in self.pairs for key in ((arm, reference, None, "bits_per_byte"), *by_task))

    def _compared(self, arm: str, reference: str) -> Iterator[Markup]:
        yield self._difference((arm, reference, None, "bits_per_byte"), "three")
        for task in self.tasks:
            key = (arm, reference, task, "accuracy")
            yield self._difference(key, "points")
            pair = self.pairs.get(key)
            if pair is None:
                yield from (ABSENT,) * (losses.COLUMNS - 1)
            else:
                yield from losses.columns(self.joins.num, pair)

    def _difference(self, key: tuple[str, str, str | None, str], style: str) -> Markup:
        if key not in self.pairs:
            return ABSENT
        at = self.pairs[key].at
        difference = self.joins.num(f"{at}/difference", f"signed_{style}")
        limits = self.joins.num.interval(at, "lower", "upper", f"signed_{style}")
        return say("{difference} {limits}", difference=difference, limits=limits)


def pairs_of(joins: Joins) -> list[Placed[Comparison]]:
    comparisons = joins.report.comparisons
    return placed("/comparisons/pairs", comparisons.pairs) if comparisons else []


def _what(reference: str) -> str:
    if reference == BASE:
        return "the base model"
    return "the adapter that saw no canary" if reference.endswith("-twin") else "the non-private adapter"


def _preference(joins: Joins, arm: Adapter) -> Markup:
    """What a DPO arm started from, what is unknown of it, and where it lost against the base model."""
    start = code(arm.starts_from) if arm.starts_from in joins.arm_names else arm.starts_from
    alone = ""
    if arm.private and not any(other.loss == arm.loss for other in joins.open):
        alone = (
            ". No adapter with this loss was trained without noise, so the cost of privacy cannot be "
            "separated from the effect of the pairs"
        )
    is_measured = joins.report.quality and not joins.report.stages.quality.stale
    if is_measured and joins.report.preferences is None:
        alone += (
            ". No pairs were held out, so whether it prefers chosen answers more often than its start does "
            "is not known"
        )
    lost = [*_less_likely(joins, arm.arm), *_loses(joins, arm.arm)]
    return say(
        "{arm} started from {start} and was trained on preference pairs only{alone}. {lost}",
        arm=code(arm.arm),
        start=start,
        alone=alone,
        lost=Markup(" ").join(lost),
    )


def _less_likely(joins: Joins, arm: str) -> Iterator[Markup]:
    for at, pair in pairs_of(joins):
        if (pair.arm, pair.against, pair.measure) == (arm, BASE, "bits_per_byte") and pair.lower > 0:
            yield say(
                "<strong>It finds held-out text less likely than the base model does</strong>, by {gap} "
                "bits per byte, as preference training may.",
                gap=joins.num(f"{at}/difference", "three"),
            )


def _loses(joins: Joins, arm: str) -> Iterator[Markup]:
    judge = joins.report.judge
    for at, pair in placed("/judge/pairs", judge.pairs if judge else ()):
        if (pair.arm, pair.against) == (arm, BASE) and pair.upper is not None and pair.upper < 0.5:
            yield say(
                "<strong>Its answers lose to those of the base model:</strong> it wins {rate}.",
                rate=joins.num(f"{at}/win_rate", "percent_one"),
            )


def _notes(joins: Joins) -> Iterator[Markup]:
    yield from tries.how(joins)
    if pairs_of(joins):
        yield from losses.notes(joins)
