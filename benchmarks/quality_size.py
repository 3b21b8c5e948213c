"""How often the tests of quality err where there is nothing to find, and how often intervals miss.

    python benchmarks/quality_size.py [--replications 2000] [--out benchmarks/results/quality_size.json]

Every share is of replications with seeds of its own; the nominal rate is 5 %, and `allowed` adds three
standard errors. A quarter of an hour on one core.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.stats import margins
from dpaudit.stats.holm import holm
from dpaudit.stats.paired import page_trend, ratio_interval

Floats = NDArray[np.float64]
ERROR = 0.05
MARGIN = 0.05
DRAWS = 999  # of weights of clusters, here; each p-value is the larger for it


def allowed(replications: int, rate: float = ERROR) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / replications)


@cache
def margin_p(gains: int, losses: int, items: int, margin: float) -> tuple[float, float]:
    return margins.margin_p_values(gains, losses, items, margin)


def at_the_margin(
    items: int, accuracy: float, gain: float, replications: int, margin: float = MARGIN, seed: int = 0
) -> tuple[float, float]:
    """The shares of "no worse" and of "worse" at 5 %, the true loss being the margin itself.

    The reference is right with chance `accuracy`; the arm loses `margin` + `gain` of the items and wins
    `gain`, as far as there are wrong answers to win.
    """
    won = min(gain, 1 - accuracy)
    shares = [won, margin + won, 1 - margin - 2 * won]
    drawn = np.random.default_rng(seed).multinomial(items, shares, size=replications)
    p_values = np.array([margin_p(int(g), int(lost), items, margin) for g, lost, _ in drawn])
    return float(np.mean(p_values[:, 0] <= ERROR)), float(np.mean(p_values[:, 1] <= ERROR))


def clustered_differences(
    rng: np.random.Generator, sizes: NDArray[np.int64], lost: float, won: float, correlation: float
) -> Floats:
    """Gains less losses per cluster, whose losses and gains share a rate of their own (beta-binomial)."""

    def rates(mean: float) -> Floats:
        if mean == 0 or correlation == 0:
            return np.full(sizes.size, mean)
        if correlation == 1:
            return (rng.random(sizes.size) < mean).astype(np.float64)
        strength = 1 / correlation - 1
        return rng.beta(mean * strength, (1 - mean) * strength, sizes.size)

    losses = rng.binomial(sizes, rates(lost))
    return (rng.binomial(sizes - losses, rates(won / (1 - lost))) - losses).astype(np.float64)


def clustered_at_the_margin(
    clusters: int, is_even: bool, won: float, correlation: float, replications: int, margin: float = MARGIN
) -> tuple[float, float]:
    """The same for items in clusters of 14, or of 1 to 20."""
    found = []
    for seed in range(replications):
        rng = np.random.default_rng(seed)
        sizes = np.full(clusters, 14) if is_even else rng.choice([1, 2, 3, 5, 8, 20], clusters)
        sums = clustered_differences(rng, sizes, margin + won, won, correlation)
        limits = margins.ClusterLimits(sums, sizes.astype(np.float64))
        found.append((limits.p_above(-margin) <= ERROR, limits.p_below(-margin) <= ERROR))
    return float(np.mean([row[0] for row in found])), float(np.mean([row[1] for row in found]))


def mcnemar_errs(items: int, discordant: float, replications: int) -> float:
    rng = np.random.default_rng(1)
    count = rng.binomial(items, discordant, replications)
    gains = rng.binomial(count, 0.5)
    pairs, times = np.unique(np.column_stack([gains, count - gains]), axis=0, return_counts=True)
    small = np.array([margins.mcnemar(int(g), int(lost)) <= ERROR for g, lost in pairs])
    return float((small * times).sum() / replications)


def page_errs(items: int, arms: int, accuracy: float | None, replications: int) -> float:
    """Of answers that are right with one chance under every arm, or (None) of scores without ties."""
    rng = np.random.default_rng(2)
    drawn = rng.normal(size=(replications, items, arms))
    scores = drawn if accuracy is None else (rng.random(drawn.shape) < accuracy).astype(np.float64)
    return float(np.mean([page_trend(matrix) <= ERROR for matrix in scores]))


def holm_errs(arms: int, items: int, replications: int) -> float:
    """How often any of several arms, which share a reference and lose exactly the margin, is called no
    worse.
    """
    wrong = 0
    for seed in range(replications):
        rng = np.random.default_rng(seed)
        reference = rng.random(items) < 0.9
        p_values = []
        for _ in range(arms):
            lost = reference & (rng.random(items) < MARGIN / 0.9)
            p_values.append(margin_p(0, int(lost.sum()), items, MARGIN)[0])
        wrong += min(holm(p_values)) <= ERROR
    return wrong / replications


def detected(items: int, discordant: float, replications: int) -> tuple[float, float]:
    """The detectable loss at a share of discordant items, and how often McNemar's test tells it."""
    loss = margins.detectable(round(items * discordant), items)
    assert loss is not None
    share = max(discordant, loss)
    rng = np.random.default_rng(3)
    drawn = rng.multinomial(items, [(share - loss) / 2, (share + loss) / 2, 1 - share], size=replications)
    return loss, float(np.mean([margins.mcnemar(int(g), int(lost)) <= ERROR for g, lost, _ in drawn]))


