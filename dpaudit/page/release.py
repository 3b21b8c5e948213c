"""The first card of the page: for each adapter whether it may be released under its claim, why, and what to
do next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.release import MAY, MUST_NOT, Released
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
    common: tuple[Markup, ...]  # cautions of every private adapter
    rule: Markup


def release(joins: Joins) -> ReleaseCard:
    placed_rows = placed("/release", joins.report.release)
    private = {arm.arm for arm in joins.private}
    of_all = [(at, row.cautions) for at, row in placed_rows if row.arm in private]
    at, first = of_all[0] if of_all else ("", ())
    shared = [caution for caution in first if all(caution in cautions for _, cautions in of_all)]
    common = tuple(
        say(
            "Of every private adapter: {caution}.", caution=joins.num(f"{at}/cautions/{first.index(caution)}")
        )
        for caution in shared
    )
    rows = tuple(_row(joins, row, shared) for row in placed_rows)
    return ReleaseCard(rows, common, _rule(joins))


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
    for index, _ in enumerate(found.others):
        yield say("Also: {why}.", why=num(f"{at}/others/{index}"))
    yield from _promise(joins, found.arm)
    audit = next((audit for audit in joins.verdicts if audit.part.arm == found.arm), None)
    if audit:
        yield say(
            "Measured risk: how often an attack that looks for planted rows tells one that was in from one "
            "that was out (half is guessing): {auc}.",
            auc=num.area(f"{audit.at}/canaries"),
        )
    if found.arm in joins.extraction:
        place = joins.extraction[found.arm].at
        yield say(
            "Planted secrets that came out: {out}; at most {upper} of such secrets would.",
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
            "What the claim promises: practically nothing for one {unit} by itself. Somebody may guess right "
            "whether it was in {limit} of the time.",
            unit=joins.report.run.unit,
            limit=limit,
        )
    else:
        yield say(
            "What the claim promises: whatever somebody else knows, nobody guesses right whether one {unit} "
            "was in more than {limit} of the time, where half is chance.",
            unit=joins.report.run.unit,
            limit=limit,
        )


def _rule(joins: Joins) -> Markup:
    rule, num = joins.report.rule, joins.num
    told = Markup("which is the default")
    if not rule.is_default:
        told = say("as the suite declares ({mark}, {date})", mark=rule.mark, date=num("/rule/date"))
    return say(
        "The rule: the claim is not refuted and a training with less noise would have been seen from inside, "
        "for every training that the adapter rests on; no planted secret came out; epsilon at most {most}, "
        "{told}; epsilon covers all that it learned from. What was not looked at counts as not established. "
        "Quality decides nothing here: a rule that reads private held-out records is a tuning step. The word "
        "is about the claim of this adapter released alone. It does not say that the model holds no personal "
        "data, nor that it meets a law.",
        most=num("/rule/most_epsilon", "epsilon"),
        told=told,
    )
