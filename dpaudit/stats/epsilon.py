"""Lower bounds on epsilon from what an attacker guessed, each at a stated confidence.

Every epsilon is in nats. Every lower bound is 0.0 where the guesses refute nothing. The caller counts a tie
between scores against the bound: as a wrong guess, a missed member or a false alarm.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln, erfcx, ndtr, xlog1py, xlogy  # scipy.stats takes a second to load

from dpaudit.stats.roc import proportion_lower, proportion_upper

_EPSILON_TOLERANCE = 1e-11  # nats


def p_value_one_run(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return the p-value of "training was (epsilon, delta)-private", in [0, 1]; small = refuted.

    `canaries` were included in one training run by independent fair coins; the attacker guessed the coins of
    `guesses` of them, abstaining on the rest, and got `correct` right. Holds for any mechanism and any
    attacker whose number of guesses was fixed before. Raises ValueError unless
    0 <= correct <= guesses <= canaries, epsilon >= 0 and delta is in [0, 1).

    Source: Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), Theorem 5.2 and Appendix D: with
    X ~ Binomial(guesses, e^eps / (e^eps + 1)),
    p = P[X >= correct] + 2 * canaries * delta * max_{i >= 1} P[correct > X >= correct - i] / i.
    """
    check_guesses(canaries, guesses, correct)
    check_delta(delta)
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"expected a finite epsilon >= 0, got {epsilon}")
    accuracy = 1 / (1 + math.exp(-epsilon))
    chance = _at_least(correct, guesses, accuracy)
    if delta == 0 or correct == 0 or chance >= 1:
        return min(chance, 1.0)
    return min(chance + 2 * canaries * delta * _slack(guesses, correct, accuracy), 1.0)


def _slack(guesses: int, correct: int, accuracy: float) -> float:
    """max_{i >= 1} P[correct > X >= correct - i] / i: the mean of the i probabilities below `correct`.

    They rise to one peak and fall: once their mean falls it rises no more, and the rest need not be looked
    at.
    """
    most = 512
    while True:
        places = np.arange(correct - 1, max(correct - 1 - most, -1), -1)
        means = np.cumsum(_exactly(places, guesses, accuracy)) / np.arange(1, len(places) + 1)
        largest = float(means.max())
        if len(places) == correct or means[-1] < largest:
            return largest
        most *= 4


def _at_least(correct: int, guesses: int, accuracy: float) -> float:
    """P[X >= correct], X ~ Binomial(guesses, accuracy)."""
    return float(betainc(correct, guesses - correct + 1, accuracy)) if correct > 0 else 1.0


def _exactly(correct: NDArray[np.int64], guesses: int, accuracy: float) -> NDArray[np.float64]:
    """P[X = each of `correct`], by way of the beta function: no binomial coefficient overflows."""
    wrong = guesses - correct
    logarithm = xlogy(correct, accuracy) + xlog1py(wrong, -accuracy) - betaln(correct + 1, wrong + 1)
    probabilities: NDArray[np.float64] = np.exp(logarithm) / (guesses + 1)
    return probabilities


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


def epsilon_lower_one_run(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float
) -> float:
    """Return the largest epsilon that one run's guesses refute, in nats; 0.0 where they refute none.

    With probability at least `confidence` over coins and training the true epsilon at `delta` is not below
    it. Arguments and errors are those of `p_value_one_run`, with confidence in (0, 1).

    Source: arXiv 2305.08846, Appendix D (the epsilon at which the p-value first reaches 1 - confidence).
    """
    check_guesses(canaries, guesses, correct)
    check_delta(delta)
    check_confidence(confidence)
    return _lower_one_run(canaries, guesses, correct, delta, confidence)


@lru_cache(maxsize=4096)
def _lower_one_run(canaries: int, guesses: int, correct: int, delta: float, confidence: float) -> float:
    """`epsilon_lower_one_run` of checked arguments: a search of some 40 p-values, cached, since every recipe
    and arm with as many guesses needs it.
    """

    def refuted(epsilon: float) -> bool:
        p_value = p_value_one_run(
            canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
        )
        return p_value < 1 - confidence

    return largest_refuted(refuted)


def epsilon_ceiling_one_run(*, canaries: int, guesses: int, delta: float, confidence: float) -> float:
    """Return the most that this many guesses could ever refute, in nats: the bound when all are right.

    A claim above the ceiling cannot be refuted by any attacker: the audit has no power against it.
    """
    return epsilon_lower_one_run(
        canaries=canaries, guesses=guesses, correct=guesses, delta=delta, confidence=confidence
    )


