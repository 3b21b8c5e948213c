"""The power of an audit: how strong a violation must be for its guesses to refute a claim."""

import math

from scipy.optimize import brentq
from scipy.stats import binom

from dpaudit.findings.verification import Detection
from dpaudit.stats.epsilon import least_right

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
