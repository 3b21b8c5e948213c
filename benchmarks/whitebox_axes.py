"""What several canaries on one axis, and guesses that see earlier coins, bring to the one-run bound.

    python benchmarks/whitebox_axes.py --out benchmarks/results/whitebox_axes.json

Claims 1, 4 and 8 exactly kept, 64 of 10,000 units a step, 468 steps, delta 1e-5, 95 %; sums simulated with NumPy. Canaries of
an axis have the likelihood of their number alone. `plain`: the axes whose expected number of included canaries is highest are
guessed "included" as a whole. `adaptive`: one canary after the other, always the most certain one, each coin being told after
its guess (Keinan et al. 2025, arXiv 2503.07199). The number of guesses is chosen on half of the runs and measured on the other.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import comb, logsumexp

from dpaudit.privacy import PrivacySpec, calibrate
from dpaudit.stats.epsilon import epsilon_lower_one_run

RATE, STEPS, DELTA = 64 / 10_000, 468, 1e-5
SETTINGS = [(1000, 1), (250, 4), (125, 8), (1000, 2), (1000, 4), (1000, 8)]  # axes, canaries on each
TRIED = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896, 1280, 1792, 2560]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=16, help="for choosing, and as many for measuring")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for epsilon in (1.0, 4.0, 8.0):
        noise = calibrate(PrivacySpec(epsilon, DELTA, "record", "add_or_remove"), RATE, STEPS)
        for axes, each in SETTINGS:
            random = np.random.default_rng([round(epsilon), axes, each])
            runs = [one_run(noise, axes, each, random) for _ in range(2 * arguments.runs)]
            found = {kind: measured(runs, kind, axes * each) for kind in ("plain", "adaptive")}
            rows.append({"claim": epsilon, "axes": axes, "canaries_on_each": each, **found})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"results": rows}, indent=1) + "\n", encoding="utf-8")


def measured(runs: list[dict[str, Any]], kind: str, canaries: int) -> dict[str, Any]:
    """The mean bound on the second half of the runs, with the number of guesses that was best on the first."""
    half = len(runs) // 2
    tried = [n for n in TRIED if n <= canaries * 0.6]
    table = np.array([[bound(canaries, n, run[kind][n - 1]) for n in tried] for run in runs])
    best = int(np.argmax(table[:half].mean(0)))
    last = table[half:, best]
    return {
        "mean": round(float(last.mean()), 3),
        "standard_error": round(float(last.std() / half**0.5), 3),
        "guesses": tried[best],
        "chosen_afterwards": round(
            float(table[half:].max(1).mean()), 3
        ),  # in each run: no bound, an upper mark
    }


def bound(canaries: int, guesses: int, correct: int) -> float:
    return epsilon_lower_one_run(
        canaries=canaries, guesses=guesses, correct=int(correct), delta=DELTA, confidence=0.95
    )


def one_run(noise: float, axes: int, each: int, random: np.random.Generator) -> dict[str, Any]:
    """How many of the first n guesses are right, for every n, by both kinds of guesses."""
    coins = random.random((axes, each)) < 0.5
    number = coins.sum(1)
    observed = noise * random.standard_normal((STEPS, axes)) + random.binomial(number, RATE, (STEPS, axes))
    likelihood = log_likelihoods(observed, noise, each)
    return {"plain": plain(likelihood, coins), "adaptive": adaptive(likelihood, coins)}


def log_likelihoods(observed: Any, noise: float, each: int) -> Any:
    """Of sums (steps, axes) with 0, 1, ... `each` canaries included, (each + 1, axes), up to a constant.

    More than four canaries of one axis in one step are too rare to count.
    """
    drawn = np.arange(min(each, 4) + 1)
    number = np.arange(each + 1)[:, None]
    chance = comb(number, drawn) * RATE**drawn * (1 - RATE) ** np.maximum(number - drawn, 0)
    weight = chance * np.exp(-(drawn**2) / 2 / noise**2)  # (each + 1, drawn)
    powers = np.exp(observed / noise**2)[None] ** drawn[:, None, None]  # (drawn, steps, axes)
    return np.log(np.einsum("nd,dsa->nsa", weight, powers, optimize=True)).sum(1)


def plain(likelihood: Any, coins: Any) -> Any:
    each = coins.shape[1]
    weights = np.log(comb(each, np.arange(each + 1)))[:, None] + likelihood
    expected = (np.exp(weights - logsumexp(weights, axis=0)) * np.arange(each + 1)[:, None]).sum(0)
    return np.cumsum(coins[np.argsort(-expected)].ravel())


def adaptive(likelihood: Any, coins: Any) -> Any:
    """Greedy: the axis whose next canary is most certainly included, then its coin is told."""
    axes, each = coins.shape
    told, ones = np.zeros(axes, dtype=int), np.zeros(axes, dtype=int)
    chance = np.array([next_chance(likelihood[:, a], each, 0, 0) for a in range(axes)])
    right = []
    for _ in range(min(axes * each, max(TRIED))):
        axis = int(np.argmax(chance))
        coin = bool(coins[axis, told[axis]])
        right.append(coin)
        told[axis] += 1
        ones[axis] += coin
        chance[axis] = next_chance(likelihood[:, axis], each, told[axis], ones[axis])
    return np.cumsum(right)


def next_chance(likelihood: Any, each: int, told: int, ones: int) -> float:
    """The chance that the next canary of an axis is included, when `told` coins of it are known."""
    left = each - told
    if not left:
        return -1.0
    more = np.arange(left + 1)
    weights = np.log(comb(left, more)) + likelihood[ones + more]
    return float(np.exp(weights - logsumexp(weights)) @ more) / left


if __name__ == "__main__":
    main()
