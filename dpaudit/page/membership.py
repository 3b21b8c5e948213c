"""Whether an attacker can tell which canaries were in: all recipes of all arms, and what weakens a figure."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.membership import Membership, Slope
from dpaudit.page import recipes
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, codes, join, placed, say
from dpaudit.page.phrases import ABSENT, absence, adapters, is_alarmed
from dpaudit.page.recipes import RocRow, StrongestRow

PREFERENCE = "preference"


@dataclass(frozen=True)
class RecipeRow:
    """One recipe on one arm; all other cells are figures of its canaries."""

    at: str
    arm: str | None  # in the first row of its arm alone
    recipe: str
    primary: bool
    tpr: Markup
    proven: Markup
    ceiling: Markup
    p_holm: Markup
    corrected: Markup


@dataclass(frozen=True)
class PrimaryRow:
    """What the guesses of the primary recipe prove on one arm; the ceilings are figures of its bounds."""

    at: str
    arm: str
    right: Markup
    proven: Markup
    in_family: Markup
    taken_off: Markup | None  # of the reference's score; None where no recipe of the table calibrates


@dataclass(frozen=True)
class SeedsRow:
    """What the trainings of one kind prove together; seeds and own bounds are figures of the entry."""

    at: str
    arms: Markup
    claimed: Markup
    own: Markup
    proven: Markup
    ceiling: Markup


@dataclass(frozen=True)
class MembershipSection:
    """The section as the template places it."""

    absent: Markup | None
    is_filled: bool
    has_records: bool  # real records were attacked too
    control: str  # the sentence on arms without noise
    strongest: tuple[StrongestRow, ...]
    beyond: Markup | None  # recipes without a verdict that prove more than a claim
    roc: tuple[RocRow, ...]  # the table behind the figure
    groups: tuple[tuple[RecipeRow, ...], ...]  # by arm
    share: Markup | None
    on_curve: str  # what the dagger means; empty without one
    below: Markup | None  # the note under each table
    primary: tuple[PrimaryRow, ...]
    slopes: tuple[Markup, ...]  # how the primary recipe calibrates
    seeds: tuple[SeedsRow, ...]
    of_method: Markup | None  # what is said of the method, or that nothing is
    notes: tuple[Markup, ...]
    preference: tuple[tuple[RecipeRow, ...], ...]  # by arm
    reversed: Markup | None  # scores that point the wrong way


def membership(joins: Joins) -> MembershipSection:
    groups = [_group(joins, arm, of_pairs=False) for arm in joins.arm_names]
    pairs = [_group(joins, arm, of_pairs=True) for arm in joins.arm_names]
    return MembershipSection(
        absent=absence(joins.report.stages.audit, "this section"),
        is_filled=bool(joins.audits),
        has_records=any(audit.part.records for audit in joins.audits),
        control=_control(joins),
        strongest=tuple(recipes.strongest(joins)),
        beyond=recipes.beyond(joins),
        roc=tuple(recipes.roc(joins)),
        groups=tuple(groups),
        share=_share(joins),
        on_curve=_on_curve(joins),
        below=_below(joins) if joins.audits else None,
        primary=tuple(_primary(joins)),
        slopes=tuple(_slopes(joins)),
        seeds=tuple(_seeds(joins)),
        of_method=_of_method(joins),
        notes=tuple(_notes(joins)),
        preference=tuple(group for group in pairs if group),
        reversed=_reversed(joins),
    )


def _control(joins: Joins) -> str:
    if not joins.open:
        return ""
    shows = f"{adapters(joins.open)} {'show' if len(joins.open) > 1 else 'shows'}"
    return f" The non-private {shows} how far the same attack gets without protection."


def _group(joins: Joins, arm: str, *, of_pairs: bool) -> tuple[RecipeRow, ...]:
    """What every recipe found on an arm."""
    audits = [
        audit
        for audit in joins.audits
        if audit.part.arm == arm and (audit.part.kind == PREFERENCE) == of_pairs
    ]
    return tuple(_row(joins, audit, is_first=not index) for index, audit in enumerate(audits))


def _row(joins: Joins, audit: Placed[Membership], *, is_first: bool) -> RecipeRow:
    (at, finding), num = audit, joins.num
    proven = num(f"{at}/bound/epsilon_lower", "two_down") if finding.bound else Markup("no bound")
    place, row = recipes.corrected(joins, finding.arm, finding.recipe)
    return RecipeRow(
        at=at,
        arm=finding.arm if is_first else None,
        recipe=finding.recipe,
        primary=finding.primary,
        tpr=recipes.tpr(joins, audit),
        proven=Markup("withheld") if is_alarmed(finding.blind) else proven,
        ceiling=num(f"{at}/bound/ceiling", "two_down") if finding.bound else Markup(""),
        p_holm=num(f"{place}/p_holm", "p"),
        corrected=ABSENT if row.epsilon_lower is None else num(f"{place}/epsilon_lower", "two_down"),
    )


def _share(joins: Joins) -> Markup | None:
    shares = [
        say(
            "{method} {units} of the units and {bytes} of the text",
            method=method,
            units=joins.num(f"{at}/units", "percent_one"),
            bytes=joins.num(f"{at}/bytes", "percent_one"),
        )
        for method in joins.report.run.canary_share
        for at in (join("/run/canary_share", method),)
    ]
    if not shares:
        return None
    return say(
        "Share of canaries in the training data, in expectation over the coins: {shares}.",
        shares=Markup("; ").join(shares),
    )


def _on_curve(joins: Joins) -> str:
    if all(audit.part.canaries.tpr_at_fpr.measurable for audit in joins.audits):
        return ""
    return (
        "† Read off the curve: there are too few controls to set a threshold on some and measure it on "
        "others. Its interval counts the members alone; the rate of false positives is itself uncertain. "
    )


def _below(joins: Joins) -> Markup:
    return say(
        "{on_curve}AUC intervals are at {confidence}, each for one row on its own. Only the primary recipe "
        "supports a verdict: the best of many rows may be best by chance.",
        on_curve=_on_curve(joins),
        confidence=joins.num("/audits/0/canaries/confidence", "percent"),
    )


# ---- the primary recipe


def _primary(joins: Joins) -> Iterator[PrimaryRow]:
    calibrates = any(_slope(audit.part) for audit in joins.verdicts)
    for at, finding in joins.verdicts:
        if finding.fdp is None:
            continue
        proven, in_family = (joins.num(f"{at}/{of}/epsilon_lower", "two_down") for of in ("bound", "fdp"))
        if is_alarmed(finding.blind):
            proven = in_family = Markup("withheld")
        taken_off = joins.num(f"{at}/slopes/canary/used", "two") if _slope(finding) else ABSENT
        yield PrimaryRow(
            at=at,
            arm=finding.arm,
            right=joins.num.counted(f"{at}/bound", "correct", "guesses"),
            proven=proven,
            in_family=in_family,
            taken_off=taken_off if calibrates else None,
        )


def _slope(finding: Membership) -> Slope | None:
    """Of the canaries' scores."""
    return (finding.slopes or {}).get("canary")


