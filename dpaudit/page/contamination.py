"""Which benchmark items stand in the training text, and what is left without them."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.page.joins import Joins
from dpaudit.page.numbers import as_is, placed, say

NAMED_MOST = 20  # items that a sentence names


@dataclass(frozen=True)
class CleanRow:
    """One model on one benchmark, with all items and without those."""

    task: str
    arm: str
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class ContaminationSection:
    """What the template places below the tables of quality; empty where nothing was compared."""

    tasks: tuple[Markup, ...]
    rows: tuple[CleanRow, ...]


def contamination(joins: Joins) -> ContaminationSection:
    return ContaminationSection(tuple(_tasks(joins)), tuple(_rows(joins)))


def _tasks(joins: Joins) -> Iterator[Markup]:
    num, found = joins.num, joins.report.contamination
    for at, task in placed("/contamination/tasks", found.tasks if found else ()):
        named = ", ".join(task.ids[:NAMED_MOST]) + (" …" if len(task.ids) > NAMED_MOST else "")
        means = Markup("")
        if task.found:
            means = say(
                " Their answers may have been read and not known ({named}).{alone}",
                named=as_is(named),
                alone="" if task.models else " Too few items are left without them for a figure.",
            )
        short = Markup("")
        if task.too_short:
            short = say(
                " <strong>{count} of its {items} items are too short to look for</strong>: whether they "
                "stand in the training text is not known.",
                count=num(f"{at}/too_short", "count"),
                items=num(f"{at}/items", "count"),
            )
        if not task.looked_for:
            yield say("<strong>{task}:</strong>{short}", task=task.task, short=short)
            continue
        if not task.found:
            means = Markup(" What the base model was pretrained on was not looked at.")
        yield say(
            "<strong>{task}:</strong> {found} of {looked} items{could} stand in the training text: {share} "
            "or more of the runs of {width} words of an item do.{short}{means}",
            task=task.task,
            found=num(f"{at}/found", "count"),
            looked=num(f"{at}/looked_for", "count"),
            could=" that could be looked for" if task.too_short else "",
            short=short,
            share=num("/contamination/share", "percent"),
            width=num("/contamination/width", "count"),
            means=means,
        )


def _rows(joins: Joins) -> Iterator[CleanRow]:
    num, found = joins.num, joins.report.contamination
    for at, task in placed("/contamination/tasks", found.tasks if found else ()):
        for place, model in placed(f"{at}/models", task.models if task.found else ()):
            clean = say(
                "{value} {limits}, {items} items",
                items=num(f"{place}/items", "count"),
                value=num(f"{place}/without", "percent_one"),
                limits=num.interval(place, "lower", "upper", "percent"),
            )
            yield CleanRow(task.task, model.arm, (num(f"{place}/accuracy", "percent_one"), clean))
