"""The one-run bound with one and with several canaries on a coordinate, as Keinan et al. 2025 measured it.

    python benchmarks/keinan.py --out benchmarks/results/keinan.json

Keinan, Shenfeld, Ligett 2025 (arXiv 2503.07199), section 6.2 and figure 2: DP-SGD on 1,000 coordinates, 100
steps at rate 1/10, noise for epsilon 2 at delta 1e-5 by an RDP accountant; every unit is a canary whose
gradient is one coordinate, in or out by a fair coin; of all canaries, sorted by their coordinate's released
sum, the 50 highest are called in and the 50 lowest out; the (epsilon, delta) bound at 95 %, mean of 200
experiments: 0.49 +- 0.01 with one canary on each coordinate,
0.62 +- 0.01 with eight. The sum over steps of what a coordinate released is all that the guesses see of it,
so that the sum is drawn at once: a binomial number of draws, and noise of all steps.

As described: `noise` rdp, `delta` 1e-5. Beside it what would follow from the exact noise (`pld`, smaller),
and from delta 0, with which the paper calls its results essentially identical. It leaves open the orders of
its accountant, worth
0.2 % of the noise, and how canaries of one coordinate, which tie, are sorted: here they keep their order,
which knows no coin.
"""

import argparse
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from dpaudit.privacy.accountants import calibrate, epsilon_rdp
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats.epsilon import epsilon_lower_one_run

COORDINATES, STEPS, RATE, EPSILON, DELTA, CONFIDENCE, GUESSES = 1000, 100, 0.1, 2.0, 1e-5, 0.95, 100
PUBLISHED = {1: 0.49, 8: 0.62}  # mean of PUBLISHED_RUNS, by canaries on each coordinate
PUBLISHED_RUNS = 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for accountant, noise in (("rdp", noise_by_rdp()), ("pld", noise_by_pld())):
        for each in (1, 2, 4, 8, 16):
            counts = right_guesses(noise, each, arguments.runs, np.random.default_rng([each]))
            for delta in (DELTA, 0.0):
                row = {"noise": accountant, "noise_multiplier": round(noise, 4), "delta": delta}
                rows.append(row | {"canaries_on_each": each, **compared(counts, each, delta)})
                print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"results": rows}, indent=1) + "\n", encoding="utf-8")


def noise_by_rdp() -> float:
    def excess(noise: float) -> float:
        return epsilon_rdp(Mechanism(noise, RATE, STEPS, 1.0), DELTA) - EPSILON

    return float(brentq(excess, 1.0, 5.0, xtol=1e-6))


def noise_by_pld() -> float:
    return calibrate(Claim(EPSILON, DELTA, "record", "add_or_remove"), RATE, STEPS)


def right_guesses(noise: float, each: int, runs: int, random: np.random.Generator) -> NDArray[np.int64]:
    """How many of the 100 guesses are right in each run, shape (runs,)."""
    half = GUESSES // 2
    counts = []
    for _ in range(runs):
        coins = random.random((COORDINATES, each)) < 0.5
        released = random.binomial(STEPS * coins.sum(1), RATE).astype(np.float64)
        released += noise * math.sqrt(STEPS) * random.standard_normal(COORDINATES)
        ranked = coins[np.argsort(-released)].ravel()
        counts.append(int(ranked[:half].sum() + (~ranked[-half:]).sum()))
    return np.array(counts)


def compared(counts: NDArray[np.int64], each: int, delta: float) -> dict[str, Any]:
    """The mean bound, its standard error, and how many errors of the published mean and of this one lie
    between them.
    """
    bounds = np.array([bound(COORDINATES * each, int(count), delta) for count in counts])
    spread, published = float(bounds.std()), PUBLISHED.get(each)
    found = {
        "mean": round(float(bounds.mean()), 4),
        "standard_error": round(spread / counts.size**0.5, 4),
        "runs": counts.size,
    }
    if published is None:
        return found
    error = spread * math.sqrt(1 / counts.size + 1 / PUBLISHED_RUNS)
    apart = (float(bounds.mean()) - published) / error
    return found | {"published": published, "standard_errors_apart": round(apart, 2)}


@cache
def bound(canaries: int, correct: int, delta: float) -> float:
    return epsilon_lower_one_run(
        canaries=canaries, guesses=GUESSES, correct=correct, delta=delta, confidence=CONFIDENCE
    )


if __name__ == "__main__":
    main()