def _slopes(joins: Joins) -> Iterator[Markup]:
    calibrated = [(audit, slope) for audit in joins.verdicts if (slope := _slope(audit.part))]
    if calibrated:
        yield Markup(
            "<em>Taken off</em>: how much of the reference model’s score is taken off the adapter’s, the "
            "slope of a line through the scores of all canaries, in or out, which no coin decides. At zero "
            "the adapter’s score stands alone, at one the whole difference of both. What the number of "
            "tokens explains is taken off in the same way."
        )
    for (at, finding), slope in calibrated:
        if slope.fitted is None:
            yield say(
                "{arm}: the reference gives all canaries the same score, so that no line can be fitted.",
                arm=code(finding.arm),
            )
        elif slope.fitted != slope.used:
            yield say(
                "{arm}: the line’s own slope is {fitted}; what lies beyond zero and one is not followed.",
                arm=code(finding.arm),
                fitted=joins.num(f"{at}/slopes/canary/fitted", "two"),
            )


# ---- over seeds


def _seeds(joins: Joins) -> Iterator[SeedsRow]:
    num, together = joins.num, joins.report.together
    alarmed = any(is_alarmed(audit.part.blind) for audit in joins.verdicts)
    for at, kind in placed("/together/over_seeds", together.over_seeds if together else ()):
        least, most = (num(f"{at}/{of}", "two_down") for of in ("own_least", "own_most"))
        proven = num(f"{at}/note") if kind.note else num(f"{at}/epsilon_lower", "two_down")
        yield SeedsRow(
            at=at,
            arms=codes(kind.arms),
            claimed=Markup("none") if kind.epsilon is None else num(f"{at}/epsilon", "epsilon"),
            own=Markup("withheld") if alarmed else say("{least} to {most}", least=least, most=most),
            proven=proven,
            ceiling=num(f"{at}/ceiling", "two_down"),
        )


