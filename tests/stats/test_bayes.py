import math

import numpy as np
import pytest

from dpaudit.stats import bayes

COUNTS = {"true_positives": 90, "positives": 100, "false_positives": 10, "negatives": 100}


@pytest.mark.parametrize(
    "counts",
    [
        COUNTS,
        COUNTS | {"true_positives": 100, "false_positives": 0},
        COUNTS | {"true_positives": 55, "false_positives": 45},
        COUNTS | {"true_positives": 5, "false_positives": 60},
    ],
)
def test_quantiles_are_those_of_draws_from_the_posterior(counts: dict[str, int]) -> None:
    random, size, delta = np.random.default_rng(3), 1_000_000, 1e-3
    missed = random.beta(
        0.5 + counts["positives"] - counts["true_positives"], 0.5 + counts["true_positives"], size
    )
    alarms = random.beta(
        0.5 + counts["false_positives"], 0.5 + counts["negatives"] - counts["false_positives"], size
    )
    tiny = 1e-300
    drawn = np.log(
        np.maximum.reduce(
            [
                np.maximum(1 - delta - missed, tiny) / alarms,
                np.maximum(1 - delta - alarms, tiny) / missed,
                np.maximum(missed - delta, tiny) / (1 - alarms),
                np.maximum(alarms - delta, tiny) / (1 - missed),
                np.ones(size),
            ]
        )
    )
    found = bayes.epsilon_credible(**counts, delta=delta, confidence=0.9)
    for value, share in ((found.lower, 0.05), (found.upper, 0.95)):
        assert (
            np.mean(drawn <= value) == pytest.approx(share, abs=0.002)
            or value == 0.0 <= np.mean(drawn <= 0) - share
        )


def test_no_trials_say_nothing_below() -> None:
    found = bayes.epsilon_credible(
        true_positives=0, positives=0, false_positives=0, negatives=0, delta=0.0, confidence=0.9
    )
    assert found.lower < 0.2
    assert math.isfinite(found.upper)


def test_counts_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="expected counts within their totals"):
        bayes.epsilon_credible(**COUNTS | {"true_positives": 101}, delta=0.0, confidence=0.9)
