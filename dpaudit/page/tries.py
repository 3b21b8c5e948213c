"""How benchmarks were asked, how often each was measured, and what came out before."""

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from dpaudit.findings.quality import Asking
from dpaudit.findings.tries import Try
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers, code, join, placed, say

DRAWN = {
    True: "whole clusters of each drawn until there were {limit} items, ",
    False: "the first {limit} of each, ",
}
ALL = "as many worked examples as the benchmark says"


def how(joins: Joins) -> Iterator[Markup]:
    """How items were asked: one sentence for all benchmarks that were asked alike."""
    ways: dict[Asking, list[str]] = {}
    for task, way in joins.report.asked_how.items():
        ways.setdefault(way, []).append(task)
    for way, tasks in ways.items():
        yield say(
            "{whose} were asked {way}.",
            whose="Items" if len(ways) == 1 else say("The items of {tasks}", tasks=", ".join(tasks)),
            way=_way(joins.num, join("/asked_how", tasks[0]), way),
        )
    if joins.report.tried and all(not one.earlier for one in joins.report.tried):
        yield Markup("Every benchmark was measured once.")


def _way(num: Numbers, at: str, way: Asking) -> Markup:
    shots = "{count} worked examples"
    return say(
        "{template}, with {shots}, {limit}by lm-eval {version}",
        template="in the chat template of training" if way.chat_template else "without a chat template",
        shots=ALL if way.fewshot is None else say(shots, count=num(f"{at}/fewshot", "count")),
        limit="" if way.limit is None else say(DRAWN[way.drawn], limit=num(f"{at}/limit", "count")),
        version=num(f"{at}/lm_eval"),
    )


def earlier(joins: Joins) -> Iterator[Markup]:
    """The benchmarks that were measured more than once."""
    for at, one in placed("/tried", joins.report.tried):
        if not one.earlier:
            continue
        yield say(
            "<strong>{task} was measured {times} times</strong>, with other settings or items. The figures "
            "above are of the last; earlier: {rows}. Of several tries the best shows less than it seems to.",
            task=one.task,
            times=joins.num(f"{at}/times", "count"),
            rows=Markup("; ").join(_try(joins.num, *row) for row in placed(f"{at}/earlier", one.earlier)),
        )


def _try(num: Numbers, at: str, tried: Try) -> Markup:
    return say(
        "{date}, {way}: {figures}",
        date=num(f"{at}/date"),
        way=_way(num, f"{at}/how", tried.how),
        figures=Markup(", ").join(
            [*_accuracies(num, f"{at}/figures", tried.figures), *_measures(num, at, tried)]
        ),
    )


def _accuracies(num: Numbers, at: str, figures: Mapping[str, object]) -> Iterator[Markup]:
    for name in figures:
        place = join(at, name)
        yield say(
            "{name} {accuracy} of {items} items",
            name=code(name),
            accuracy=num(f"{place}/accuracy", "percent_one"),
            items=num(f"{place}/items", "count"),
        )


def _measures(num: Numbers, at: str, tried: Try) -> Iterator[Markup]:
    for name, rows in tried.measures.items():
        for place, row in placed(join(f"{at}/measures", name), rows):
            yield say(
                "{name} {measure} {value} of {items} items",
                name=code(name),
                measure=row.measure,
                value=num(f"{place}/value", "three"),
                items=num(f"{place}/items", "count"),
            )
