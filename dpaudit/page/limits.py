"""Which stages did not run, among what was not tested."""

from collections.abc import Iterator

from markupsafe import Markup

from dpaudit.page.joins import Joins
from dpaudit.page.numbers import code, say


def limits(joins: Joins) -> Iterator[Markup]:
    stages = joins.report.stages
    for stage, without in (
        (stages.audit, Markup("<strong>Membership inference</strong> did not run for every adapter")),
        (stages.extraction, Markup("<strong>Extraction</strong> did not run for every adapter")),
        (stages.quality, Markup("<strong>Quality</strong> was not measured for every model")),
        (stages.judge, Markup("<strong>Answers</strong> were not judged")),
    ):
        if stage.state == "not planned":
            yield without + "."
        elif stage.state not in ("done", "not applicable"):
            yield say("{without}: type {command}.", without=without, command=code(stage.command))
