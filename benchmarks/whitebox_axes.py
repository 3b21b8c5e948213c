"""What several canaries on one axis, guesses that see earlier coins, and weights bring to the one-run bound.

    python benchmarks/whitebox_axes.py --out benchmarks/results/whitebox_axes.json

Claims 1, 4 and 8 exactly kept, 64 of 10,000 units a step, 468 steps, delta 1e-5, 95 %; sums simulated with
NumPy. Canaries of an axis have the likelihood of their number alone. `plain`: the axes whose expected number
of included canaries is highest are guessed "included" as a whole. `adaptive`: one canary after the other,
always the most certain one, each coin being told after its guess (Keinan et al. 2025, arXiv 2503.07199). The
number of guesses is chosen on half of the runs and measured on the other. `weighted` and `adaptive_weighted`:
guesses both ways, with the weights of `stats.weighted` by rank or by turn; how certain a rank or a turn is on
average is taken from half of the runs, and the bound measured on the other.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import comb, logsumexp

from dpaudit.privacy.accountants import calibrate
from dpaudit.privacy.claim import Claim
from dpaudit.stats.epsilon import epsilon_lower_one_run
from dpaudit.stats.weighted import best_weights, epsilon_lower_weighted

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
        noise = calibrate(Claim(epsilon, DELTA, "record", "add_or_remove"), RATE, STEPS)
        for axes, each in SETTINGS:
            random = np.random.default_rng([round(epsilon), axes, each])
            runs = [one_run(noise, axes, each, random) for _ in range(2 * arguments.runs)]
            found = {kind: measured(runs, kind, axes * each) for kind in ("plain", "adaptive")}
            found |= {kind: weighed(runs, kind, axes * each) for kind in ("weighted", "adaptive_weighted")}
            rows.append({"claim": epsilon, "axes": axes, "canaries_on_each": each, **found})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"results": rows}, indent=1) + "\n", encoding="utf-8")


def measured(runs: list[dict[str, Any]], kind: str, canaries: int) -> dict[str, Any]:
    """The mean bound on the second half of the runs, with the number of guesses that was best on the
    first.
    """
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


def weighed(runs: list[dict[str, Any]], kind: str, canaries: int) -> dict[str, Any]:
    """The mean bound on the second half of the runs, with weights from what the first half makes of each
    turn.
    """
    half = len(runs) // 2
    chance = np.full(canaries, 0.5)
    turns = runs[0][kind][0].size
    chance[:turns] = np.mean([run[kind][0] for run in runs[:half]], axis=0)
    order = np.argsort(-chance, kind="stable")
    weights = best_weights(chance[order], DELTA, 0.95)
    by_turn = np.zeros(canaries, dtype=np.int64)
    by_turn[order] = weights
    rights = [right_weight(by_turn[:turns], run[kind][1]) for run in runs[half:]]
    bounds = [epsilon_lower_weighted(weights=weights, right=r, delta=DELTA, confidence=0.95) for r in rights]
    return {
        "mean": round(float(np.mean(bounds)), 3),
        "standard_error": round(float(np.std(bounds) / half**0.5), 3),
        "guesses": int(np.count_nonzero(weights)),
    }


def right_weight(weights: Any, coins: Any) -> int:
    """Of weights above 0 where "included" is right, below 0 where "excluded" is."""
    return int(np.where(coins, np.maximum(weights, 0), np.maximum(-weights, 0)).sum())


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
    return {
        "plain": plain(likelihood, coins),
        "adaptive": adaptive(likelihood, coins),
        "weighted": ranked(likelihood, coins),
        "adaptive_weighted": told_one_by_one(likelihood, coins, both_ways=True),
    }


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
    return np.cumsum(ranked(likelihood, coins)[1])


def ranked(likelihood: Any, coins: Any) -> tuple[Any, Any]:
    """The chance that each canary is included, and its coin, by falling chance; (canaries,) each."""
    each = coins.shape[1]
    weights = np.log(comb(each, np.arange(each + 1)))[:, None] + likelihood
    expected = (np.exp(weights - logsumexp(weights, axis=0)) * np.arange(each + 1)[:, None]).sum(0)
    order = np.argsort(-expected)
    return np.repeat(expected[order] / each, each), coins[order].ravel()


def adaptive(likelihood: Any, coins: Any) -> Any:
    return np.cumsum(told_one_by_one(likelihood, coins, both_ways=False)[1])


def told_one_by_one(likelihood: Any, coins: Any, both_ways: bool) -> tuple[Any, Any]:
    """Greedy: the axis whose next canary is most certain, then its coin is told. Chances of "included", and
    coins, by turn.

    Most certain is most certainly included or, with `both_ways`, included or excluded: the coin is then given
    as whether the guess is right, with the chance of that.
    """
    axes, each = coins.shape
    told, ones = np.zeros(axes, dtype=int), np.zeros(axes, dtype=int)
    chance = np.array([next_chance(likelihood[:, a], each, 0, 0) for a in range(axes)])
    chances, right = [], []
    for _ in range(min(axes * each, max(TRIED))):
        left = told < each
        axis = int(np.argmax(np.where(left, np.abs(chance - 0.5), -1.0) if both_ways else chance))
        coin = bool(coins[axis, told[axis]])
        guess = not both_ways or chance[axis] >= 0.5
        chances.append(chance[axis] if guess else 1 - chance[axis])
        right.append(coin == guess)
        told[axis] += 1
        ones[axis] += coin
        chance[axis] = next_chance(likelihood[:, axis], each, told[axis], ones[axis])
    return np.array(chances), np.array(right)


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