def _of_method(joins: Joins) -> Markup | None:
    together = joins.report.together
    if together is None:
        return None
    if not together.over_seeds:
        return Markup(
            "Every kind of training was done once: bounds and verdicts speak of these adapters, not of the "
            "method. <code>dpaudit train --seeds</code> with three or more lets a bound speak of it."
        )
    return say(
        "The pooled bound speaks of the method and not of one adapter: with {confidence} confidence, not "
        "every training of this kind keeps a smaller ε. It holds for any mechanism. The seed is a cluster: "
        "all seeds share the coins of their canaries, so their p-values are merged by a rule that holds "
        "however they depend on each other (harmonic mean, Vovk and Wang). It decides nothing: each verdict "
        "is of one adapter.",
        confidence=joins.num("/together/over_seeds/0/confidence", "percent"),
    )


# ---- what weakens a figure


def _notes(joins: Joins) -> Iterator[Markup]:
    yield from _fitted(joins)
    yield from _cut(joins)
    yield from _per(joins)
    yield from _equal(joins)


def _fitted(joins: Joins) -> Iterator[Markup]:
    for at, finding in joins.audits:
        if finding.fitted and "canary" in finding.fitted:
            yield say(
                "<em>{recipe}</em> weighs the other recipes by the coins of some canaries, which then no "
                "longer count: {examples} of them.",
                recipe=finding.recipe,
                examples=joins.num(f"{at}/fitted/canary/examples", "count"),
            )
            return


def _cut(joins: Joins) -> Iterator[Markup]:
    """Once an arm and kind: how many canaries were cut, and how many have no score."""
    seen = set()
    for at, finding in joins.audits:
        is_cut = bool(finding.canaries.truncated or finding.canaries.unscored)
        if is_cut and (finding.arm, finding.kind) not in seen:
            seen.add((finding.arm, finding.kind))
            yield say(
                "Of the {canaries}, {arm}: {truncated} are longer than the context and were scored on the "
                "part that fits, and {unscored} could not be scored.",
                canaries="pair canaries" if finding.kind == PREFERENCE else "canaries",
                arm=code(finding.arm),
                truncated=joins.num(f"{at}/canaries/truncated", "count"),
                unscored=joins.num(f"{at}/canaries/unscored", "count"),
            )


def _per(joins: Joins) -> Iterator[Markup]:
    for at, finding in joins.audits:
        per = finding.canaries.per
        if per.records_most is not None:
            most = Markup("")
            if per.records_most != per.records_least:
                most = say(" to {most}", most=joins.num(f"{at}/canaries/per/records_most", "count"))
            yield say(
                "A bound is per {unit}: the scores of a patient's records are added up. A canary patient "
                "of {arm} has {least}{most}.",
                unit=per.unit,
                arm=code(finding.arm),
                least=joins.num(f"{at}/canaries/per/records_least", "count"),
                most=most,
            )
            return


def _equal(joins: Joins) -> Iterator[Markup]:
    for at, finding in joins.audits:
        if finding.equal_secrets:
            yield say(
                "<strong>Equal secrets on both sides:</strong> {equal} canaries that were left out have "
                "the same secret as a canary that was trained on. They look like members and make the "
                "attack look weaker than it is.",
                equal=joins.num(f"{at}/equal_secrets", "count"),
            )
            return


def _reversed(joins: Joins) -> Markup | None:
    rows = [audit.part for audit in joins.audits if audit.part.canaries.auc_upper < 0.5]
    if not rows:
        return None
    named = [say("{arm} by {recipe}", arm=code(row.arm), recipe=row.recipe) for row in rows]
    return say(
        "<strong>Below one half:</strong> {named}. There members score <em>lower</em> than the others, "
        "with an interval that does not contain one half: by chance, as for one such interval in forty, or "
        "because training made the text of members less likely, as preference training can. The reversed "
        "score would then do better than guessing. The direction was fixed beforehand, so no bound follows "
        "from it.",
        named=Markup(", ").join(named),
    )
