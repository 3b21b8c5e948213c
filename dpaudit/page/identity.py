"""What the run is of: data, base model, who ran it and when, and what no epsilon covers."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.page.joins import Joins
from dpaudit.page.numbers import as_is, code, join, placed, say

NOT_STATED = Markup("not stated")
NOT_DECLARED = Markup("not declared in the suite")
AT = "/identity"


@dataclass(frozen=True)
class IdentitySection:
    facts: tuple[tuple[str, Markup], ...]
    uncovered: Markup


def identity(joins: Joins) -> IdentitySection:
    return IdentitySection(tuple(_facts(joins)), _uncovered(joins))


def _facts(joins: Joins) -> Iterator[tuple[str, Markup]]:
    run, num = joins.report.run, joins.num
    yield (
        "Whose presence is hidden",
        say(
            "one {unit}: {relation} one; δ {delta}",
            unit=run.unit,
            relation=run.relation.replace("_", " "),
            delta=num("/run/delta", "delta"),
        ),
    )
    yield "Data", _sources(joins)
    yield "Read", _counted(joins, ("records", "dialogues"), ("pairs", "preference pairs"), ("texts", "texts"))
    yield "Patients that the data name", _count(joins, "patients")
    yield "In training, expected", _trained(joins)
    yield (
        "Held out, never trained on",
        _counted(joins, ("heldout", "records"), ("heldout_pairs", "preference pairs")),
    )
    yield "Cut, and left out", _lost(joins)
    yield (
        "Languages, and dates of the records",
        say(
            "{languages}{scripts}; {dates}",
            languages=_declared(joins, "languages"),
            scripts=_scripts(joins),
            dates=_declared(joins, "dates"),
        ),
    )
    yield from _base(joins)
    yield "Who ran it", _text(joins, "responsible", AT)
    yield "When", _when(joins)
    yield "Suite, and run", say("{suite}, {run}", suite=as_is(run.suite), run=code(run.name))
    yield "Files of the run", say("{state}", state=num("/run/custody"))
    yield "Commitment, to compare with the one noted before", _commitment(joins)


def _sources(joins: Joins) -> Markup:
    data = joins.report.identity.data
    parts = [as_is(data.source)]
    if data.preference is not None:
        parts.append(say("pairs: {source}", source=as_is(data.preference)))
    if data.text is not None:
        parts.append(say("plain text: {source}", source=as_is(data.text)))
    return Markup("; ").join(dict.fromkeys(parts))


def _count(joins: Joins, key: str) -> Markup:
    value = getattr(joins.report.identity.data, key)
    return NOT_STATED if value is None else joins.num(f"{AT}/data/{key}", "count")


def _text(joins: Joins, key: str, at: str = f"{AT}/data") -> Markup:
    holder = joins.report.identity if at == AT else joins.report.identity.data
    return NOT_STATED if getattr(holder, key) is None else as_is(joins.num(f"{at}/{key}"))


def _declared(joins: Joins, key: str) -> Markup:
    declared: str | None = getattr(joins.report.identity.data, key)
    return _text(joins, key) if declared and declared.strip() else NOT_DECLARED


def _scripts(joins: Joins) -> Markup:
    """The records by script; nothing where the run did not count them."""
    counted = joins.report.identity.data.scripts
    if not counted:
        return Markup("")
    shown = [
        say("{count} {script}", count=joins.num(join(f"{AT}/data/scripts", name), "count"), script=name)
        for name in counted
    ]
    return say(" (records by script, which is no language: {shown})", shown=Markup(", ").join(shown))


def _counted(joins: Joins, *parts: tuple[str, str]) -> Markup:
    """The counts that are not zero; `not stated` where the run keeps none."""
    data = joins.report.identity.data
    known = [(key, noun) for key, noun in parts if getattr(data, key) is not None]
    shown = [(key, noun) for key, noun in known if getattr(data, key)] or known[:1]
    if not shown:
        return NOT_STATED
    return Markup(", ").join(
        say("{count} {noun}", count=_count(joins, key), noun=noun) for key, noun in shown
    )


def _trained(joins: Joins) -> Markup:
    data, unit = joins.report.identity.data, joins.report.run.unit
    if data.units is None:
        return NOT_STATED
    put = [
        say("{count} {what}", count=_count(joins, key), what=what)
        for key, what in (("by_coin", f"real {unit}s"), ("canaries", "canaries"), ("secrets", "secrets"))
        if getattr(data, key)
    ]
    coin = say("; a coin put in or left out {put}", put=Markup(", ").join(put)) if put else ""
    return say("{units} {unit}s{coin}", units=_count(joins, "units"), unit=unit, coin=coin)


def _lost(joins: Joins) -> Markup:
    data, parts = joins.report.identity.data, []
    if data.cut is not None:
        parts.append(say("at most {cut} sequences cut in an adapter", cut=_count(joins, "cut")))
    if data.dropped is not None:
        parts.append(say("{dropped} records above the limit of a patient", dropped=_count(joins, "dropped")))
    if data.rows_limit is not None:
        parts.append(say("reading stopped after {rows} rows", rows=_count(joins, "rows_limit")))
    return Markup("; ").join(parts) if parts else NOT_STATED


def _base(joins: Joins) -> Iterator[tuple[str, Markup]]:
    base, num = joins.report.identity.base, joins.num
    licence = NOT_STATED if base.licence is None else as_is(num(f"{AT}/base/licence"))
    yield (
        "Base model, and its licence",
        say("{name}; licence: {licence}", name=as_is(base.name), licence=licence),
    )
    first = next(iter(base.weights), None)
    hashed = NOT_STATED
    if first is not None:
        more = ", and further files (report.json has them all)" if len(base.weights) > 1 else ""
        digest = num(join(f"{AT}/base/weights", first))
        hashed = say("{name} <code>{digest}</code>{more}", name=code(first), digest=digest, more=more)
    yield "Base weights, by their hash", hashed


def _when(joins: Joins) -> Markup:
    declared = joins.num(f"{AT}/declared")
    if joins.report.identity.declared == joins.report.identity.changed:
        return say("settings written down {declared}", declared=declared)
    return say(
        "settings written down {declared}, last changed {changed}",
        declared=declared,
        changed=joins.num(f"{AT}/changed"),
    )


def _commitment(joins: Joins) -> Markup:
    if joins.report.run.commitment is None:
        return NOT_STATED
    return say("<code>{hash}</code>", hash=joins.num("/run/commitment"))


def _uncovered(joins: Joins) -> Markup:
    values = [
        say("{value} {what}", value=joins.num(f"{at}/value", "count"), what=part.what)
        for at, part in placed(f"{AT}/uncovered", joins.report.identity.uncovered)
    ]
    return say(
        "<strong>Not covered by ε,</strong> as far as somebody chose them by looking at the private data: "
        "{values}. <strong>Do not publish this page:</strong> many of its figures come from private records "
        'without noise (see <a href="#internal">Internal</a>).',
        values=Markup("; ").join(values),
    )
