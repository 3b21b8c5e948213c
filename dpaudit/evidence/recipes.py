"""The recipes of an arm corrected for their number: the strongest of many is strong by chance too."""

import math
from collections.abc import Sequence

from dpaudit.evidence.family import ERROR
from dpaudit.findings.membership import Bound, Membership, Scored
from dpaudit.findings.recipes import ArmRecipes, Corrected
from dpaudit.stats.holm import holm


def corrected(audits: Sequence[Membership]) -> tuple[ArmRecipes, ...]:
    """For each arm what all its recipes found, corrected over them. It decides no verdict: that is the
    primary recipe's, which was named beforehand.

    The p-values are corrected by Holm's method, the bounds by Bonferroni's, the first step of Holm's: all
    bounds of an arm hold together.
    """
    arms = dict.fromkeys(audit.arm for audit in audits)
    return tuple(_of_arm(arm, [audit for audit in audits if audit.arm == arm]) for arm in arms)


def _of_arm(arm: str, audits: Sequence[Membership]) -> ArmRecipes:
    confidence = 1 - ERROR / len(audits)
    p_values = [p_value(audit.canaries) for audit in audits]
    each = tuple(
        Corrected(audit.recipe, raw, adjusted, _lower(audit, confidence))
        for audit, raw, adjusted in zip(audits, p_values, holm(p_values), strict=True)
    )
    claims = {audit.claim.epsilon for audit in audits if audit.claim}
    above = [row.recipe for row in each if claims and (row.epsilon_lower or 0) > min(claims)]
    return ArmRecipes(
        arm=arm,
        strongest=min(each, key=lambda row: (row.p_value, -(row.epsilon_lower or 0))).recipe,
        tell=sum(row.p_holm <= ERROR for row in each),
        recipes=len(each),
        epsilon_lower=max((row.epsilon_lower for row in each if row.epsilon_lower is not None), default=None),
        above_claim=tuple(above),
        error=ERROR,
        confidence=confidence,
        each=each,
    )


def p_value(scored: Scored) -> float:
    """Of "scores tell members from others no better than chance", one-sided, since a higher score was said
    beforehand to mean a member: the normal approximation of Mann and Whitney (1947). Ties make it larger than
    it need be. 1 where there are no members or no others.
    """
    members, others = scored.members, scored.n - scored.members
    if not members or not others:
        return 1.0
    spread = math.sqrt((members + others + 1) / (12 * members * others))
    return 0.5 * math.erfc((scored.auc - 0.5) / spread / math.sqrt(2))


def _lower(audit: Membership, confidence: float) -> float | None:
    """What the guesses prove at that confidence; None without a bound, or from coins that texts reveal."""
    if audit.bound is None or (audit.blind is not None and audit.blind.alarm):
        return None
    return _bound_at(audit.bound, confidence)


def _bound_at(bound: Bound, confidence: float) -> float:
    from dpaudit.stats.epsilon import epsilon_lower_one_run  # it loads NumPy

    return epsilon_lower_one_run(
        canaries=bound.canaries,
        guesses=bound.guesses,
        correct=bound.correct,
        delta=bound.delta,
        confidence=confidence,
    )