def bits_cover(patients: int, records: int, spread: float, replications: int) -> float:
    """How often the interval of bits per byte holds the true 2 bits.

    Patients have rates of their own (log spread .3), records too (log spread `spread`); lengths are 5 to 60
    bytes.
    """
    label, covered = np.repeat(np.arange(patients), records), 0
    for seed in range(replications):
        rng = np.random.default_rng(seed)
        size = rng.integers(5, 60, label.size)
        ease = 0.3 * rng.normal(size=patients)[label] + spread * rng.normal(size=label.size)
        bits = 2 * size * np.exp(ease - (0.3**2 + spread**2) / 2)
        found = ratio_interval(bits, size, label)
        covered += found.lower <= 2 <= found.upper
    return covered / replications


def measured(replications: int) -> Iterator[dict[str, Any]]:
    """One row a setting."""

    def row(what: str, shares: Any, **setting: Any) -> dict[str, Any]:
        return {"what": what, **setting, "shares": shares, "replications": replications}

    for items in (60, 100, 300, 600):
        for accuracy in (0.5, 0.7, 0.9, 0.97):
            for won in (0.0, 0.02, 0.1):
                both = at_the_margin(items, accuracy, won, replications)
                yield row("margin", both, items=items, accuracy=accuracy, won=won)
    for clusters in (8, 24, 59, 80, 150):
        for even in (True, False):
            for correlation in (0.0, 0.2, 0.5, 1.0):
                for won in (0.0, 0.05):
                    both = clustered_at_the_margin(clusters, even, won, correlation, replications)
                    setting = {"clusters": clusters, "even": even, "correlation": correlation, "won": won}
                    yield row("margin, clusters", both, **setting)
    for items, discordant in ((60, 0.1), (60, 0.5), (300, 0.1), (1000, 0.05)):
        yield row(
            "McNemar", mcnemar_errs(items, discordant, replications), items=items, discordant=discordant
        )
    for items, arms, chance in ((60, 4, 0.5), (60, 4, 0.97), (24, 5, None), (8, 3, 0.7)):
        yield row(
            "Page", page_errs(items, arms, chance, replications), items=items, arms=arms, accuracy=chance
        )
    for arms in (4, 12):
        yield row("Holm", holm_errs(arms, 300, replications), arms=arms, items=300)
    for items, discordant in ((60, 0.0), (300, 0.1), (1000, 0.05)):
        loss, share = detected(items, discordant, replications)
        yield row("detectable", share, items=items, discordant=discordant, loss=loss)
    for patients, records, spread in ((60, 1, 0.2), (60, 1, 0.5), (60, 2, 0.5), (60, 1, 0.8), (300, 1, 0.5)):
        covered = bits_cover(patients, records, spread, replications)
        yield row("bits per byte", covered, patients=patients, records=records, spread=spread)


def main(tell: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quality_size.json"))
    asked = parser.parse_args()
    margins.DRAWS = DRAWS
    results = []
    for row in measured(asked.replications):
        results.append(row)
        tell(json.dumps(row))
    found = {"margin": MARGIN, "nominal": ERROR, "allowed": allowed(asked.replications), "results": results}
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
