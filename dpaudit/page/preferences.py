"""Did preference training do what it is for? Every model on held-out pairs, and DPO adapters beside their
starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.preferences import Measure
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import code, placed, say
from dpaudit.page.phrases import ABSENT

AT = "/preferences"
COLUMNS: tuple[tuple[Measure, str, str], ...] = (
    ("accuracy", "preference accuracy, points", "signed_points"),
    ("log_ratio", "log-ratio of the answers, nats", "signed_three"),
    ("chosen", "chosen answer, nats", "signed_three"),
    ("rejected", "rejected answer, nats", "signed_three"),
    ("bits_per_byte", "held-out bits per byte (less is better)", "signed_three"),
)


@dataclass(frozen=True)
class Row:
    """A model, or an adapter and what it is compared with."""

    names: tuple[str, ...]
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class PreferenceSection:
    """The section as the template places it; without rows there is no section."""

    warnings: tuple[Markup, ...]
    models: tuple[Row, ...]
    columns: tuple[str, ...]
    compared: tuple[Row, ...]
    cautions: tuple[Markup, ...]
    notes: tuple[Markup, ...]


def preferences(joins: Joins) -> PreferenceSection:
    if joins.report.preferences is None:
        return PreferenceSection((), (), (), (), (), ())
    return PreferenceSection(
        warnings=tuple(_warnings(joins)),
        models=tuple(_models(joins)),
        columns=tuple(title for _, title, _ in COLUMNS),
        compared=tuple(_compared(joins)),
        cautions=(*_costs(joins), *_incomparable(joins)),
        notes=tuple(_notes(joins)),
    )


def _warnings(joins: Joins) -> Iterator[Markup]:
    found = joins.report.preferences
    for change in found.compared if found else ():
        if change.worse is not None:
            yield say(
                "<strong>{arm} is worse than {start}, from which it started:</strong> {worse}. Release the "
                "start instead, or train on pairs that it does not satisfy already.",
                arm=code(change.arm),
                start=code(change.against),
                worse=change.worse,
            )


def _models(joins: Joins) -> Iterator[Row]:
    num, found = joins.num, joins.report.preferences
    for at, model in placed(f"{AT}/models", found.models if found else ()):
        accuracy = say(
            "{value} {limits}",
            value=num(f"{at}/accuracy", "percent_one"),
            limits=num.interval(at, "accuracy_lower", "accuracy_upper", "percent"),
        )
        shorter = ABSENT
        if model.shorter is not None:
            shorter = say(
                "{value} of {pairs}",
                value=num(f"{at}/shorter", "percent_one"),
                pairs=num(f"{at}/shorter_pairs", "count"),
            )
        means = (num(f"{at}/{answer}", "two") for answer in ("chosen", "rejected"))
        counts = (num(f"{at}/{count}", "count") for count in ("pairs", "clusters", "left_out"))
        yield Row((model.arm,), (accuracy, shorter, *means, *counts))


def _compared(joins: Joins) -> Iterator[Row]:
    num, found = joins.num, joins.report.preferences
    for at, pair in placed(f"{AT}/compared", found.compared if found else ()):
        there = {change.measure: place for place, change in placed(f"{at}/changes", pair.changes)}
        cells = (
            say(
                "{difference} {limits}",
                difference=num(f"{there[measure]}/difference", style),
                limits=num.interval(there[measure], "lower", "upper", style),
            )
            if measure in there
            else ABSENT
            for measure, _, style in COLUMNS
        )
        yield Row((pair.arm, pair.against, pair.role), tuple(cells))


def _costs(joins: Joins) -> Iterator[Markup]:
    """What an adapter that is no worse in its pairs lost in dialogues."""
    found = joins.report.preferences
    for at, pair in placed(f"{AT}/compared", found.compared if found else ()):
        bits = next((index for index, c in enumerate(pair.changes) if c.measure == "bits_per_byte"), None)
        if pair.worse is not None or bits is None or pair.changes[bits].lower <= 0:
            continue
        place = f"{at}/changes/{bits}"
        judge = joins.report.judge
        rates = judge is not None and any({pair.arm, pair.against} == {r.arm, r.against} for r in judge.pairs)
        yield say(
            "<strong>{arm} paid for its pairs in dialogues:</strong> it finds held-out answers less likely "
            "than {against} does, by {difference} {limits} bits per byte. "
            + (
                "Read some of its answers, and the judge's rate against {against}, before you use it for "
                "dialogues."
                if rates
                else "Read some of its answers before you use it for dialogues: no judge compared them."
            ),
            arm=code(pair.arm),
            against=code(pair.against),
            difference=joins.num(f"{place}/difference", "signed_three"),
            limits=joins.num.interval(place, "lower", "upper", "signed_three"),
        )


def _incomparable(joins: Joins) -> Iterator[Markup]:
    found = joins.report.preferences
    for at, row in placed(f"{AT}/incomparable", found.incomparable if found else ()):
        yield say(
            "<strong>{arm} has no comparison with dialogues alone at the same claim</strong> "
            "(ε = {epsilon}): {against} is not trained here. So whether its pairs were worth their part of "
            "ε is not known.",
            arm=code(row.arm),
            against=code(row.against),
            epsilon=joins.num(f"{at}/epsilon", "epsilon"),
        )


def _notes(joins: Joins) -> Iterator[Markup]:
    yield say(
        "No adapter was trained on these pairs. <em>Preference accuracy</em>: the share of pairs whose "
        "chosen answer is the likelier one; beside it, of the pairs whose chosen answer is the shorter. "
        "<em>Log-ratio</em>: by how much that of the chosen to the rejected answer grew, which training "
        "raises (times beta it is the difference of implicit rewards). Differences are paired, with "
        "{confidence} intervals over clusters; they are not adjusted for the number of comparisons.",
        confidence=joins.num(f"{AT}/confidence", "percent"),
    )
    yield Markup(
        "Where both answers become less likely, the log-ratio grows at the cost of what the adapter knew. An "
        "adapter that spends a part of its epsilon on pairs has to be better in them than one that spent "
        "all of it on dialogues, or the pairs were not worth it."
    )
