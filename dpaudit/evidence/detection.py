"""The power of an audit: how strong a violation must be for its guesses to refute a claim."""

import math

from scipy.optimize import brentq
from scipy.stats import binom

from dpaudit.findings.verification import Detection
from dpaudit.stats.epsilon import p_value_one_run

PROBABILITY = 0.8


def of_one_run(*, canaries: int, guesses: int, epsilon: float, delta: float, confidence: float) -> Detection:
    """What refutes the claim (epsilon, delta), for an attacker who guesses as well as pure epsilon-privacy
    allows.

    Right guesses are then binomial with chance e^x / (e^x + 1) each, as under randomised response.
    """

    needed = least_right(
        canaries=canaries, guesses=guesses, epsilon=epsilon, delta=delta, error=1 - confidence
    )
    if needed is None:
        return Detection(None, None, PROBABILITY)

    def short(strength: float) -> float:
        return float(binom.sf(needed - 1, guesses, 1 / (1 + math.exp(-strength)))) - PROBABILITY

    return Detection(needed, float(brentq(short, 0.0, 60.0)), PROBABILITY)


def least_right(*, canaries: int, guesses: int, epsilon: float, delta: float, error: float) -> int | None:
    """The least number of right guesses whose p-value at the claim is at most `error`; None where all of
    them right would not do.
    """

    def refutes(correct: int) -> bool:
        p_value = p_value_one_run(
            canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
        )
        return p_value <= error

    if not guesses or not refutes(guesses):
        return None
    low, high = -1, guesses  # refutes(high), and not refutes(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refutes(middle) else (middle, high)
    return high
