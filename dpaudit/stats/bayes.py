"""A credible interval on epsilon. It is shown beside the bounds and refutes nothing: it has no stated error
rate.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta

from dpaudit.stats.epsilon import check_confidence, check_delta
from dpaudit.stats.roc import Interval

_EPSILON_MOST = 500.0  # nats
_NODES = 300  # a part; the error is below 1e-7 nats


def epsilon_credible(
    *,
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    delta: float,
    confidence: float,
) -> Interval:
    """Return the central credible interval of epsilon at `delta`, in nats, given one attack's errors.

    Arguments as in `epsilon_lower_clopper_pearson`. Independent Jeffreys priors on both error rates; epsilon
    is below x where both rates lie in the region that (x, delta)-privacy allows. Raises ValueError for counts
    out of range.

    Source: Zanella-Beguelin et al. 2023 (arXiv 2206.05199), section 3.
    """
    check_delta(delta)
    check_confidence(confidence)
    if not (0 <= true_positives <= positives and 0 <= false_positives <= negatives):
        raise ValueError(
            f"expected counts within their totals, got {true_positives} of {positives}, {false_positives} of "
            f"{negatives}"
        )
    missed = beta(0.5 + positives - true_positives, 0.5 + true_positives)
    alarms = beta(0.5 + false_positives, 0.5 + negatives - false_positives)

    def private(epsilon: float) -> float:
        return _chance_allowed(missed, alarms, epsilon, delta)

    tail = (1 - confidence) / 2
    return Interval(_quantile(private, tail), _quantile(private, 1 - tail))


def _chance_allowed(missed: Any, alarms: Any, epsilon: float, delta: float) -> float:
    """P[both rates lie in the privacy region], by Gauss' rule over the first one's quantiles, between the
    kinks.
    """
    odds = math.exp(epsilon)
    corner = (1 - delta) / (1 + odds)  # where two of the region's lines meet
    kinks = np.clip([0.0, corner, 1 - corner, delta, 1 - delta, 1.0], 0.0, 1.0)
    points = np.unique(missed.cdf(kinks))
    nodes, weights = _rule()
    halves = np.diff(points)[:, None] / 2
    rate = missed.ppf(points[:-1, None] + halves * (1 + nodes))  # (parts, nodes)
    low = np.maximum(0.0, np.maximum(1 - delta - rate * odds, (1 - delta - rate) / odds))
    high = np.minimum(1.0, np.minimum(1 + (delta - rate) / odds, delta + (1 - rate) * odds))
    return float(np.sum(halves * weights * (alarms.cdf(high) - alarms.cdf(low))))


@cache
def _rule() -> Any:
    return np.polynomial.legendre.leggauss(_NODES)


def _quantile(private: Callable[[float], float], share: float) -> float:
    if private(0.0) >= share:
        return 0.0
    most = 1.0
    while private(most) < share:
        most *= 2
        if most > _EPSILON_MOST:
            return math.inf
    return float(brentq(lambda epsilon: private(epsilon) - share, 0.0, most, xtol=1e-9))
