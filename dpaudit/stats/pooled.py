"""A lower bound on epsilon from several trainings of one kind whose canaries share their coins.

Trainings that differ by their seed alone have the same canaries with the same coins, so what is guessed of
one depends on what is guessed of another in an unknown way. Each training gives a valid p-value; they are
merged by a rule that is valid however they depend on each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from scipy.optimize import brentq

from dpaudit.stats.epsilon import check_confidence, check_delta, largest_refuted, p_value_one_run

SEEDS_LEAST = 3  # of a statement about a method


@dataclass(frozen=True)
class Run:
    """What was guessed of the canaries of one training, as `p_value_one_run` takes it."""

    canaries: int
    guesses: int
    correct: int


def merged(p_values: Sequence[float]) -> float:
    """Return a p-value of "all that each of these tests is true", under any dependence, in [0, 1].

    The harmonic mean times a factor for which every dependence is covered. Raises ValueError for fewer than
    SEEDS_LEAST p-values.

    Source: Vovk and Wang 2020 (Biometrika 107, 791-808; arXiv 1212.4966), Proposition 6. Twice the
    arithmetic mean, from the same paper, is as valid and proves less: docs/verdict.md.
    """
    factor = _factor(len(p_values))
    if min(p_values) == 0:
        return 0.0
    mean = len(p_values) / math.fsum(1 / p for p in p_values)
    return min(factor * mean, 1.0)


@lru_cache
def _factor(count: int) -> float:
    """(y + K)^2 / (K (y + 1)), where y > 0 solves y^2 = K ((y + 1) log(y + 1) - y): Proposition 6."""
    if count < SEEDS_LEAST:
        raise ValueError(f"expected at least {SEEDS_LEAST} p-values, got {count}")

    def excess(y: float) -> float:
        return y * y - count * ((y + 1) * math.log1p(y) - y)

    most = 1.0
    while excess(most) <= 0:
        most *= 2
    y = float(brentq(excess, most / 2, most, xtol=1e-13, rtol=1e-14))
    return (y + count) ** 2 / (count * (y + 1))


def p_value_pooled(*, runs: Sequence[Run], epsilon: float, delta: float) -> float:
    """Return the p-value of "every one of these trainings was (epsilon, delta)-private", in [0, 1].

    Holds for any mechanism and any dependence of the trainings. Raises ValueError for fewer than SEEDS_LEAST
    runs, and as `p_value_one_run` does.
    """
    return merged([p_value_one_run(**vars(run), epsilon=epsilon, delta=delta) for run in runs])


def epsilon_lower_pooled(*, runs: Sequence[Run], delta: float, confidence: float) -> float:
    """Return the largest epsilon that these trainings together refute, in nats; 0.0 where they refute none.

    If every training of this kind is (epsilon, delta)-private, the bound exceeds that epsilon with
    probability at most 1 - confidence. Errors are those of `p_value_pooled`, with confidence in (0, 1).
    """
    check_delta(delta)
    check_confidence(confidence)

    def refuted(epsilon: float) -> bool:
        return p_value_pooled(runs=runs, epsilon=epsilon, delta=delta) < 1 - confidence

    return largest_refuted(refuted)


def epsilon_ceiling_pooled(*, runs: Sequence[Run], delta: float, confidence: float) -> float:
    """Return the bound if every guess in every training had been right, in nats."""
    perfect = [replace(run, correct=run.guesses) for run in runs]
    return epsilon_lower_pooled(runs=perfect, delta=delta, confidence=confidence)
