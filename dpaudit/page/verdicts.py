"""The first section: whether each claim is true, in a sentence, and all that the verdict rests on."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.membership import Membership
from dpaudit.page.cards import Card, cards
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, codes, placed, say
from dpaudit.page.phrases import ABSENT, absence, adapters, asked, broken_coins, is_alarmed, mark


@dataclass(frozen=True)
class VerdictRow:
    """One row of the verdicts in full; all other cells are figures of the bound."""

    at: str
    arm: str
    claimed: Markup
    proven: Markup
    without_noise: Markup
    notion: str
    blind: Markup
    verdict: Markup


@dataclass(frozen=True)
class Verdicts:
    """The section as the template places it."""

    absent: Markup | None
    banner: Markup | None
    cards: tuple[Card, ...]
    presumes: tuple[Markup, ...]  # sentences of one paragraph
    declared: tuple[Markup, ...]
    claiming: tuple[VerdictRow, ...]
    controls: tuple[VerdictRow, ...]
    population: Markup | None
    rules: tuple[tuple[Markup, str], ...]  # a guess rule in words, and the recipe that has it


def verdicts(joins: Joins) -> Verdicts:
    alarmed = [audit for audit in joins.verdicts if is_alarmed(audit.part.blind)]
    banner = None
    if alarmed:
        at = f"{alarmed[0].at}/blind"
        banner = broken_coins(joins.num, at, "canaries", "No verdict can be given")
    return Verdicts(
        absent=absence(joins.report.stages.audit, "the verdicts"),
        banner=banner,
        cards=cards(joins),
        presumes=tuple(_presumes(joins)),
        declared=tuple(_declared(joins)),
        claiming=tuple(_row(joins, audit) for audit in joins.claiming),
        controls=tuple(_row(joins, audit) for audit in joins.unclaiming),
        population=_population(joins),
        rules=_rules(joins),
    )


# ---- what all verdicts presume


def _presumes(joins: Joins) -> Iterator[Markup]:
    num, together = joins.num, joins.report.together
    yield say(
        "<strong>“Refuted” presumes nothing about the trainer.</strong> It rests on how the audit was set "
        "up: a fair coin for each canary, each canary one {unit}, score and guess rule fixed before any "
        "score was read.",
        unit=joins.report.run.unit,
    )
    if together and not together.questions:
        yield Markup(
            "<strong>No question about the claims of this page could have refuted one of them</strong>, even "
            "if every guess had been right: none was tested."
        )
    elif together:
        is_one, count = together.questions == 1, num("/together/questions", "count")
        yield say(
            "{questions} about the claims of this page{repeats} {tested}: if all claims are true, any of "
            "them is refuted with a chance of at most {error}.",
            questions=say("{many} question", many=count)
            if is_one
            else say("All {many} questions", many=count),
            tested="is tested" if is_one else "are tested together (Holm)",
            repeats=Markup(" and of the runs that it repeats") if together.repeats else "",
            error=num("/together/family_error", "percent_up"),
        )
        if together.repeats:
            yield say(
                "Each of those runs had a page that was tested by itself, and what it refuted stays refuted: "
                "with this page, true claims are refuted anywhere with a chance of at most {error}.",
                error=num("/together/pages_error", "percent_up"),
            )
    yield Markup(
        "<strong>“Not refuted” presumes a trainer who did not filter the canaries out</strong>, and an "
        "attacker no better than ours. ε belongs to the training procedure, and each verdict judges it by "
        "one adapter that it made. Every claim is about one adapter released alone."
    )
    if len(joins.private) > 1 and not joins.is_insecure:
        yield _composed(joins)
    if joins.open:
        yield say(
            "The non-private {adapters} ({arms}) must not be released.",
            adapters=adapters(joins.open),
            arms=codes([arm.arm for arm in joins.open]),
        )


def _composed(joins: Joins) -> Markup:
    together = joins.report.together
    if together and together.composed_epsilon is not None:
        others = ""
        if joins.report.run.same_data:
            others = " This sum holds no adapter of another run on the same data: see the top of the page."
        return say(
            "Anybody who receives all private adapters of this run together ({arms}) faces ε = {epsilon} at "
            "δ = {delta}.{others}",
            arms=codes([arm.arm for arm in joins.private]),
            others=others,
            epsilon=joins.num("/together/composed_epsilon", "two_up"),
            delta=joins.num("/together/composed_delta", "delta"),
        )
    return Markup(
        "Releasing several of them together spends more than any one claim; the composed ε is not among "
        "the figures of this run."
    )


def _declared(joins: Joins) -> Iterator[Markup]:
    """The claims that the run's record holds, with what `verify --run` said of them."""
    command = f"dpaudit verify --run {joins.report.run.name}"
    for at, claim in placed("/claims", joins.report.claims):
        verdict = say("not checked yet: type {command}", command=code(command))
        if claim.verdict is not None:
            verdict = say("{word}: {reason}", word=claim.verdict, reason=joins.num(f"{at}/reason"))
        yield say(
            "Claimed for {arm}: ε ≤ {epsilon} at δ = {delta}, <strong>{asked}</strong>: {verdict}.",
            arm=code(claim.arm),
            epsilon=joins.num(f"{at}/claim", "epsilon"),
            delta=joins.num(f"{at}/delta", "delta"),
            asked=asked(joins.num, at, claim),
            verdict=verdict,
        )


# ---- the verdicts in full


def _row(joins: Joins, audit: Placed[Membership]) -> VerdictRow:
    (at, finding), num = audit, joins.num
    alarmed, claims = is_alarmed(finding.blind), finding.claim is not None
    without = ABSENT
    if joins.has_control(finding.arm):
        without = num(f"{joins.promises[finding.arm].at}/control_epsilon_lower", "two_down")
    word = joins.word(finding.arm) or ABSENT
    return VerdictRow(
        at=at,
        arm=finding.arm,
        claimed=num(f"{at}/claim/epsilon", "epsilon") if claims else Markup("none"),
        proven=Markup("withheld") if alarmed else num(f"{at}/bound/epsilon_lower", "two_down"),
        without_noise=Markup("withheld") if alarmed else without,
        notion=finding.bound.notion.replace("eps,delta", "ε, δ") if finding.bound else "",
        blind=_blind(joins, audit),
        verdict=say("{mark} {word}", mark=mark(word), word=word) if claims else Markup("no claim"),
    )


def _blind(joins: Joins, audit: Placed[Membership]) -> Markup:
    blind = audit.part.blind
    if blind is None:
        return ABSENT
    if blind.auc is None:
        return say("{finding}", finding=blind.finding)
    alarm = Markup(" <strong>alarm</strong>") if blind.alarm else Markup("")
    return joins.num.area(f"{audit.at}/blind") + alarm


def _population(joins: Joins) -> Markup | None:
    for at, arm in joins.arms:
        if arm.private and arm.privacy.population_assumed:
            return say(
                "<strong>Assumed population:</strong> the suite declares none, so the expected number of "
                "training units, {population}, counted from the data, was used as if it were public.",
                population=joins.num(f"{at}/privacy/population", "count"),
            )
    return None


def _rules(joins: Joins) -> tuple[tuple[Markup, str], ...]:
    """Each guess rule in words, and the first recipe that has it."""
    rules: dict[str, tuple[Markup, str]] = {}
    for audit in joins.verdicts:
        if audit.part.bound:
            told = joins.num(f"{audit.at}/bound/rule", "text")
            rules.setdefault(audit.part.bound.rule, (told, audit.part.recipe))
    return tuple(rules.values())
