"""Privacy against quality: every adapter on one epsilon axis, and the figures behind the chart."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.quality import Comparison
from dpaudit.page import losses, panels
from dpaudit.page.charts import looks_of
from dpaudit.page.figures import Estimate
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, placed, say
from dpaudit.page.panels import Point
from dpaudit.page.phrases import ABSENT, is_alarmed


@dataclass(frozen=True)
class TradeoffRow:
    """One adapter; the cells from left to right: claimed epsilon, release, attack, then for each benchmark
    the change, the detectable loss and the word.
    """

    arm: str
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class TradeoffSection:
    charts: tuple[Markup, ...]  # one for each benchmark; of attacks alone where nothing was measured
    tasks: tuple[str, ...]
    rows: tuple[TradeoffRow, ...]
    absent: tuple[Markup, ...]


def tradeoff(joins: Joins) -> TradeoffSection:
    pairs = _pairs(joins)
    tasks = list(dict.fromkeys(task for _, task in pairs))
    charts = [_chart(joins, pairs, task, index) for index, task in enumerate(tasks)]
    if not tasks and joins.verdicts:
        charts = [_chart(joins, pairs, None, 0)]
    return TradeoffSection(
        charts=tuple(charts),
        tasks=tuple(tasks),
        rows=tuple(_row(joins, pairs, tasks, at) for at in range(len(joins.report.arms))),
        absent=tuple(_absent(joins, tasks)),
    )


def _absent(joins: Joins, tasks: list[str]) -> Iterator[Markup]:
    if not joins.verdicts:
        yield Markup("No attack was judged, so that nothing measured stands on the side of privacy.")
    if not tasks:
        yield Markup(
            "No benchmark compares private adapters with one without noise, so that what privacy cost is not "
            "known here."
        )


def _pairs(joins: Joins) -> dict[tuple[str, str], Placed[Comparison]]:
    """(arm, benchmark) -> its accuracy against the adapter without noise of its own method, else another."""
    open_arms = {arm.arm: arm for arm in joins.open}
    methods = {arm.arm: arm.method for arm in joins.report.arms}
    compared = joins.report.comparisons
    found: dict[tuple[str, str], Placed[Comparison]] = {}
    for row in placed("/comparisons/pairs", compared.pairs if compared else ()):
        pair = row.part
        if pair.measure != "accuracy" or pair.task is None or pair.against not in open_arms:
            continue
        key, alike = (pair.arm, pair.task), open_arms[pair.against].method == methods.get(pair.arm)
        if pair.arm in methods and (alike or key not in found):
            found[key] = row
    return found


def _chart(
    joins: Joins, pairs: dict[tuple[str, str], Placed[Comparison]], task: str | None, index: int
) -> Markup:
    looks, attacks = looks_of(joins.report.arms), {row.part.arm: row.part for row in joins.verdicts}
    points = []
    for arm in joins.report.arms:
        found, pair = attacks.get(arm.arm), pairs.get((arm.arm, task)) if task else None
        area = None
        if found and not is_alarmed(found.blind):
            area = Estimate(found.canaries.auc, found.canaries.auc_lower, found.canaries.auc_upper)
        change = Estimate(pair.part.difference, pair.part.lower, pair.part.upper) if pair else None
        detectable = pair.part.margin.detectable if pair and pair.part.margin else None
        points.append(Point(arm.arm, looks[arm.arm], arm.epsilon, area, change, detectable))
    references = dict.fromkeys(row.part.against for (_, of), row in pairs.items() if of == task)
    margin = joins.report.comparisons.margin if joins.report.comparisons else 0.0
    title = f"Privacy against quality: {task}" if task else "Attacks by claimed epsilon"
    drawn = panels.tradeoff(
        points, f"tradeoff{index}", title=title, reference=" or ".join(references), margin=margin
    )
    return Markup(drawn)


def _row(
    joins: Joins, pairs: dict[tuple[str, str], Placed[Comparison]], tasks: list[str], at: int
) -> TradeoffRow:
    arm, num = joins.report.arms[at], joins.num
    audit = next((row for row in joins.verdicts if row.part.arm == arm.arm), None)
    word = next((row.word for row in joins.report.release if row.arm == arm.arm), None)
    cells = [
        num(f"/arms/{at}/epsilon", "epsilon") if arm.private else Markup("none"),
        say("{word}", word=word) if word else ABSENT,
        num.area(f"{audit.at}/canaries") if audit and not is_alarmed(audit.part.blind) else ABSENT,
    ]
    for task in tasks:
        pair = pairs.get((arm.arm, task))
        cells += _of_task(joins, pair) if pair else [ABSENT] * 3
    return TradeoffRow(arm.arm, tuple(cells))


def _of_task(joins: Joins, pair: Placed[Comparison]) -> list[Markup]:
    num = joins.num
    change = say(
        "{difference} {limits}",
        difference=num(f"{pair.at}/difference", "signed_points"),
        limits=num.interval(pair.at, "lower", "upper", "signed_points"),
    )
    _, detectable, word, _ = losses.columns(num, pair)
    return [change, detectable, word]
