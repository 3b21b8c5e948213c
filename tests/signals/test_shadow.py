"""Signals over shadow models against what they are on Gaussians whose parameters are known."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from dpaudit.signals.shadow import Gaussian, LiraOffline, LiraOnline, Rmia
from dpaudit.stats.roc import auc_interval

Floats = NDArray[np.float64]
ONLINE = {v: LiraOnline(v) for v in ("per_example", "shared")}  # type: ignore[arg-type]
ALL = [*ONLINE.values(), LiraOffline(), Rmia(1.0, "online"), Rmia(1.0, "offline", 1.0)]


@dataclass(frozen=True, eq=False)
class Span:
    logprob: NDArray[np.float32]
    shadow_logprob: Floats
    shadow_in: NDArray[np.bool_]
    population: Floats


def span(x: float, inside: list[float], outside: list[float], population: Floats | None = None) -> Span:
    values = np.array([*inside, *outside], np.float64)
    learnt = np.arange(len(values)) < len(inside)
    known = np.log(np.full((4, 1 + len(values)), 0.25)) if population is None else population
    return Span(np.array([x, x], np.float32), values, learnt, known)


def world(
    rng: np.random.Generator, texts: int, shadows: int, lift: float = 0.3
) -> tuple[list[Span], NDArray[np.bool_]]:
    """Texts of very different difficulty; learning lifts each by about `lift`, training noise is 0.15."""
    hard, gain = rng.normal(-2, 0.6, texts), lift * rng.gamma(4, 0.25, texts)
    learnt = np.argsort(rng.random((texts, shadows)), axis=1) < shadows // 2
    members = rng.random(texts) < 0.5
    shadow = hard[:, None] + gain[:, None] * learnt + rng.normal(0, 0.15, learnt.shape)
    audited = hard + gain * members + rng.normal(0, 0.15, texts)
    known = rng.normal(-2, 0.6, (60, 1)) + rng.normal(0, 0.15, (60, 1 + shadows))
    rows = zip(audited, shadow, learnt, strict=True)
    return [Span(np.array([a], np.float32), s, i, known) for a, s, i in rows], members


def auc(signal: object, spans: list[Span], members: NDArray[np.bool_]) -> float:
    return auc_interval([signal(one) for one in spans], members, 0.95).auc  # type: ignore[operator]


# ---- closed forms


@pytest.mark.parametrize("variance", ONLINE)
def test_online_lira_becomes_the_exact_likelihood_ratio_as_shadows_grow(variance: str) -> None:
    """Means -1 and -1.5, deviation 0.2 on both sides; with 2 x 20,000 shadows each mean errs by 0.0014."""
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(-1, 0.2, 20_000), rng.normal(-1.5, 0.2, 20_000)
    for x in (-2.0, -1.3, -1.25, -0.9):
        exact = ((x + 1.5) ** 2 - (x + 1) ** 2) / (2 * 0.2**2)
        found = ONLINE[variance](span(x, list(inside), list(outside)))
        assert found == pytest.approx(
            exact, abs=0.25
        )  # 4 standard errors at the farthest x, variance included


def test_online_lira_by_hand() -> None:
    """Sides {-1, -2} and {-3, -5}: means -1.5 and -4, variances 0.5 and 2, shared 1.25."""
    one = span(-2.0, [-1, -2], [-3, -5])
    exact = -0.5 * (math.log(0.5) + 0.25 / 0.5) + 0.5 * (math.log(2) + 4 / 2)
    assert ONLINE["per_example"](one) == pytest.approx(exact, rel=1e-12)
    assert ONLINE["shared"](one) == pytest.approx((4 - 0.25) / (2 * 1.25), rel=1e-12)


def test_offline_lira_counts_deviations_above_the_mean_of_models_that_never_saw_the_text() -> None:
    assert LiraOffline()(span(-2.0, [9, 9], [-3, -5])) == pytest.approx(2 / math.sqrt(2), rel=1e-12)
    assert LiraOffline()(span(-2.0, [], [-3, -5])) == pytest.approx(2 / math.sqrt(2), rel=1e-12)


def test_rmia_by_hand() -> None:
    """p(x) = (0.6 + 0.2) / 2 online; of z the audited model says 0.1, 0.2, 0.3, 0.4 and the shadows 0.2."""
    known = np.log(np.column_stack([[0.1, 0.2, 0.3, 0.4], np.full((4, 2), 0.2)]))  # ratios 0.5, 1, 1.5, 2
    one = span(math.log(0.48), [math.log(0.6)], [math.log(0.2)], known)  # ratio 1.2
    assert Rmia(1.0, "online")(one) == 0.5
    assert Rmia(2.0, "online")(one) == 0.25
    assert Rmia(3.0, "online")(one) == 0
    # offline, a = 0.5: p(x) = (1.5 * 0.2 + 0.5) / 2 = 0.4 and likewise of z; ratios 0.25, 0.5, 0.75, 1 and
    # 1.2
    assert Rmia(1.0, "offline", 0.5)(one) == 1
    assert Rmia(1.5, "offline", 0.5)(one) == 0.75
    assert Rmia(2.2, "offline", 0.5)(one) == 0.5


# ---- what they are good for


@pytest.mark.parametrize("shadows", [8, 16])
def test_shadows_beat_the_loss_where_difficulty_varies(shadows: int) -> None:
    """300 texts, five worlds: the loss tells little, each signal over shadows at least 0.1 more, 3 standard
    errors off.
    """
    signals = [*ALL, lambda one: float(one.logprob.mean())]
    found = np.array(
        [
            [auc(signal, *world(np.random.default_rng(seed), 300, shadows)) for signal in signals]
            for seed in range(5)
        ]
    ).T  # (signals, worlds)
    mean = found.mean(1)
    assert mean[-1] < 0.7
    assert (mean[:-1] - mean[-1] > 0.1 + 3 * (found[:-1] - found[-1]).std(1, ddof=1) / math.sqrt(5)).all()


def test_a_shared_variance_beats_two_of_few_shadows() -> None:
    worlds = [world(np.random.default_rng(seed), 500, 8) for seed in range(5)]
    gain = [auc(ONLINE["shared"], *w) - auc(ONLINE["per_example"], *w) for w in worlds]
    assert np.mean(gain) > 3 * np.std(gain, ddof=1) / math.sqrt(5) > 0


@pytest.mark.parametrize("signal", ALL, ids=str)
def test_an_arm_that_ignored_the_texts_gives_nothing_away(signal: object) -> None:
    """Members are drawn anew, beside the audited model: over 40 worlds of 200 the mean AUC errs by 0.0065."""
    rng = np.random.default_rng(1000)
    found = []
    for seed in range(40):
        spans, _ = world(np.random.default_rng(seed), 200, 8)
        found.append(auc(signal, spans, rng.random(200) < 0.5))
    assert abs(np.mean(found) - 0.5) < 3 * 0.0065


# ---- direction and invariance


@pytest.mark.parametrize("signal", [ONLINE["shared"], *ALL[2:]], ids=str)
def test_a_likelier_text_scores_higher(signal: object) -> None:
    known = np.log(np.column_stack([np.linspace(0.05, 0.9, 200), np.full((200, 6), 0.3)]))
    low, high = (signal(span(x, [-1.0, -1.1, -0.8], [-1.6, -1.4, -1.5], known)) for x in (-1.6, -0.9))
    assert high > low and isinstance(high, float)


@pytest.mark.parametrize("signal", [*ONLINE.values(), LiraOffline()], ids=str)
def test_lira_knows_no_origin_and_no_unit_of_measurement(signal: object) -> None:
    one = span(-1.0, [-0.5, -1.5, -1.25], [-2.0, -3.0, -2.75])
    moved = span(1.0, [2.0, 0.0, 0.5], [-1.0, -3.0, -2.5])  # 2 x + 3
    assert signal(moved) == pytest.approx(signal(one), rel=1e-9)  # type: ignore[operator]


@pytest.mark.parametrize("signal", ALL, ids=str)
def test_the_order_of_shadows_and_texts_does_not_matter(signal: object) -> None:
    one, rng = world(np.random.default_rng(1), 1, 8)[0][0], np.random.default_rng(2)
    order, rows = rng.permutation(8), rng.permutation(60)
    columns = np.concatenate([[0], 1 + order])
    other = Span(
        one.logprob, one.shadow_logprob[order], one.shadow_in[order], one.population[rows][:, columns]
    )
    assert signal(other) == pytest.approx(signal(one), rel=1e-9)  # type: ignore[operator]


def test_rmia_falls_with_gamma_and_is_a_share_of_the_population() -> None:
    spans, _ = world(np.random.default_rng(3), 50, 8)
    found = np.array([[Rmia(g, "online")(one) for g in (0.5, 1.0, 2.0)] for one in spans])
    assert (np.diff(found, axis=1) <= 0).all() and (np.diff(found, axis=1) < 0).any()
    assert np.allclose(found * 60, np.round(found * 60)) and found.min() >= 0 and found.max() <= 1


# ---- extremes


def test_without_variance_the_nearer_mean_is_certain() -> None:
    for signal in ONLINE.values():
        assert signal(span(-1.2, [-1, -1], [-2, -2])) == math.inf
        assert signal(span(-1.8, [-1, -1], [-2, -2])) == -math.inf
        assert signal(span(-1.5, [-1, -1], [-2, -2])) == 0
    assert ONLINE["per_example"](span(-1.0, [-1, -1], [-2, -3])) == math.inf
    assert ONLINE["per_example"](span(-1.5, [-1, -1], [-2, -3])) == -math.inf
    assert [LiraOffline()(span(x, [0, 0], [-2, -2])) for x in (-1, -2, -3)] == [math.inf, 0, -math.inf]
    assert Gaussian(0, 0).log_density(0) == math.inf


@pytest.mark.parametrize("signal", ALL, ids=str)
def test_nan_of_the_audited_model_is_handed_on_and_of_a_shadow_refused(signal: object) -> None:
    assert math.isnan(signal(span(math.nan, [-1, -2], [-3, -4])))  # type: ignore[operator]
    for bad in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="shadow_logprob must be finite, got 1 of 4"):
            signal(span(-1.0, [-1, -2], [-3, bad]))  # type: ignore[operator]


def test_too_few_shadows_and_texts_are_refused() -> None:
    for signal in ONLINE.values():
        with pytest.raises(ValueError, match="expected 2 shadow models on each side, got 1 that learnt"):
            signal(span(-1.0, [-1], [-2, -3]))
    with pytest.raises(
        ValueError, match="expected two shadow models that did not learn from the text, got 1"
    ):
        LiraOffline()(span(-1.0, [-1, -2], [-2]))
    with pytest.raises(ValueError, match="expected 1 shadow models on each side, got 0"):
        Rmia(1.0, "online")(span(-1.0, [], [-2, -3]))
    for bad in (np.zeros((0, 3)), np.zeros((4, 2)), np.zeros(3)):
        with pytest.raises(ValueError, match="population must be"):
            Rmia(1.0, "online")(span(-1.0, [-1], [-2], bad))
    with pytest.raises(ValueError, match="population must be finite"):
        Rmia(1.0, "online")(span(-1.0, [-1], [-2], np.full((4, 3), math.nan)))
    mismatched = SimpleNamespace(shadow_logprob=np.zeros(3), shadow_in=np.ones(2, bool))
    with pytest.raises(ValueError, match=r"must be \(shadows,\)"):
        LiraOffline()(mismatched)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gamma", "mode", "a"),
    [
        (0, "online", None),
        (math.nan, "online", None),
        (math.inf, "online", None),
        (1, "online", 0.3),
        (1, "offline", None),
        (1, "offline", 1.5),
        (1, "offline", math.nan),
    ],
)
def test_parameters_out_of_range_are_refused(gamma: float, mode: str, a: float | None) -> None:
    with pytest.raises(ValueError, match=r"^(gamma|a): expected"):
        Rmia(gamma, mode, a)  # type: ignore[arg-type]
