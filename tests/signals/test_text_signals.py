import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dpaudit.signals.text import (
    SIGNALS,
    Calibrated,
    Combination,
    ErrorZone,
    GradientNorm,
    Loss,
    Lowercase,
    MinK,
    MinKPlusPlus,
    Neighbourhood,
    Recall,
    Span,
    WindowComparison,
    Zlib,
)


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


def test_min_k_takes_the_lowest_tokens() -> None:
    five = span([0, -1, -2, -3, -4])
    assert MinK(0.4)(five) == pytest.approx(-3.5)
    assert MinK(1.0)(five) == pytest.approx(Loss()(five))
    assert MinK(0.01)(five) == -4  # at least one token


def test_lower_case_is_compared_by_the_token() -> None:
    assert Lowercase()(replace(span([-1, -3]), lowercase=-5.0)) == pytest.approx(3)


def test_recall_is_the_ratio_of_log_probabilities() -> None:
    assert Recall(2)(replace(span([-1, -3]), prefixed=-5.0)) == pytest.approx(2.5)
    certain = Recall(2)(replace(span([0, 0]), prefixed=-1.0))
    assert math.isfinite(certain) and certain > 1e6  # a text that is known by heart, whatever the division


def test_a_neighbourhood_is_averaged() -> None:
    around = replace(span([-1, -3]), neighbours=np.array([-4.0, -6.0]))
    assert Neighbourhood(2, 0.2)(around) == pytest.approx(3)


def test_a_small_gradient_is_a_members() -> None:
    low, high = (GradientNorm()(replace(span([-1]), gradient_norm=norm)) for norm in (7.0, 0.5))
    assert high > low


def test_the_error_zone_looks_at_wrong_tokens_alone() -> None:
    # shifts +3, -1, +8; the last token is the model's first choice and does not count
    found = replace(span([-1, -4, -1], base=[-4, -3, -9]), greedy=np.array([False, False, True]))
    assert ErrorZone()(found) == pytest.approx(3 / 4)
    ranks = [replace(found, logprob=np.array([v, -4, -1], np.float32)) for v in (-3.5, -2, -1)]
    ratios = [3 - 2.5, 3 - 1, 3.0]  # P / N, N = 1
    assert np.argsort([ErrorZone()(s) for s in ranks]).tolist() == np.argsort(ratios).tolist()
    assert ErrorZone()(replace(found, greedy=np.ones(3, bool))) == 1.0
    assert ErrorZone()(replace(found, logprob=found.base_logprob + 1)) == 1.0


def test_windows_vote_as_a_slow_count_does() -> None:
    rng = np.random.default_rng(0)
    target, base = rng.normal(-3, 1, 30), rng.normal(-3, 1, 30)
    widths = [round(2 * 20 ** (k / 9)) for k in range(10)]
    shares = []
    for width in (min(w, 30) for w in widths):
        starts = range(30 - width + 1)
        shares.append(np.mean([target[i : i + width].sum() > base[i : i + width].sum() for i in starts]))
    found = WindowComparison()(span(target.tolist(), base.tolist()))
    assert found == pytest.approx(np.mean(shares), abs=1e-6)
    assert WindowComparison()(span([-1.0], [-2.0])) == 1.0  # one token: every window is that one


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Recall(0), "shots: expected a whole number from 1"),
        (lambda: Neighbourhood(0, 0.2), "neighbours: expected a whole number from 1"),
        (lambda: Neighbourhood(4, 20), "not percent"),
        (lambda: MinK(20), "not percent"),
        (lambda: WindowComparison(5, 4), "most: expected at least the value of least"),
        (lambda: WindowComparison(sizes=0), "sizes: expected a whole number from 1"),
        (lambda: Combination(("loss",)), "two or more"),
        (lambda: Combination(("loss", "loss")), "two or more different"),
        (lambda: Combination(("loss", "zlib"), share=1), "share: expected a number in"),
        (lambda: Combination(("loss", "zlib"), penalty=0), "penalty: expected a number in"),
    ],
)
def test_parameters_out_of_range_are_refused(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.parametrize("made", [Lowercase(), Recall(1), Neighbourhood(1, 0.5), GradientNorm(), ErrorZone()])
def test_a_signal_without_its_evidence_is_an_error(made: Callable[[Span], float]) -> None:
    with pytest.raises(ValueError, match="evidence"):
        made(span([-1, -2]))


@pytest.mark.parametrize("k", [0, -0.1, 20, math.nan])
def test_k_outside_the_unit_interval_is_refused(k: float) -> None:
    with pytest.raises(ValueError, match=r"k: expected a number in \(0, 1\]"):
        MinKPlusPlus(k)


PARAMETERS: dict[str, dict[str, object]] = {
    "min_k": {"k": 0.5},
    "min_k_pp": {"k": 0.5},
    "recall": {"shots": 2},
    "neighbourhood": {"neighbours": 2, "share": 0.5},
}
OF_ONE_SPAN = sorted(
    name
    for name, made in SIGNALS.items()
    if made.kind == "mia"
    and name != "combination"
    and name not in ("lira_online", "lira_offline", "rmia")  # see test_shadow.py
)


@pytest.mark.parametrize("name", OF_ONE_SPAN)
def test_every_signal_rises_with_the_probability_of_the_text(name: str) -> None:
    signal = SIGNALS[name](**PARAMETERS.get(name, {}))
    reference = [-3.0, -3.0, -3.0]
    seen = [
        replace(
            span(values, reference),
            greedy=np.zeros(3, bool),
            lowercase=-3.0,
            prefixed=-3.0,
            neighbours=np.array([-3.0, -3.2]),
            gradient_norm=norm,
        )
        for values, norm in (([-5.0, -2.9, -6.0], 2.0), ([-2.0, -2.5, -3.5], 1.0))
    ]
    low, high = map(signal, seen)
    assert high > low and isinstance(high, float)
