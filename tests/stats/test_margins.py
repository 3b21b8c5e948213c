"""Losses against a margin: exact p-values, limits over clusters, and how often they err at the margin."""

import importlib.util
import json
import math
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom, binomtest, multinomial, norm

from dpaudit.stats import margins
from dpaudit.stats.margins import ClusterLimits, fewest_clusters, loss, mcnemar, tango_interval
from dpaudit.stats.paired import cluster_totals
from dpaudit.stats.roc import proportion_interval


@pytest.fixture(scope="module")
def size() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "quality_size.py"
    spec = importlib.util.spec_from_file_location("quality_size", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("gains", "losses"), [(0, 0), (3, 3), (1, 9), (0, 6), (30, 12)])
def test_mcnemar_is_the_binomial_test(gains: int, losses: int) -> None:
    expected = binomtest(gains, gains + losses).pvalue if gains + losses else 1.0
    assert mcnemar(gains, losses) == pytest.approx(expected, abs=1e-12)


def slow_score(gains: int, losses: int, items: int, difference: float) -> float:
    """Tango's score with the share of losses found by a search over the likelihood."""
    lost = np.linspace(max(0.0, -difference), (1 - difference) / 2, 20_001)[1:-1]
    terms = gains * np.log(lost + difference) + losses * np.log(lost)
    best = lost[np.argmax(terms + (items - gains - losses) * np.log(1 - 2 * lost - difference))]
    variance = items * (2 * best + difference - difference**2)
    return float((gains - losses - items * difference) / math.sqrt(variance))


@pytest.mark.parametrize(("gains", "losses", "items"), [(12, 9, 50), (1, 9, 60), (4, 1, 30)])
def test_tangos_limits_are_where_a_slow_score_reaches_the_quantile(
    gains: int, losses: int, items: int
) -> None:
    lower, upper = tango_interval(gains, losses, items)
    quantile = norm.isf(0.025)
    assert slow_score(gains, losses, items, lower) == pytest.approx(quantile, abs=2e-3)
    assert slow_score(gains, losses, items, upper) == pytest.approx(-quantile, abs=2e-3)
    assert tango_interval(losses, gains, items) == pytest.approx((-upper, -lower), abs=1e-9)


def test_the_margin_test_counts_the_samples_that_score_as_high() -> None:
    """Every sample of 12 items, one at a time, at a fine grid of shares of discordant items."""
    items, margin, gains, losses = 12, 0.3, 2, 1
    observed = slow_score(gains, losses, items, -margin)
    samples = [(b, c) for b, c in product(range(items + 1), repeat=2) if b + c <= items]

    def scores(b: int, c: int) -> float:
        return slow_score(b, c, items, -margin)

    higher = np.array([[b, c, items - b - c] for b, c in samples if scores(b, c) >= observed - 1e-6])
    lower = np.array([[b, c, items - b - c] for b, c in samples if scores(b, c) <= observed + 1e-6])
    _, high = proportion_interval(gains + losses, items, 1 - margins.NUISANCE_ERROR)
    worlds = [[(s - margin) / 2, (s + margin) / 2, 1 - s] for s in np.linspace(margin, high, 100)]
    expected = [max(multinomial.pmf(part, items, w).sum() for w in worlds) for part in (higher, lower)]
    found = margins.margin_p_values(gains, losses, items, margin)
    assert found == pytest.approx(expected, abs=2e-3)


def test_no_sample_says_more_than_losses_at_the_margin_allow() -> None:
    """One world wins nothing, and there the losses are binomial at the margin."""
    for lost in (0, 1, 3):
        found, _ = margins.margin_p_values(0, lost, 100, 0.05)
        assert binom.cdf(lost, 100, 0.05) <= found <= 2 * binom.cdf(lost, 100, 0.05)
    assert fewest_clusters(0.05) == 59
    assert margins.margin_p_values(0, 0, 59, 0.05)[0] <= 0.05 < margins.margin_p_values(0, 0, 58, 0.05)[0]


@pytest.mark.parametrize("lost", [0, 3, 40])
def test_one_item_a_cluster_and_losses_alone_have_the_clopper_pearson_limit(lost: int) -> None:
    sums = np.array([-1.0] * lost + [0.0] * (100 - lost))
    found = ClusterLimits(sums, np.ones(100)).interval(0.9)
    assert found.lower == pytest.approx(-proportion_interval(lost, 100, 0.9).upper, abs=0.004)


