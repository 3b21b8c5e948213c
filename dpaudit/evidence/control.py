"""The arms without noise as an audit's positive control: whether its attack could refute a claim at all."""

from collections.abc import Mapping, Sequence

from dpaudit.evidence import blind
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.verdict import compare, guess_limit
from dpaudit.findings.baselines import Blind
from dpaudit.findings.membership import Bound, Membership, Word
from dpaudit.findings.together import AsIfClaimed, PositiveControl, Promise
from dpaudit.privacy.claim import Claim
from dpaudit.suite.grid import Arm, nonprivate

Audits = Mapping[Arm, Membership]  # what the primary recipe found on each arm; all have a bound


def behind(arm: Arm, claim: Claim, audits: Audits, confidence: float) -> Promise:
    """What an arm's claim promises, and this attack's bound, at `confidence`, on the arm without noise.

    That is the non-private arm of the same method and loss, else of SFT, and none where there is none.
    """
    beside = nonprivate(arm, list(audits))
    lower = guesses_of(audits[beside]).at(confidence).lower(claim.delta) if beside else None
    return Promise(
        arm=arm.name,
        epsilon=claim.epsilon,
        guess_right_at_most=guess_limit(claim.epsilon, claim.delta),
        control=beside.name if beside else None,
        control_is_alike=(beside.method, beside.loss) == (arm.method, arm.loss) if beside else None,
        control_epsilon_lower=lower,
    )


def of_claims(audits: Audits, claims: Sequence[Claim], confidence: float) -> tuple[PositiveControl, ...]:
    """Each arm without noise, measured at `confidence` as if it made each claim of the run.

    `weak` is whether it proves no more than the smallest claim: then "not refuted" by guesses tells nothing
    of any arm.
    """
    rising = sorted(set(claims), key=lambda claim: claim.epsilon)
    open_arms = [audit for audit in audits.values() if not audit.claim]
    return tuple(_control(audit, rising, confidence) for audit in open_arms) if rising else ()


def _control(audit: Membership, rising: Sequence[Claim], confidence: float) -> PositiveControl:
    guesses, smallest = guesses_of(audit).at(confidence), rising[0]
    lower = guesses.lower(smallest.delta)
    return PositiveControl(
        arm=audit.arm,
        epsilon_lower=lower,
        ceiling=guesses.ceiling(smallest.delta),
        confidence=confidence,
        claims=tuple(AsIfClaimed(claim.epsilon, _word(claim, guesses, audit.blind)) for claim in rising),
        weak=lower <= smallest.epsilon,
    )


def _word(claim: Claim, guesses: Guesses, baseline: Blind | None) -> Word:
    if broken(baseline) or guesses.equal_scores:
        return "no power"
    return compare(claim, guesses.lower(claim.delta), guesses.ceiling(claim.delta)).verdict


def guesses_of(audit: Membership) -> Guesses:
    """The guesses of an audit. Raises ValueError where its recipe has none: the primary one always has."""
    return Guesses.of_bound(bound_of(audit))


def bound_of(audit: Membership) -> Bound:
    """The bound of an audit. Raises ValueError where its recipe has none."""
    if audit.bound is None:
        raise ValueError(f"expected a bound, got no bound of {audit.recipe} on {audit.arm}")
    return audit.bound


def broken(baseline: Blind | None) -> str | None:
    """Why guesses prove nothing, by the blind baseline of their canaries, which had coins; None where the
    baseline is sound, or there is none.
    """
    is_broken = baseline is not None and baseline.alarm
    return blind.SUPPORTS_NOTHING["broken coins"] if is_broken else None