def epsilon_lower_clopper_pearson(
    *,
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    delta: float,
    confidence: float,
) -> float:
    """Return the epsilon refuted by independent runs with and without a canary, in nats; 0.0 for none.

    Each of the `positives` (`negatives`) is one independent trial in which the unit was in (out of)
    training; `true_positives` (`false_positives`) of them were called "in". The decision rule must have been
    fixed on other data. Raises ValueError unless 0 <= true_positives <= positives, likewise for negatives,
    delta is in [0, 1) and confidence in (0, 1).

    The bound is the larger of log((tpr_lower - delta) / fpr_upper) and its mirror
    log((1 - fpr_upper - delta) / (1 - tpr_lower)). The error 1 - confidence is split in two by Bonferroni
    between the one-sided Clopper-Pearson bounds tpr_lower and fpr_upper. Both directions rest on these same
    two bounds, so taking the larger costs no further split.

    Source: Nasr et al. 2021 (arXiv 2101.04535), section IV; Kairouz, Oh, Viswanath 2015, Theorem 2.1.
    """
    check_delta(delta)
    check_confidence(confidence)
    each = 1 - (1 - confidence) / 2
    tpr_lower = proportion_lower(true_positives, positives, each)
    fpr_upper = proportion_upper(false_positives, negatives, each)
    odds = max(_ratio(tpr_lower - delta, fpr_upper), _ratio(1 - fpr_upper - delta, 1 - tpr_lower))
    return math.log(odds) if odds > 1 else 0.0


def epsilon_gaussian(*, noise_multiplier: float, delta: float) -> float:
    """Return the exact epsilon of one Gaussian mechanism of sensitivity 1, in nats.

    `noise_multiplier` is the noise's standard deviation over the sensitivity. Infinite without noise or with
    delta 0; 0.0 where delta alone covers the mechanism. T full-batch steps of multiplier s are one of
    s / sqrt(T). Raises ValueError unless noise_multiplier >= 0 and delta is in [0, 1).

    Source: Balle and Wang 2018 (arXiv 1805.06530), Theorem 8.
    """
    check_delta(delta)
    if not noise_multiplier >= 0:
        raise ValueError(f"expected noise_multiplier >= 0, got {noise_multiplier}")
    if math.isinf(noise_multiplier) or _delta_gaussian(0.0, noise_multiplier) <= delta:
        return 0.0
    if noise_multiplier == 0 or delta == 0:
        return math.inf

    from scipy.optimize import brentq  # it takes half a second to load

    def excess(epsilon: float) -> float:
        return _delta_gaussian(epsilon, noise_multiplier) - delta

    upper = _doubled_until(lambda epsilon: excess(epsilon) <= 0)
    return float(brentq(excess, 0.0, upper, xtol=1e-14, rtol=1e-14))


def _delta_gaussian(epsilon: float, noise_multiplier: float) -> float:
    """Return delta(epsilon) of the Gaussian mechanism: arXiv 1805.06530, equation 6.

    e^eps * Phi(-half - shift) is written with erfcx, since 2 * half * shift = eps: nothing overflows.
    """
    if noise_multiplier == 0:
        return 1.0
    half, shift = 0.5 / noise_multiplier, epsilon * noise_multiplier
    lower_mass = 0.5 * erfcx((half + shift) / math.sqrt(2)) * math.exp(-((half - shift) ** 2) / 2)
    return float(ndtr(half - shift) - lower_mass)


def largest_refuted(refuted: Callable[[float], bool]) -> float:
    """Return the end of the refuted epsilons that start at 0, from below; 0.0 where 0 is not refuted."""
    if not refuted(0.0):
        return 0.0
    upper = _doubled_until(lambda epsilon: not refuted(epsilon))
    lower = 0.0
    while upper - lower > _EPSILON_TOLERANCE:
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if refuted(middle) else (lower, middle)
    return lower


def _doubled_until(reached: Callable[[float], bool]) -> float:
    value = 1.0
    while not reached(value):
        value *= 2
    return value


def _ratio(numerator: float, denominator: float) -> float:
    """Return the ratio of two probabilities, 0.0 where the numerator holds no evidence."""
    return numerator / denominator if numerator > 0 else 0.0


def check_guesses(canaries: int, guesses: int, correct: int) -> None:
    whole = all(float(count).is_integer() for count in (canaries, guesses, correct))
    if not (whole and 0 <= correct <= guesses <= canaries):
        raise ValueError(
            "expected whole 0 <= correct <= guesses <= canaries, "
            f"got correct={correct}, guesses={guesses}, canaries={canaries}"
        )


def check_delta(delta: float) -> None:
    if not 0 <= delta < 1:
        raise ValueError(f"expected delta in [0, 1), got {delta}")


def check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence in (0, 1), got {confidence}")
