"""Measures of answers beside right and wrong: every model's figures, and arms against their references."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.quality import MeasureChange, MeasureFigures
from dpaudit.page import formats
from dpaudit.page.joins import Joins
from dpaudit.page.losses import REASONS
from dpaudit.page.numbers import Numbers, Placed, placed, say
from dpaudit.page.phrases import ABSENT

Key = tuple[str, str]  # task and measure
WAYS = {True: "more is better", False: "less is better", None: "which way is better is not known"}


@dataclass(frozen=True)
class MeasureRow:
    """One model, or one arm against its reference, and a cell a measure."""

    arm: str
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class Differences:
    """All arms that are compared with one reference."""

    reference: str
    rows: tuple[MeasureRow, ...]


@dataclass(frozen=True)
class MeasuresSection:
    """What the template places below the accuracies; empty where no benchmark has other measures."""

    heads: tuple[Markup, ...]
    models: tuple[MeasureRow, ...]
    against: tuple[Differences, ...]
    notes: tuple[Markup, ...]


def measures(joins: Joins) -> MeasuresSection:
    num, compared = joins.num, joins.report.comparisons
    figures = {
        (model.arm, row.part.task, row.part.measure): row
        for at, model in placed("/quality", joins.report.quality)
        for row in placed(f"{at}/measures", model.measures)
    }
    changes = {
        (row.part.arm, row.part.against, row.part.task, row.part.measure): row
        for row in placed("/comparisons/measures", compared.measures if compared else ())
    }
    keys = list(dict.fromkeys((task, measure) for _, task, measure in figures))
    models = [
        MeasureRow(model.arm, tuple(_figure(num, figures.get((model.arm, *key))) for key in keys))
        for model in (joins.report.quality if keys else ())
    ]
    return MeasuresSection(
        tuple(_head(key, [row.part for row in figures.values()]) for key in keys),
        tuple(models),
        tuple(_against(num, keys, changes)),
        tuple(_notes(num, keys, bool(changes))),
    )


def _head(key: Key, rows: list[MeasureFigures]) -> Markup:
    """The name of a measure, and which way it is better."""
    better = next(row.higher_is_better for row in rows if (row.task, row.measure) == key)
    return say("{task}: {measure} ({way})", task=key[0], measure=key[1], way=WAYS[better])


def _figure(num: Numbers, row: Placed[MeasureFigures] | None) -> Markup:
    if row is None:
        return ABSENT
    at, part = row
    limits = Markup("") if part.lower is None else num.interval(at, "lower", "upper", "three")
    said = [
        say("{value} {limits}", value=num(f"{at}/value", "three"), limits=limits),
        say("{count} items", count=num(f"{at}/items", "count")),
    ]
    if part.left_out:
        said.append(say("{count} left out", count=num(f"{at}/left_out", "count")))
    if part.cut:
        said.append(say("{count} with a cut prompt", count=num(f"{at}/cut", "count")))
    if part.alone:
        said.append(say("not compared: {reason}", reason=part.alone))
    return Markup(", ").join(said)


def _against(
    num: Numbers, keys: list[Key], changes: dict[tuple[str, str, str, str], Placed[MeasureChange]]
) -> Iterator[Differences]:
    for reference in dict.fromkeys(against for _, against, _, _ in changes):
        arms = dict.fromkeys(arm for arm, against, _, _ in changes if against == reference)
        yield Differences(
            reference,
            tuple(
                MeasureRow(arm, tuple(_change(num, changes.get((arm, reference, *key))) for key in keys))
                for arm in arms
            ),
        )


def _change(num: Numbers, row: Placed[MeasureChange] | None) -> Markup:
    if row is None:
        return ABSENT
    return say(
        "{difference} {limits}, p {p}: {word}",
        difference=num(f"{row.at}/difference", "signed_three"),
        limits=num.interval(row.at, "lower", "upper", "signed_three"),
        p=num(f"{row.at}/p_holm", "p"),
        word=_word(row.part),
    )


def _word(change: MeasureChange) -> Markup:
    """The word for a change. Why one cannot tell stands beside it, unless the p-value says it."""
    if change.word != "cannot tell":
        return say("<strong>{word}</strong>", word=change.word)
    because = "" if change.reason in (None, "neither is shown") else f": {REASONS[str(change.reason)]}"
    return say("cannot tell{because}", because=because)


def in_words(changes: Sequence[MeasureChange]) -> list[tuple[str, str]]:
    """For a terminal: the name of each measure as it heads its column, and the word, with the p-value where
    nothing else says why one cannot tell: an interval alone does not, since it is not corrected.
    """
    rows = []
    for change in changes:
        word = _word(change).striptags()
        if word == "cannot tell":
            word += f": p {formats.show(change.p_holm, 'p')} after Holm's correction"
        rows.append((f"{change.measure} ({WAYS[change.higher_is_better]})", word))
    return rows


def _notes(num: Numbers, keys: list[Key], are_compared: bool) -> Iterator[Markup]:
    if are_compared:
        yield say(
            "Differences are adapter minus reference, paired item by item, with {confidence} intervals; p is "
            "adjusted by Holm's method for all differences of these tables. “Cannot tell” is no sign that "
            "nothing was lost.",
            confidence=num("/comparisons/confidence", "percent"),
        )
    if any(measure == "refusal" for _, measure in keys):
        yield Markup(
            "<em>Refusal</em>: the share of answers that refuse, found by words in English and Chinese. A "
            "refusal without them is missed. An answer that makes no sense refuses nothing."
        )
    if any(measure.startswith("log ") for _, measure in keys):
        yield Markup("<em>Log</em>: the natural logarithm of the perplexity that lm-eval reports.")
