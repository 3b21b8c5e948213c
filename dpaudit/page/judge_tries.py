"""Which model judged, when it was asked, and which other judges were tried before."""

from collections.abc import Iterator

from markupsafe import Markup

from dpaudit.findings.judgement import Judgement
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers, code, placed, say


def who(num: Numbers, judgement: Judgement) -> Iterator[Markup]:
    """The judge's model and its replies, then what must be known of it."""
    at, asked = "/judge/asked", judgement.asked
    model = say("The judge's model: {model} (kind {kind}).", model=num("/judge/model"), kind=judgement.kind)
    if asked is None:
        yield say("{model} How often it was asked is not kept.", model=model)
    else:
        forms = Markup(", ").join(
            say("{count} as {form}", count=num(f"{at}/forms/{form}", "count"), form=form)
            for form in asked.forms
        )
        yield say(
            "{model} {replies} replies, given from {oldest} to {newest}. Verdicts read: {forms}.",
            model=model,
            replies=num(f"{at}/replies", "count"),
            oldest=num(f"{at}/oldest"),
            newest=num(f"{at}/newest"),
            forms=forms or "none",
        )
    for number in range(len(judgement.notes)):
        yield say("<strong>Of the judge:</strong> {note}.", note=num(f"/judge/notes/{number}"))


def tried(joins: Joins) -> Iterator[Markup]:
    """Every judge of the run with what its passport said."""
    rows = joins.report.judges_tried
    if len(rows) == 1 and joins.report.judge is not None:
        yield Markup("No other judge was tried in this run.")
        return
    if len(rows) == 1:
        yield Markup("<strong>One passport was made in this run</strong>, and its judge is not in force.")
    elif rows:
        yield say(
            "<strong>{count} passports were made in this run</strong>, of other rubrics, models or "
            "outcomes. Of several judges that are tried, the one that is fit shows less than it seems to.",
            count=str(len(rows)),
        )
    for at, one in placed("/judges_tried", rows):
        why = (joins.num(f"{at}/reasons/{number}") for number in range(len(one.reasons)))
        yield say(
            "{date}: {rubric}, model {model}: {word}.",
            date=joins.num(f"{at}/date"),
            rubric=code(one.rubric),
            model=joins.num(f"{at}/model"),
            word="fit" if one.fit else say("not fit ({why})", why=Markup("; ").join(why)),
        )
