"""What is said of an arm's loss of accuracy: the word, why one cannot tell, what the benchmark could see."""

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from dpaudit.findings.quality import Comparison, Degraded
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers, Placed, code, codes, placed, say
from dpaudit.page.phrases import ABSENT, asked

COLUMNS = 5  # of a benchmark in the table of differences
REASONS = {
    "prompts cut": "more than half of the prompts were cut, so another benchmark was asked",
    "margin reaches chance": "with a margin of {margin} points, a model that only guesses would be no "
    "worse than {against}",
    "reference at chance": "{against} is not above chance, so a loss of what it knew cannot be told",
    "too few for an interval": "fewer than six items or clusters, too few for any difference to show",
    "too few clusters": "too few clusters, {clusters} of the {fewest} that the margin needs",
    "at the ceiling": "at the ceiling, with a wrong answer in {wrong} clusters only",
    "neither is shown": "the data show neither (p no worse {no_worse}, p worse {worse})",
    "no control": "no adapter without noise could be degraded, so no loss is shown to be visible",
    "items in the training text": "more than half of its items stand in the training text",
    "control not told": "the benchmark has not shown that it could see a loss",
}


def columns(num: Numbers, pair: Placed[Comparison]) -> Iterator[Markup]:
    """p after Holm, the detectable loss, the word, and the worst kind of item."""
    if pair.part.margin is None:
        yield from (ABSENT,) * (COLUMNS - 1)
        return
    at = f"{pair.at}/margin"
    yield num(f"{at}/p_holm", "p")
    nothing = pair.part.margin.detectable is None
    yield Markup("none") if nothing else num(f"{at}/detectable", "points_up")
    yield _word(num, pair)
    yield _worst(num, at, pair.part)


def _word(num: Numbers, pair: Placed[Comparison]) -> Markup:
    """The word for an arm, with the reason where one cannot tell."""
    found = pair.part.margin
    assert found is not None
    shown = ", and a loss is shown" if pair.part.is_loss_shown else ""
    if found.word == "cannot tell":
        said = say("{word}: {reason}", word=found.word, reason=_reason(num, pair))
        if shown and found.reason == "reference at chance":
            shown = "; its accuracy fell all the same"
        return say("{said}{shown}", said=said, shown=shown)
    sentence = {
        "no worse than the margin": "<strong>no worse than {margin} points below</strong>{shown}{wide}",
        "worse": "<strong>worse</strong>, by more than {margin} points",
    }[found.word]
    return say(
        sentence,
        margin=num("/comparisons/margin", "points"),
        shown=Markup("<strong>{}</strong>").format(shown) if shown else "",
        wide=_wide(num, pair) if found.is_wide else "",
    )


def in_words(pairs: Sequence[Comparison], found: dict[str, Any]) -> list[str]:
    """The same words for a terminal, one text a pair; empty of what is no accuracy. `found` holds the pairs
    as their file does, with the margin and the fewest clusters for it.
    """
    num = Numbers({"comparisons": found})
    return [
        _word(num, pair).striptags() if pair.part.margin else ""
        for pair in placed("/comparisons/pairs", pairs)
    ]


def _wide(num: Numbers, pair: Placed[Comparison]) -> Markup:
    return say(
        "; the margin is wide: more than half of what {against} knows above chance could be lost",
        against=code(pair.part.against),
    )


def _reason(num: Numbers, pair: Placed[Comparison]) -> Markup:
    at = f"{pair.at}/margin"
    assert pair.part.margin is not None
    return say(
        REASONS[str(pair.part.margin.reason)],
        against=code(pair.part.against),
        margin=num("/comparisons/margin", "points"),
        clusters=num(f"{pair.at}/clusters", "count"),
        fewest=num("/comparisons/fewest", "count"),
        wrong=num(f"{at}/wrong", "count"),
        no_worse=num(f"{at}/p_no_worse_holm", "p"),
        worse=num(f"{at}/p_worse_holm", "p"),
    )


def _worst(num: Numbers, at: str, pair: Comparison) -> Markup:
    worst = pair.margin.worst if pair.margin else None
    if worst is None:
        return ABSENT
    return say(
        "{name}: {difference} {limits}, {items} items",
        name=worst.name,
        difference=num(f"{at}/worst/difference", "signed_points"),
        limits=num.interval(f"{at}/worst", "lower", "upper", "signed_points"),
        items=num(f"{at}/worst/items", "count"),
    )


def controls(joins: Joins) -> Iterator[Markup]:
    """Whether each benchmark can see a loss: what it says of an arm that was degraded on purpose."""
    compared = joins.report.comparisons
    found = placed("/comparisons/controls", compared.controls if compared else ())
    for task in dict.fromkeys(row.part.task for row in found):
        rows = [row for row in found if row.part.task == task]
        told = any(row.part.told for row in rows)
        yield say(
            "{lead} {rows}.",
            lead=say("<strong>{task} can see a loss.</strong>", task=task)
            if told
            else say(
                "<strong>{task} has not shown that it could see a loss</strong>, so it supports no "
                "claim that nothing was lost.",
                task=task,
            ),
            rows=Markup("; ").join(_degraded(joins.num, row) for row in rows),
        )