def test_items_in_clusters_count_as_their_clusters() -> None:
    ours, theirs = np.zeros(60), np.ones(60)
    found = loss(ours, theirs, 0.05, [n // 10 for n in range(60)])
    assert (found.items, found.clusters, found.lower) == (60, 6, -1.0)
    assert found.p_value == pytest.approx(2 * 0.5**6, abs=0.005)
    once = loss(ours[:40], np.r_[np.ones(20), np.zeros(20)], 0.05, list(range(40)))
    thrice = loss(np.zeros(120), np.r_[np.ones(60), np.zeros(60)], 0.05, np.repeat(range(40), 3).tolist())
    assert thrice.p_worse == pytest.approx(once.p_worse, abs=0.002)
    assert thrice.lower == pytest.approx(once.lower, abs=0.03)


def test_a_swap_of_the_arms_turns_everything_around() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random((2, 90)) < 0.7).astype(float)
    for clusters in (None, [n // 3 for n in range(90)]):
        one, other = loss(ours, theirs, 0.1, clusters), loss(theirs, ours, 0.1, clusters)
        assert (one.lower, one.upper) == pytest.approx((-other.upper, -other.lower), abs=0.01)
        assert (one.gains, one.losses) == (other.losses, other.gains)
        assert one.p_value == pytest.approx(other.p_value, abs=0.03)  # of drawn weights
        assert one.detectable == other.detectable


@pytest.mark.parametrize(("accuracy", "won"), [(0.5, 0.0), (0.9, 0.02), (0.97, 0.1)])
def test_no_worse_is_said_in_five_per_cent_at_most_at_the_margin(
    size: ModuleType, accuracy: float, won: float
) -> None:
    for items in (60, 100):
        assert max(size.at_the_margin(items, accuracy, won, 2000)) <= size.allowed(2000)


@pytest.mark.parametrize(
    ("clusters", "correlation", "even"), [(8, 0.2, True), (59, 1.0, True), (80, 1.0, False)]
)
def test_clusters_do_not_mislead_whatever_their_correlation(
    size: ModuleType, clusters: int, correlation: float, even: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins, "DRAWS", 299)
    shares = size.clustered_at_the_margin(clusters, even, 0.0, correlation, 2000)
    assert max(shares) <= size.allowed(2000)
    assert clusters >= fewest_clusters(0.05) or shares[0] == 0.0


def test_eight_clusters_never_show_that_nothing_was_lost() -> None:
    ones = np.ones(400)
    found = loss(ones, ones, 0.05, [n // 50 for n in range(400)])
    assert found.p_no_worse > 0.5
    assert loss(ones, ones, 0.05, [n // 5 for n in range(400)]).p_no_worse < 0.05


def test_mcnemar_and_the_family_keep_their_size(size: ModuleType) -> None:
    assert size.mcnemar_errs(100, 0.2, 20_000) <= size.allowed(20_000)
    assert size.holm_errs(6, 200, 2000) <= size.allowed(2000)


@pytest.mark.parametrize(("items", "discordant"), [(60, 0.0), (300, 0.1), (1000, 0.05)])
def test_the_detectable_loss_is_told_four_times_in_five(
    size: ModuleType, items: int, discordant: float
) -> None:
    found, share = size.detected(items, discordant, 4000)
    assert share == pytest.approx(0.8, abs=0.03)
    assert found == pytest.approx(2.8 * math.sqrt(max(discordant, found) / items), rel=0.2)


@pytest.mark.parametrize(("items", "right", "is_any"), [(5, 1.0, False), (60, 1.0, True), (60, 0.1, False)])
def test_nothing_is_detectable_in_a_handful_of_items_or_beyond_what_the_control_has(
    items: int, right: float, is_any: bool
) -> None:
    control = [1.0] * round(items * right) + [0.0] * (items - round(items * right))
    found = loss(control, control, 0.05).detectable
    assert (found is not None) == is_any
    clustered = loss(control, control, 0.05, [n // 2 for n in range(items)]).detectable
    assert (clustered is not None) == is_any


def test_a_detectable_loss_of_clusters_is_larger_than_that_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margins, "DRAWS", 1999)
    rng = np.random.default_rng(1)
    ours, theirs = (rng.random((2, 600)) < 0.8).astype(float)
    alone = loss(ours, theirs, 0.05).detectable
    shared = loss(ours, theirs, 0.05, [n // 10 for n in range(600)]).detectable
    assert alone is not None and shared is not None and alone < shared < 3 * alone
    told, labels = 0, [n // 10 for n in range(600)]
    share = float(np.mean(ours != theirs))
    chances = [(share - shared) / 2, (share + shared) / 2, 1 - share]
    for seed in range(200):
        gains = np.random.default_rng(seed).choice([1.0, -1.0, 0.0], 600, p=chances)
        found = ClusterLimits(*cluster_totals(gains, labels))
        told += found.p_value() <= 0.05
    assert 0.65 <= told / 200 <= 0.95


def test_the_page_on_quality_says_what_was_measured() -> None:
    root = Path(__file__).parents[2]
    kept = json.loads((root / "benchmarks/results/quality_size.json").read_text(encoding="utf-8"))
    text = (root / "docs/quality.md").read_text(encoding="utf-8")
    for even in (True, False):
        worst = [
            [
                max(
                    row["shares"][place]
                    for row in kept["results"]
                    if (row.get("clusters"), row.get("even")) == (clusters, even)
                )
                for clusters in (8, 24, 59, 80, 150)
            ]
            for place in (0, 1)
        ]
        assert max(*worst[0], *worst[1]) <= kept["allowed"]
        cells = [" / ".join(f"{share:.3f}".removeprefix("0") for share in row) for row in worst]
        assert f"| {cells[0]} | {cells[1]} |" in text


@pytest.mark.slow
def test_nothing_errs_more_often_than_allowed_on_the_whole_grid(
    size: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins, "DRAWS", size.DRAWS)
    for row in size.measured(2000):
        shares = row["shares"]
        if row["what"] == "bits per byte":
            assert shares >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / 2000), row
        elif row["what"] == "detectable":
            assert shares == pytest.approx(0.8, abs=0.03)
        else:
            assert np.max(shares) <= size.allowed(2000), row


@pytest.mark.parametrize(
    ("ours", "theirs", "margin", "clusters"),
    [
        ([], [], 0.05, None),
        ([1, 0.5], [1, 1], 0.05, None),
        ([1, math.nan], [1, 1], 0.05, None),
        ([1], [1, 1], 0.05, None),
        ([1, 1], [1, 1], 0.0, None),
        ([1, 1], [1, 1], 0.05, ["a"]),
    ],
)
def test_other_arguments_are_refused(
    ours: list[float], theirs: list[float], margin: float, clusters: list[str] | None
) -> None:
    with pytest.raises(ValueError, match="expected"):
        loss(ours, theirs, margin, clusters)
