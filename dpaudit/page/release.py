"""The first card of the page: for each adapter whether it may be released under its claim, why, and what to
do next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.release import MAY, MUST_NOT, Released
from dpaudit.page.identifiers import identifiers
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, placed, say

SURE = 0.98  # a share of right guesses from which a claim promises one person hardly anything (epsilon 3.9)
MARKS = {MAY: "✓", MUST_NOT: "✗"}  # beside the words, for who sees no colours


@dataclass(frozen=True)
class ReleaseRow:
    """One adapter."""

    css: str
    arm: str
    mark: str
    word: str
    why: Markup
    next_step: Markup
    beside: tuple[Markup, ...]  # the promise, the worst that was measured, further reasons, cautions


@dataclass(frozen=True)
class ReleaseCard:
    rows: tuple[ReleaseRow, ...]
    common: Markup  # cautions of every private adapter; empty without any
    unexamined: Markup
    rule: Markup


def release(joins: Joins) -> ReleaseCard:
    placed_rows = placed("/release", joins.report.release)
    private = {arm.arm for arm in joins.private}
    of_all = [(at, row.cautions) for at, row in placed_rows if row.arm in private]
    at, first = of_all[0] if of_all else ("", ())
    shared = [caution for caution in first if all(caution in cautions for _, cautions in of_all)]
    common = Markup("; ").join(
        say("{caution}", caution=joins.num(f"{at}/cautions/{first.index(caution)}")) for caution in shared
    )
    rows = tuple(_row(joins, row, shared) for row in placed_rows)
    return ReleaseCard(rows, common, _unexamined(joins), _rule(joins))


def _row(joins: Joins, row: Placed[Released], shared: Sequence[str]) -> ReleaseRow:
    at, found = row
    return ReleaseRow(
        css={MAY: "may", MUST_NOT: "must-not"}.get(found.word, "open"),
        arm=found.arm,
        mark=MARKS.get(found.word, "?"),
        word=found.word,
        why=say("{why}", why=joins.num(f"{at}/why")),
        next_step=say("{what}", what=joins.num(f"{at}/next_step")),
        beside=tuple(_beside(joins, row, shared)),
    )


def _beside(joins: Joins, row: Placed[Released], shared: Sequence[str]) -> Iterator[Markup]:
    (at, found), num = row, joins.num
    if found.others:
        others = [num(f"{at}/others/{index}") for index, _ in enumerate(found.others)]
        yield say("<strong>Also:</strong> {why}.", why=Markup("; ").join(others))
    yield from _promise(joins, found.arm)
    audit = next((audit for audit in joins.verdicts if audit.part.arm == found.arm), None)
    if audit:
        yield say(
            "<strong>Measured:</strong> attack on planted rows {auc} (half is guessing).",
            auc=num.area(f"{audit.at}/canaries"),
        )
    if found.arm in joins.extraction:
        place = joins.extraction[found.arm].at
        yield say(
            "<strong>Planted secrets out:</strong> {out}; at most {upper} of such secrets would come out.",
            out=num.counted(place, "planted_found", "planted"),
            upper=num(f"{place}/found_upper", "percent_up"),
        )
    for index, caution in enumerate(found.cautions):
        if caution not in shared:
            yield say("Note: {caution}.", caution=num(f"{at}/cautions/{index}"))


def _promise(joins: Joins, arm: str) -> Iterator[Markup]:
    if arm not in joins.promises or joins.is_insecure:
        return
    place, promise = joins.promises[arm]
    limit = joins.num(f"{place}/guess_right_at_most", "percent_two_up")
    if promise.guess_right_at_most >= SURE:
        yield say(
            "<strong>Promise:</strong> practically nothing for one {unit}; up to {limit} of guesses may be "
            "right.",
            unit=joins.report.run.unit,
            limit=limit,
        )
    else:
        yield say(
            "<strong>Promise:</strong> of guesses whether one {unit} was in, at most {limit} are right.",
            unit=joins.report.run.unit,
            limit=limit,
        )


def _unexamined(joins: Joins) -> Markup:
    """What nobody looked at, so that its silence is not read as good news."""
    stages = joins.report.stages
    lacking = [
        what
        for stage, what in (
            (stages.audit, "membership of every adapter"),
            (stages.extraction, "secrets of every adapter"),
            (stages.quality, "quality of every model"),
            (stages.judge, "answers, by a judge"),
        )
        if stage.state not in ("done", "not applicable")
    ]
    found = identifiers(joins)
    if not found.examined:
        lacking.append("personal fields of real records")
    return say(
        '<strong>Not examined:</strong> {what}. More stands under <a href="#limits">Not tested</a> and in '
        'the <a href="#crosswalk">crosswalk</a>.',
        what="; ".join(
            [
                *lacking,
                "names, places and most other identifiers of real people",
                "what untried prompts bring out",
                "attacks with access to training",
                "runs that were thrown away while settings were chosen",
            ]
        ),
    )


def _rule(joins: Joins) -> Markup:
    rule, num = joins.report.rule, joins.num
    told = Markup("which is the default")
    if not rule.is_default:
        told = say("as the suite declares ({mark}, {date})", mark=rule.mark, date=num("/rule/date"))
    return say(
        "<strong>Measured</strong> is how often, of a planted row that was in and one that was out, the "
        "attack picks the right one. <strong>The rule:</strong> the claim is not refuted and a training with "
        "less noise would have been seen from inside, for every training that the adapter rests on; no "
        "planted secret came out; epsilon at most {most}, {told}; epsilon covers all that it learned from. "
        "What was not looked at counts as not established. Quality decides nothing here: a rule that reads "
        "private held-out records is a tuning step. The word is about the claim of this adapter released "
        "alone. It does not say that the model holds no personal data, nor that it meets a law.",
        most=num("/rule/most_epsilon", "epsilon"),
        told=told,
    )