def _degraded(num: Numbers, row: Placed[Degraded]) -> Markup:
    return say(
        "{arm} with {factor} of its adapter: {difference} points {limits}, p {p}, {told}",
        arm=code(row.part.arm),
        factor=num(f"{row.at}/factor", "percent"),
        difference=num(f"{row.at}/difference", "signed_points"),
        limits=num.interval(row.at, "lower", "upper", "signed_points"),
        p=num(f"{row.at}/p_holm", "p"),
        told="told from the whole" if row.part.told else "not told from the whole",
    )


def warnings(joins: Joins) -> Iterator[Markup]:
    """What changes how every word of this section is to be read."""
    num, compared = joins.num, joins.report.comparisons
    if compared and compared.is_wide:
        yield say(
            "<strong>The margin, {margin} points, is wide:</strong> an adapter that loses almost as much is "
            "still called no worse. Hardly any loss of accuracy that matters is larger than ten points.",
            margin=num("/comparisons/margin", "points"),
        )
    told: set[str] = set()
    for place, task in _cut(joins):
        if task not in told:
            told.add(task)
            yield say(
                "<strong>{task}: the beginning of {cut} prompts was cut off</strong>, since the model's "
                "window does not hold them whole. Where that is most of them, no loss and no gain is told.",
                task=task,
                cut=num.counted(place, "cut", "items"),
            )


def _cut(joins: Joins) -> Iterator[tuple[str, str]]:
    """The place of every figure of which prompts were cut, with its benchmark."""
    for at, model in placed("/quality", joins.report.quality):
        yield from ((place, row.task) for place, row in placed(f"{at}/tasks", model.tasks) if row.cut)
        yield from ((place, row.task) for place, row in placed(f"{at}/measures", model.measures) if row.cut)


def notes(joins: Joins) -> Iterator[Markup]:
    num, compared = joins.num, joins.report.comparisons
    if compared is None:
        return
    whence = (
        Markup("which is the default: the suite declares none")
        if compared.is_default
        else say("{asked}", asked=asked(num, "/asked/margin", joins.report.asked["margin"]))
    )
    before = [num(f"/margins_before/{at}", "points") for at in range(len(joins.report.margins_before))]
    yield say(
        "Differences are adapter minus reference, paired item by item, with {confidence} intervals. "
        "<em>p, Holm</em> is that of no difference: McNemar's exact test, or one over clusters where items "
        "share a passage, a condition or a patient.",
        confidence=num("/comparisons/confidence", "percent"),
    )
    yield say(
        "<em>Loss</em>: the margin is {margin} points, {whence}{before}. “No worse than” it: a loss of that "
        "size is ruled out with {confidence} confidence, and the benchmark has told a degraded adapter, "
        "below, from the whole one; “worse”: a loss beyond the margin is shown; all else is “cannot tell”. "
        "“A loss is shown”: the interval lies below zero. "
        "Holm's correction runs over all {family} comparisons of accuracy on this page; intervals are not "
        "corrected.",
        margin=num("/comparisons/margin", "points"),
        whence=whence,
        before=say("; before it stood at {margins}", margins=Markup(", ").join(before)) if before else "",
        confidence=num("/comparisons/confidence", "percent"),
        family=num("/comparisons/family", "count"),
    )
    yield Markup(
        "<em>Detectable</em>: the smallest true loss that the test of no difference would have told four "
        "times in five. <em>Worst</em>: the kind of item on which most was lost, with an interval that "
        "allows for the choice among all kinds."
    )


def trends(joins: Joins) -> Iterator[Markup]:
    comparisons = joins.report.comparisons
    for at, trend in placed("/comparisons/trend", comparisons.trend if comparisons else ()):
        style = {"accuracy": "points", "log_odds": "three", "bits_per_byte": "three"}[trend.measure]
        rungs = [
            say(
                "{arm} {difference} (p {p})",
                arm=code(rung.arm),
                difference=joins.num(f"{place}/difference", f"signed_{style}"),
                p=joins.num(f"{place}/p_holm", "p"),
            )
            for place, rung in placed(f"{at}/rungs", trend.rungs)
        ]
        yield say(
            "Does {task} ({measure}) get worse along {arms}? {order}; Page's trend test p {p}. Against the "
            "rung before: {rungs}.",
            task=trend.task or "held-out text",
            measure={"log_odds": "log-odds"}.get(trend.measure, trend.measure.replace("_", " ")),
            arms=codes(trend.arms, " → "),
            order="In this order at every rung" if trend.ordered else "Not at every rung",
            p=joins.num(f"{at}/p_value", "p"),
            rungs=Markup(", ").join(rungs),
        )
