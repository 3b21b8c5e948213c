"""What an audit says of a claim. "Not refuted" is never to be worded "holds"."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpaudit.findings.answers import Before, Question
from dpaudit.findings.membership import Word
from dpaudit.privacy.claim import Claim

NOTHING_ASKED = "no question could be asked of this claim"
EQUAL = "every canary has the same score: this model shows no trace of any of them"


@dataclass(frozen=True)
class Verdict:
    """One of three words, and the sentence that says why."""

    verdict: Word
    reason: str


def conclude(
    questions: Sequence[Question],
    failed: Sequence[str] = (),
    unseen: Sequence[str] = (),
    before: Sequence[Before] = (),
) -> Verdict:
    """The verdict on a claim: the one place where its word is chosen.

    `refuted` where a question refutes at its level, something `failed` that is near certain, or one of the
    runs `before` that this one repeats is refuted; `not refuted` where nothing of these is so and a question
    was shown able to; else `no power`, also where power is unknown. The sentence names what was looked at
    without power, and what was `unseen`: trainings that the claim rests on and that were not looked at from
    inside.
    """
    refuting = [question for question in questions if question.refutes]
    stays = [f"{run.run}, which this run repeats, is refuted: {run.reason}" for run in before if _stays(run)]
    if failed or refuting or stays:
        return Verdict("refuted", "; ".join([*failed, *(_found(question) for question in refuting), *stays]))
    able = [question for question in questions if question.is_shown_able]
    weak = [_unable(question) for question in questions if not question.is_shown_able]
    beyond = [f"not looked at from inside: {training}" for training in unseen]
    if able:
        caught = "; ".join(f"{q.violation} {_seen_from(q)}, with probability {share(q.power)}" for q in able)
        told = [f"nothing contradicts the claim; the audit would have caught: {caught}"]
        told += [f"it cannot tell {text}" for text in weak]
        return Verdict("not refuted", "; ".join([*told, *beyond]))
    return Verdict("no power", "; ".join([*(weak or [NOTHING_ASKED]), *beyond]))


def kept(own_page: Verdict | None, here: Verdict) -> Verdict:
    """The verdict on a claim of a run that is repeated: that of its own page, unless the family of the repeat
    refutes it. What either has refuted stays refuted.
    """
    is_refuted_here = here.verdict == "refuted" and (own_page is None or own_page.verdict != "refuted")
    return here if own_page is None or is_refuted_here else own_page


def _stays(before: Before) -> bool:
    return before.verdict == "refuted"


def _found(question: Question) -> str:
    tested = f"p = {question.p_value:.2g}, tested at {question.level:.2g}"
    if question.side == "inside":
        return (
            f"{_seen_from(question)}, training did not run the claimed mechanism ({tested}); it holds "
            f"within the family of sampled Gaussian noise"
        )
    proven = rounded_down(question.epsilon_lower or 0.0)
    return f"from outside, the guesses prove an epsilon of {proven} ({tested})"


def _unable(question: Question) -> str:
    place = _seen_from(question)
    if question.note:
        return f"{place}: {question.note}"
    power = share(question.power)
    return f"{place}: {question.violation} would have been caught with probability {power} only"


def _seen_from(question: Question) -> str:
    return "from outside" if question.side == "outside" else f"seen from inside {question.arm}"


def share(power: float | None) -> str:
    """A probability, rounded down to two places."""
    return f"{math.floor((power or 0.0) * 100) / 100:.2f}"


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
            f"the measured lower bound {rounded_down(epsilon_lower)} is above the claimed {claim.epsilon:g}",
        )
    if ceiling <= claim.epsilon:
        return Verdict(
            "no power",
            f"all guesses right would have proven {rounded_down(ceiling)}, no more than the claimed "
            f"{claim.epsilon:g}",
        )
    return Verdict(
        "not refuted",
        f"the measured lower bound {rounded_down(epsilon_lower)} is not above the claimed {claim.epsilon:g}; "
        f"all guesses right would have proven {rounded_down(ceiling)}",
    )


def rounded_down(bound: float) -> str:
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
