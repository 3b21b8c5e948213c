import math
import zlib

import numpy as np
import pytest

from dpaudit.signals import SIGNALS, Calibrated, Loss, MinKPlusPlus, Span, Zlib


def span(logprob: list[float], base: list[float] | None = None, text: str = "amber tulip") -> Span:
    values = np.array(logprob, np.float32)
    reference = values if base is None else np.array(base, np.float32)
    return Span(values, np.full_like(values, -3.0), np.full_like(values, 2.0), reference, text)


def test_loss_is_the_mean_or_sum_of_log_probabilities() -> None:
    assert Loss()(span([-1, -2, -6])) == pytest.approx(-3)
    assert Loss("sum")(span([-1, -2, -6])) == pytest.approx(-9)


def test_calibration_takes_off_what_the_base_model_knew() -> None:
    assert Calibrated()(span([-1, -2], base=[-4, -3])) == pytest.approx(2)
    assert Calibrated("sum")(span([-1, -2], base=[-1, -2])) == 0


def test_min_k_takes_the_lowest_standardised_tokens() -> None:
    # z = (logp + 3) / 2: 1.5, 1, 0.5, 0, -0.5; the lowest 40 % are 0 and -0.5
    five = span([0, -1, -2, -3, -4])
    assert MinKPlusPlus(0.4)(five) == pytest.approx(-0.25)
    assert MinKPlusPlus(1.0)(five) == pytest.approx(0.5)
    assert MinKPlusPlus(0.01)(five) == pytest.approx(-0.5)  # at least one token


def test_a_distribution_without_spread_counts_zero_or_minus_infinity() -> None:
    flat = np.zeros(2, np.float32)
    assert MinKPlusPlus(1.0)(Span(flat, flat, flat, flat, "x")) == 0
    assert MinKPlusPlus(1.0)(Span(flat - 1, flat, flat, flat, "x")) == -math.inf


def test_zlib_divides_by_the_bits_of_the_text() -> None:
    text = "a" * 500
    assert Zlib()(span([-2, -4], text=text)) == pytest.approx(-3 / (8 * len(zlib.compress(text.encode()))))


@pytest.mark.parametrize("k", [0, -0.1, 20, math.nan])
def test_k_outside_the_unit_interval_is_refused(k: float) -> None:
    with pytest.raises(ValueError, match=r"k must be in \(0, 1\]"):
        MinKPlusPlus(k)


@pytest.mark.parametrize(
    "name", sorted(set(SIGNALS) - {"lira_online", "lira_offline", "rmia"})
)  # see test_shadow.py
def test_every_signal_rises_with_the_probability_of_the_text(name: str) -> None:
    parameters = {"k": 0.5} if name == "min_k_pp" else {}
    signal = SIGNALS[name](**parameters)
    reference = [-3.0, -3.0, -3.0]
    low, high = (signal(span(values, reference)) for values in ([-5, -4, -6], [-2, -1, -3]))
    assert high > low and isinstance(high, float)
