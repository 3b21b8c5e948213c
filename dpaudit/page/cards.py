"""The answer for each arm: its verdict in a sentence, what weakens it, and other figures of the arm."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.inside import Inside
from dpaudit.findings.membership import Membership
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, placed, say
from dpaudit.page.phrases import blind_auc, is_alarmed, mark

NO_BETTER, UNKNOWN = "nor would it be without noise", "power unknown"


@dataclass(frozen=True)
class Card:
    """The answer for one arm."""

    css: str
    arm: str
    claimed: Markup
    mark: Markup
    word: str
    aside: str | None  # what weakens the word
    sentences: tuple[Markup, ...]
    beside: tuple[Markup, ...]  # other figures of the arm


def cards(joins: Joins) -> tuple[Card, ...]:
    """The arms that claim something, then those that claim nothing."""
    claiming = [_card(joins, audit) for audit in joins.claiming]
    return (*claiming, *(_control_card(joins, audit) for audit in joins.unclaiming))


def _card(joins: Joins, audit: Placed[Membership]) -> Card:
    at, finding = audit
    word = finding.verdict.verdict or ""
    epsilon = joins.num(f"{at}/claim/epsilon", "epsilon")
    claims = "target ε = {epsilon}, not claimed" if joins.is_insecure else "claims ε ≤ {epsilon}"
    return Card(
        css=word.replace(" ", "-"),
        arm=finding.arm,
        claimed=say(claims, epsilon=epsilon),
        mark=mark(word),
        word=word,
        aside=_aside(joins, finding.arm, word),
        sentences=(*_answer(joins, audit), *_seen_inside(joins, finding.arm)),
        beside=tuple(_beside(joins, audit)),
    )


def _aside(joins: Joins, arm: str, word: str) -> str | None:
    if word != "not refuted" or joins.would_be_refuted(arm):
        return None
    return NO_BETTER if joins.has_control(arm) else UNKNOWN


def _answer(joins: Joins, audit: Placed[Membership]) -> Iterator[Markup]:
    """What the verdict says, and whether this attack could have said anything else."""
    at, finding = audit
    num, word = joins.num, finding.verdict.verdict
    ceiling = num(f"{at}/bound/ceiling", "two_down")
    if word == "refuted":
        yield say(
            "The claim is false: the right guesses of the attack prove an ε of at least {lower}, with "
            "{confidence} confidence. This relies on nothing that the trainer says. Do not release this "
            "adapter under this claim.",
            lower=num(f"{at}/bound/epsilon_lower", "two_down"),
            confidence=num(f"{at}/bound/confidence", "percent"),
        )
    elif word == "not refuted":
        yield say(
            "Nothing that was measured contradicts the claim. {proved}; if all its guesses had been right, "
            "it would have proven {ceiling}, more than the claim. It is not a proof that the claim is true.",
            proved=_proved(joins, audit),
            ceiling=ceiling,
        )
        yield _power(joins, finding.arm)
    elif is_alarmed(finding.blind):
        yield Markup(
            "This audit cannot tell: its coins are broken, so neither right nor wrong guesses prove "
            "anything. Repair the coins and run again."
        )
    else:
        yield _cannot_tell(joins, audit)


def _cannot_tell(joins: Joins, audit: Placed[Membership]) -> Markup:
    at, finding = audit
    below = ""
    if finding.bound and finding.claim and finding.bound.ceiling <= finding.claim.epsilon:
        below = ", which is not above the claim"
    return say(
        "This audit cannot tell. {proved}, and with this guess rule and this number of canaries it could "
        "have proven at most {ceiling}{below}. This says nothing for the claim, and nothing against it.",
        proved=_proved(joins, audit),
        ceiling=joins.num(f"{at}/bound/ceiling", "two_down"),
        below=below,
    )


def _proved(joins: Joins, audit: Placed[Membership]) -> Markup:
    at, finding = audit
    lower = joins.num(f"{at}/bound/epsilon_lower", "two_down")
    if finding.bound and finding.bound.epsilon_lower > 0:
        return say("The attack proved an ε of at least {lower}", lower=lower)
    return say("The attack proved nothing (ε&nbsp;≥&nbsp;{lower})", lower=lower)


def _power(joins: Joins, arm: str) -> Markup:
    """Whether this very attack can be expected to find a violation: what it says of the same claim without
    noise.
    """
    if not joins.has_control(arm):
        return Markup(
            "No adapter trained without noise was audited beside it. So it is not known whether this "
            "attack would have refuted the claim without any noise."
        )
    at, promise = joins.promises[arm]
    parts = {
        "control": code(promise.control or ""),
        "lower": joins.num(f"{at}/control_epsilon_lower", "two_down"),
    }
    if promise.control_verdict == "refuted":
        unlike = (
            " That adapter was trained in another way, so it is not known whether the attack works on an "
            "adapter like this."
        )
        return say(
            "On {control}, trained without noise, the same attack proved an ε of at least {lower}: there "
            "this claim would be refuted.{unlike}",
            unlike="" if promise.control_is_alike else unlike,
            **parts,
        )
    return say(
        "<strong>This attack would not have refuted the claim without noise either:</strong> on {control}, "
        'trained without noise, it proved no more than {lower}. So "not refuted" says next to nothing '
        "here.{unlike}",
        unlike="" if promise.control_is_alike else " That adapter was also trained in another way.",
        **parts,
    )


def _seen_inside(joins: Joins, arm: str) -> Iterator[Markup]:
    for at, finding in placed("/inside", joins.report.inside):
        if finding.arm == arm:
            yield _of_inside(joins, at, finding)


def _of_inside(joins: Joins, at: str, finding: Inside) -> Markup:
    if finding.ledger == "refuted":
        return Markup(
            '<strong>Its ledger is refuted:</strong> <a href="#inside">seen from inside</a>, training did '
            "not run the mechanism that the claim rests on. Do not release this adapter under this claim."
        )
    return say(
        '<a href="#inside">Seen from inside</a>, nothing contradicts its ledger: no check failed. If only '
        "the noise could be wrong, it really spent an ε of at least {lower}, with {confidence} confidence. "
        "Unlike the bound of the verdict, this one does not hold for any mechanism.",
        lower=joins.num(f"{at}/mechanism_test/epsilon_lower", "two_down"),
        confidence=joins.num(f"{at}/confidence", "percent"),
    )


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
    yield say("Membership attack, AUC {auc}", auc=blind_auc(num, f"{at}/canaries"))
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
        aside=None,
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
