"""The one-run bound inside the family that DP-SGD belongs to: Poisson-sampled Gaussian noise of unknown
deviation.
"""

import math
from functools import lru_cache

import numpy as np
from dp_accounting import pld
from scipy.optimize import brentq

from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import fdp
from dpaudit.stats.epsilon import check_confidence, check_delta, check_guesses

NOTION = "f-DP/Poisson-sampled Gaussian family"

_INTERVAL = 1e-3  # nats, of the privacy loss distribution; its curve lies at or below the exact one
_GRID = 4000  # epsilons at which a curve is read
_NOISE_LEAST, _NOISE_MOST = 0.1, 1e3
_NOISE_ACCURACY = 1e-4  # relative


def epsilon_lower_fdp_subsampled(
    *,
    canaries: int,
    guesses: int,
    correct: int,
    delta: float,
    confidence: float,
    sampling_rate: float,
    steps: int,
) -> float:
    """Return the epsilon at `delta` of the largest noise that one run's guesses do not refute, in nats.

    `canaries`, `guesses`, `correct` as in `epsilon_lower_one_run`. Holds at `confidence` if training is
    `steps` steps of Gaussian noise on a sum of clipped contributions, each unit sampled with probability
    `sampling_rate` in each step, whatever the noise is; 0.0 where even a noise of a thousand clips is not
    refuted. Infinite where every noise down to a tenth of a clip is. Raises ValueError as
    `epsilon_lower_one_run` does, and for a rate outside (0, 1].
    """
    check_guesses(canaries, guesses, correct)
    check_delta(delta)
    check_confidence(confidence)

    def excess(log_noise: float) -> float:
        curve = needed(Mechanism(math.exp(log_noise), sampling_rate, steps, 1.0))
        return fdp.mass_needed(curve, canaries, guesses, correct, 1 - confidence) - 1

    if not guesses:
        return 0.0
    low = high = 0.0  # logarithms: not refuted at low, refuted at high
    while excess(high) <= 0:
        low, high = high, high + math.log(2)
        if high > math.log(_NOISE_MOST):
            return 0.0
    while low == high or excess(low) > 0:
        low, high = low - math.log(2), low
        if low < math.log(_NOISE_LEAST):
            return math.inf
    noise = math.exp(float(brentq(excess, low, high, xtol=_NOISE_ACCURACY)))
    return epsilon_spent(Mechanism(noise * (1 + _NOISE_ACCURACY), sampling_rate, steps, 1.0), delta)


@lru_cache(maxsize=64)  # it takes half a second; brackets ask for the same again
def needed(mechanism: Mechanism) -> fdp.Needed:
    """The trade-off curve of a mechanism, by its privacy loss distributions for a unit added and for one
    removed.

    Connect-the-dots discretisation (Doroshenko et al. 2022, arXiv 2207.04380): deltas are upper bounds, so
    the curve allows at least what the mechanism does.
    """
    loss = pld.privacy_loss_distribution.from_gaussian_mechanism(
        mechanism.noise_multiplier,
        value_discretization_interval=_INTERVAL,
        sampling_prob=mechanism.sampling_rate,
    ).self_compose(mechanism.steps)
    most = loss.get_epsilon_for_delta(1e-12)
    epsilons = np.linspace(0.0, min(most, 700.0), _GRID)
    return fdp.needed_of_deltas(epsilons.tolist(), np.asarray(loss.get_delta_for_epsilon(epsilons)).tolist())
