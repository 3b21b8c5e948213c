"""Lower bounds on epsilon from an attack's guesses, as findings; no run is needed.

Epsilons are in nats, and 0.0 where nothing is refuted. A bound stands beside its ceiling: what the same
guesses would prove, had all been right. A claim above the ceiling cannot be refuted by them, and then a low
bound is no good news. How many guesses are made, and by which rule, is fixed before scores are read.
"""

import numpy as np
from numpy.typing import ArrayLike

from dpaudit.evidence import detection
from dpaudit.evidence.guesses import Guesses, guess
from dpaudit.findings.membership import FamilyBound, Proven
from dpaudit.findings.verification import Detection
from dpaudit.stats import epsilon as of_epsilon

CONFIDENCE = 0.95


def one_run(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE
) -> Proven:
    """What the guesses of one run prove of any mechanism at `delta`, at that confidence.

    Each of `canaries` was put into the data or left out by a fair coin of its own; `guesses` coins were
    guessed, `correct` of them rightly, ties counted as wrong. Raises ValueError unless
    0 <= correct <= guesses <= canaries, delta is in [0, 1) and confidence in (0, 1).

    Source: Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), Theorem 5.2 and Appendix D.
    """
    counted = Guesses(canaries, guesses, correct, guesses, False, confidence)
    return Proven(**counted.bound(delta))


def of_scores(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    guesses: int,
    delta: float,
    confidence: float = CONFIDENCE,
) -> Proven:
    """The same of an attack's scores: the `guesses` canaries with the highest scores are called included.

    `scores` and `included` have shape (canaries,); a higher score = more likely included, and `included` is
    0 or 1. Raises ValueError for other shapes, a score that is no number, and as `one_run` does.
    """
    values, coins = np.asarray(scores, dtype=np.float64), np.asarray(included)
    if values.ndim != 1 or values.shape != coins.shape or not len(values):
        raise ValueError(f"expected two arrays of shape (canaries,), got {values.shape} and {coins.shape}")
    if np.isnan(values).any() or not np.isin(coins, (0, 1)).all():
        raise ValueError("expected scores that are numbers and coins of 0 or 1")
    if not 0 <= guesses <= len(values):
        raise ValueError(f"expected guesses in [0, {len(values)}], got {guesses}")
    return Proven(**guess(values, coins.astype(bool), (guesses, 0), confidence).bound(delta))


def gaussian_family(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE
) -> FamilyBound:
    """The bound of `one_run` if the training hides a unit as one Gaussian mechanism does: larger, and outside
    of that family it says nothing; None at delta 0. Never put it beside `one_run` without its `notion`.

    Source: Mahloujifar, Melis, Chaudhuri 2024 (arXiv 2410.22235), Algorithm 3.
    """
    return Guesses(canaries, guesses, correct, guesses, False, confidence).in_family(delta)


def p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The p-value of "training was (epsilon, delta)-private", in [0, 1]; small = refuted. As `one_run`, whose
    bound is the epsilon at which it first reaches 1 - confidence.
    """
    return of_epsilon.p_value_one_run(
        canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
    )


def power(
    *, canaries: int, guesses: int, epsilon: float, delta: float, confidence: float = CONFIDENCE
) -> Detection:
    """How many of so many guesses must be right to refute the claim, and from which epsilon on they are with
    a chance of `probability`; None where all of them right would not do.
    """
    return detection.of_one_run(
        canaries=canaries, guesses=guesses, epsilon=epsilon, delta=delta, confidence=confidence
    )


def many_runs(
    *,
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    delta: float,
    confidence: float = CONFIDENCE,
) -> float:
    """The epsilon that trainings of their own, with and without a canary, refute. The rule that calls one
    "with" was fixed on others. Raises ValueError for counts out of range.

    Source: Nasr et al. 2021 (arXiv 2101.04535), section IV.
    """
    return of_epsilon.epsilon_lower_clopper_pearson(
        true_positives=true_positives,
        positives=positives,
        false_positives=false_positives,
        negatives=negatives,
        delta=delta,
        confidence=confidence,
    )
