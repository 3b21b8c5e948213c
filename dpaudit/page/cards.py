"""The answer for each arm: its verdict in a sentence, what weakens it, and other figures of the arm."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.membership import Membership
from dpaudit.page.answers import sentences
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, placed, say
from dpaudit.page.phrases import is_alarmed, mark


@dataclass(frozen=True)
class Card:
    """The answer for one arm."""

    css: str
    arm: str
    claimed: Markup
    mark: Markup
    word: str
    sentences: tuple[Markup, ...]
    beside: tuple[Markup, ...]  # other figures of the arm


def cards(joins: Joins) -> tuple[Card, ...]:
    """The arms that claim something, then those that claim nothing."""
    claiming = [_card(joins, audit) for audit in joins.claiming]
    return (*claiming, *(_control_card(joins, audit) for audit in joins.unclaiming))


def _card(joins: Joins, audit: Placed[Membership]) -> Card:
    at, finding = audit
    answer = joins.answers.get(finding.arm)
    word = answer.part.verdict if answer else ""
    epsilon = joins.num(f"{at}/claim/epsilon", "epsilon")
    claims = "target ε = {epsilon}, not claimed" if joins.is_insecure else "claims ε ≤ {epsilon}"
    return Card(
        css=word.replace(" ", "-"),
        arm=finding.arm,
        claimed=say(claims, epsilon=epsilon),
        mark=mark(word),
        word=word or "not concluded",
        sentences=tuple(sentences(joins.num, answer)) if answer else (_not_concluded(joins),),
        beside=tuple(_beside(joins, audit)),
    )


def _not_concluded(joins: Joins) -> Markup:
    command = code(joins.report.stages.audit.command)
    return say("The answer is out of date or was never given: type {command}.", command=command)


def _beside(joins: Joins, audit: Placed[Membership]) -> Iterator[Markup]:
    """Other figures of the arm, for readers of its card alone."""
    (at, finding), num = audit, joins.num
    if finding.arm in joins.promises:
        yield say(
            "{noun} in plain words: of fair coins that put one {unit} in or out, nobody guesses more than "
            "{limit} right",
            noun="Target" if joins.is_insecure else "Claim",
            unit=joins.report.run.unit,
            limit=num(f"{joins.promises[finding.arm].at}/guess_right_at_most", "percent_two_up"),
        )
    yield say("Membership attack, AUC {auc}", auc=num.area(f"{at}/canaries"))
    if finding.arm in joins.extraction:
        out = num.counted(joins.extraction[finding.arm].at, "planted_found", "planted")
        yield say("Planted secrets out: {out}", out=out)
    if finding.arm in joins.quality and joins.quality[finding.arm].part.bits_per_byte:
        bits = num(f"{joins.quality[finding.arm].at}/bits_per_byte/value", "three")
        yield say("Held-out text: {bits} bits per byte", bits=bits)


# ---- the arms that claim nothing


def _control_card(joins: Joins, audit: Placed[Membership]) -> Card:
    return Card(
        css="control",
        arm=audit.part.arm,
        claimed=Markup("claims nothing"),
        mark=Markup(""),
        word="must not be released",
        sentences=tuple(_of_control(joins, audit)),
        beside=tuple(_beside(joins, audit)),
    )


def _of_control(joins: Joins, audit: Placed[Membership]) -> Iterator[Markup]:
    at, finding = audit
    lower = joins.num(f"{at}/bound/epsilon_lower", "two_down")
    together = joins.report.together
    shown = [
        control
        for control in placed("/together/positive_control", together.positive_control if together else ())
        if control.part.arm == finding.arm
    ]
    if is_alarmed(finding.blind):
        yield Markup(
            "Trained without noise, beside the private adapters, to show what the attack can find. With "
            "broken coins it shows nothing. This adapter has no protection and must not be released."
        )
    elif finding.bound and finding.bound.epsilon_lower <= 0:
        yield Markup(
            "Trained without noise, beside the private adapters, to show what the attack can find. "
            "<strong>It finds nothing: nothing was proven even here.</strong> So “not refuted” says "
            "nothing about the other adapters. This adapter still has no protection and must not be "
            "released."
        )
    elif not shown:
        yield say(
            "Trained without noise: an ε of at least {lower} is proven. It has no protection and must not "
            "be released.",
            lower=lower,
        )
    for control_at, control in shown if finding.bound and not _is_silent(finding) else []:
        yield _strength(control.weak, lower)
        claims = [
            say(
                "ε ≤ {epsilon} <strong>{verdict}</strong>",
                epsilon=joins.num(f"{claim_at}/epsilon", "epsilon"),
                verdict=claim.verdict,
            )
            for claim_at, claim in placed(f"{control_at}/claims", control.claims)
        ]
        yield say(
            "If it had made the claims of this run: {claims}. It has no protection and must not be released.",
            claims=Markup("; ").join(claims),
        )


def _is_silent(finding: Membership) -> bool:
    """Whether an arm without noise shows nothing."""
    return is_alarmed(finding.blind) or finding.bound is None or finding.bound.epsilon_lower <= 0


def _strength(weak: bool, lower: Markup) -> Markup:
    if weak:
        return say(
            "Trained without noise, beside the private adapters, to show what the attack can find. "
            "<strong>It finds little, a weak control:</strong> an ε of at least {lower}, which is not "
            "above the smallest claim of this run. So this attack cannot tell an adapter without noise "
            "from an adapter that keeps its claim, and “not refuted” says nothing about the others.",
            lower=lower,
        )
    return say(
        "Trained without noise, beside the private adapters, to show what the attack can find: an ε of at "
        "least {lower} is proven.",
        lower=lower,
    )
