"""What released sums along canaries prove of a claim: the one-run bound and the mechanism test, each with its
notion.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dpaudit.findings.inside import Caught, MechanismTest, OneRun
from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import mechanism as mechanism_test
from dpaudit.stats import weighted

ONE_RUN = "(eps,delta)"
CHANCE = 0.8  # with which the breach that `caught` returns is detected
POWER_DRAWS = 1000


def family(claimed: Mechanism) -> mechanism_test.SampledGaussian:
    return mechanism_test.SampledGaussian(claimed.noise_multiplier, claimed.sampling_rate, claimed.steps)


def bounded(
    observed: NDArray[np.floating],
    included: NDArray[np.bool_],
    claimed: Mechanism,
    claim: Claim,
    confidence: float,
) -> OneRun:
    """The one-run bound from sums over the clip, (steps, canaries), and fair coins, (canaries,).

    Scores are those of the claimed mechanism, and so are the weights that guesses have by their rank: both
    are fixed before a sum is seen.
    """
    of = family(claimed)
    weights = weighted.weights_frozen(of, included.size, claim.delta, confidence)
    right = weighted.right_weight(mechanism_test.scores(observed, of), included, weights)
    lower = weighted.epsilon_lower_weighted(
        weights=weights, right=right, delta=claim.delta, confidence=confidence
    )
    ceiling = weighted.epsilon_ceiling_weighted(weights=weights, delta=claim.delta, confidence=confidence)
    guesses, share = int(np.count_nonzero(weights)), right / int(np.abs(weights).sum())
    return OneRun(ONE_RUN, lower, ceiling, guesses, share)


def tested(
    observed: NDArray[np.floating],
    included: NDArray[np.bool_],
    claimed: Mechanism,
    claim: Claim,
    confidence: float,
    draws: int = mechanism_test.DRAWS,
) -> MechanismTest:
    """The mechanism test of the same sums. Its epsilon is of this training alone, without the claim's earlier
    stages.
    """
    test = mechanism_test.test(observed, included, family(claimed), confidence, draws)
    acting = replace(claimed, stages=())
    lower = 0.0
    if math.isfinite(test.noise_upper):
        lower = epsilon_spent(replace(acting, noise_multiplier=test.noise_upper), claim.delta)
    return MechanismTest(mechanism_test.FAMILY, lower, test.noise_upper, test.p_value, test.auc)


def power(
    claimed: Mechanism, canaries: int, confidence: float, share: float, rate: float | None = None
) -> float:
    """The chance that the mechanism test refutes a training with `share` of the claimed noise, in [0, 1], at
    the claimed `rate` or the one that was seen.
    """
    of = family(claimed)
    acting = replace(of, noise_multiplier=of.noise_multiplier * share, sampling_rate=rate or of.sampling_rate)
    return mechanism_test.power(acting, of, canaries, confidence)


def caught(
    claimed: Mechanism, delta: float, canaries: int, confidence: float, rate: float | None = None
) -> Caught:
    """The least breach in noise that the mechanism test catches with probability CHANCE at the claimed steps,
    and the claimed `rate` or the one that was seen.

    Looked for down to a sixtieth of the claimed noise, to one part in fifty; that least noise where nothing
    above it is caught so often.
    """
    of = family(claimed)

    def often(noise: float) -> bool:
        acting = replace(of, noise_multiplier=noise, sampling_rate=rate or of.sampling_rate)
        return mechanism_test.power(acting, of, canaries, confidence, POWER_DRAWS) >= CHANCE

    lower, upper = of.noise_multiplier / 60, of.noise_multiplier
    while upper / lower > 1.02:
        middle = math.sqrt(lower * upper)
        lower, upper = (middle, upper) if often(middle) else (lower, middle)
    acting = replace(claimed, noise_multiplier=lower, stages=())
    return Caught(lower, epsilon_spent(acting, delta), CHANCE)
