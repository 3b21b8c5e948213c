"""What an audit says of a claim. "Not refuted" is never to be worded "holds"."""

import math
from dataclasses import dataclass

from dpaudit.evidence.guesses import Guesses
from dpaudit.findings.membership import Word
from dpaudit.privacy.claim import Claim

EQUAL = "every canary has the same score: this model shows no trace of any of them"


@dataclass(frozen=True)
class Verdict:
    """One of three words, and the sentence that says why."""

    verdict: Word
    reason: str


def conclude(claim: Claim, guesses: Guesses, broken: str | None = None) -> Verdict:
    """The verdict of guesses on a claim: the one place where ties and broken coins are handled.

    `no power` where the guesses prove nothing, whatever was guessed: `broken` says why, or every canary has
    the same score, or ties leave too few guesses open; else as `compare`.
    """
    if broken is not None:
        return Verdict("no power", broken)
    if guesses.equal_scores:
        return Verdict("no power", EQUAL)
    reachable, ceiling = guesses.reachable(claim.delta), guesses.ceiling(claim.delta)
    if reachable <= claim.epsilon < ceiling:
        return Verdict(
            "no power",
            f"{guesses.guesses - guesses.correct_at_most} of {guesses.guesses} guesses are wrong by equal "
            f"scores: all others right would have proven {_down(reachable)}, no more than the claimed "
            f"{claim.epsilon:g}",
        )
    return compare(claim, guesses.lower(claim.delta), ceiling)


def compare(claim: Claim, epsilon_lower: float, ceiling: float) -> Verdict:
    """The verdict from a lower bound at the claim's delta and the ceiling, the bound if all guesses were
    right.

    `refuted` where the bound exceeds the claim; `no power` where even the ceiling would not; else `not
    refuted`. This presumes a trainer who did not filter canaries out. It does not say whether this attack
    could have come near the ceiling: the positive control does. Raises ValueError unless 0 <= epsilon_lower
    <= ceiling.
    """
    if not 0 <= epsilon_lower <= ceiling:
        raise ValueError(f"expected 0 <= epsilon_lower <= ceiling, got {epsilon_lower} and {ceiling}")
    if epsilon_lower > claim.epsilon:
        return Verdict(
            "refuted",
            f"the measured lower bound {_down(epsilon_lower)} is above the claimed {claim.epsilon:g}",
        )
    if ceiling <= claim.epsilon:
        return Verdict(
            "no power",
            f"all guesses right would have proven {_down(ceiling)}, no more than the claimed "
            f"{claim.epsilon:g}",
        )
    return Verdict(
        "not refuted",
        f"the measured lower bound {_down(epsilon_lower)} is not above the claimed {claim.epsilon:g}; "
        f"all guesses right would have proven {_down(ceiling)}",
    )


def _down(bound: float) -> str:
    """Rounded down to two places."""
    return f"{math.floor(bound * 100) / 100:.2f}" if math.isfinite(bound) else "inf"


def guess_limit(epsilon: float, delta: float) -> float:
    """The largest chance of guessing right, with fair coins, whether a unit was in, if the claim is true; in
    [0.5, 1].

    The largest accuracy (tpr + 1 - fpr) / 2 under tpr <= e^eps fpr + delta and its mirror: (e^eps + delta) /
    (e^eps + 1). Source: Kairouz, Oh, Viswanath 2015, Theorem 2.1.
    """
    odds = math.exp(-epsilon)
    return (1 + delta * odds) / (1 + odds)
