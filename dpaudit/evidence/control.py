"""The arms without noise as an audit's positive control: whether its attack could refute a claim at all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dpaudit.evidence import blind
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.verdict import conclude, guess_limit
from dpaudit.findings.baselines import Blind
from dpaudit.findings.membership import (
    AsIfClaimed,
    Bound,
    ClaimRow,
    Membership,
    PositiveControl,
    Promise,
    Word,
)
from dpaudit.privacy.claim import Claim
from dpaudit.suite.grid import Arm, nonprivate

Audits = Mapping[Arm, Membership]  # what the primary recipe found on each arm; all have a bound


def row(audit: Membership) -> ClaimRow:
    """One line of the summary: arm, recipe, claim, bound and verdict."""
    bound = bound_of(audit)
    return ClaimRow(
        arm=audit.arm,
        recipe=audit.recipe,
        claim=audit.claim,
        epsilon_lower=bound.epsilon_lower,
        ceiling=bound.ceiling,
        confidence=bound.confidence,
        notion=bound.notion,
        verdict=audit.verdict.verdict,
        reason=audit.verdict.reason,
    )


def behind(arm: Arm, claim: Claim, audits: Audits) -> Promise:
    """The bound that an arm's claim promises, and this attack's result for the same claim on the arm without
    noise.

    That is the non-private arm of the same method and loss, else of SFT, and none where there is none.
    """
    beside = nonprivate(arm, list(audits))
    lower: float | None = None
    word: Word | None = None
    if beside is not None:
        lower, word = bound_of(audits[beside]).epsilon_lower, _word(claim, audits[beside])
    return Promise(
        arm=arm.name,
        epsilon=claim.epsilon,
        guess_right_at_most=guess_limit(claim.epsilon, claim.delta),
        control=beside.name if beside else None,
        control_is_alike=(beside.method, beside.loss) == (arm.method, arm.loss) if beside else None,
        control_epsilon_lower=lower,
        control_verdict=word,
    )


def _word(claim: Claim, audit: Membership) -> Word:
    return conclude(claim, Guesses.of_bound(bound_of(audit)), broken(audit.blind)).verdict


def of_claims(audits: Audits, claims: Sequence[Claim]) -> tuple[PositiveControl, ...]:
    """Each arm without noise, measured as if it made each claim of the run; its own row is that of the
    smallest.

    `weak` is whether it proves no more than the smallest claim: then "not refuted" tells nothing of any arm.
    """
    rising = sorted(set(claims), key=lambda claim: claim.epsilon)
    open_arms = [audit for audit in audits.values() if not audit.claim]
    return tuple(_control(audit, rising) for audit in open_arms) if rising else ()


def _control(audit: Membership, rising: Sequence[Claim]) -> PositiveControl:
    bound, smallest = bound_of(audit), rising[0]
    guesses, why = Guesses.of_bound(bound), broken(audit.blind)
    verdicts = [conclude(claim, guesses, why) for claim in rising]
    as_if = [AsIfClaimed(c.epsilon, v.verdict, v.reason) for c, v in zip(rising, verdicts, strict=True)]
    own = replace(row(audit), claim=smallest, verdict=as_if[0].verdict, reason=as_if[0].reason)
    return PositiveControl(
        **vars(own),
        claims=tuple(as_if),
        weak=bound.epsilon_lower <= smallest.epsilon,
        label="positive control: what the audit says of an un-noised adapter that claims "
        f"eps={smallest.epsilon:g}",
    )


def bound_of(audit: Membership) -> Bound:
    """The bound of an audit. Raises ValueError where its recipe has none: the primary one always has."""
    if audit.bound is None:
        raise ValueError(f"expected a bound, got no bound of {audit.recipe} on {audit.arm}")
    return audit.bound


def broken(baseline: Blind | None) -> str | None:
    """Why guesses prove nothing, by the blind baseline of their canaries, which had coins; None where the
    baseline is sound, or there is none.
    """
    is_broken = baseline is not None and baseline.alarm
    return blind.SUPPORTS_NOTHING["broken coins"] if is_broken else None
