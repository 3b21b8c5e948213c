"""How often the intervals of a win rate miss the truth: raw, corrected for the judge, at equal lengths.

    python benchmarks/judge_size.py [--replications 20000] [--out benchmarks/results/judge_size.json]

Truths from .02 to .98, single prompts and prompts in clusters of one fact, ties; for the corrected rate
judges that are right in .8 to .95, whose accuracy is measured on controls. The figures of single prompts
without ties and of the corrected rate are exact, sums over all outcomes. Every other share is of
replications with seeds of their own (a tenth as many at equal lengths); nominal is 95 %. At equal lengths
`fitted` is the share of replications in which there is a rate; `covered` is a share of those. Some twenty
minutes on one core.
"""

import argparse
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import binom

from dpaudit.stats.length_control import equal_length_rate
from dpaudit.stats.win_rates import WinRate, corrected, exact_limits, win_rate

Floats = NDArray[np.float64]
TRUTHS = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)


def drawn(
    rng: np.random.Generator, labels: NDArray[np.int64], truth: float, ties: float, correlation: float
) -> Floats:
    """Outcomes with mean `truth`: `ties` is the share of the possible ties that there are, and facts have
    rates of their own (beta, intraclass correlation `correlation`).
    """
    tied = ties * 2 * min(truth, 1 - truth)
    won: Any = (truth - tied / 2) / (1 - tied) if tied < 1 else 0.0
    if correlation:
        strength = 1 / correlation - 1
        won = rng.beta(won * strength, (1 - won) * strength, labels.max() + 1)[labels]
    outcome: Floats = (rng.random(labels.size) < won).astype(np.float64)
    outcome[rng.random(labels.size) < tied] = 0.5
    return outcome


def covers(facts: int, largest: int, truth: float, ties: float, correlation: float, count: int) -> float:
    """The share of intervals that hold the truth; a fact has 1 to `largest` prompts."""
    held = 0.0
    if largest == 1 and not ties:
        for wins in range(facts + 1):
            lower, upper = exact_limits(wins, facts)
            held += float(binom.pmf(wins, facts, truth)) if lower <= truth <= upper else 0.0
        return held
    for seed in range(count):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(facts), rng.integers(1, largest + 1, facts))
        found = win_rate(drawn(rng, labels, truth, ties, correlation), labels.tolist())
        held += found.lower <= truth <= found.upper
    return held / count


def corrected_covers(prompts: int, controls: int, accuracy: float, truth: float) -> dict[str, float]:
    """The probability that the corrected interval holds the truth, and the mean error of the corrected rate
    where there is one (with what probability there is: `given`): summed over all numbers of prompts won and
    of controls judged rightly.
    """
    judged_won = accuracy * truth + (1 - accuracy) * (1 - truth)
    given = held = error = 0.0
    for right, weight in likely(controls, accuracy):
        known = rate(right, controls)
        for won, of_won in likely(prompts, judged_won):
            found = corrected(rate(won, prompts), known)
            if found.estimate is None or found.lower is None or found.upper is None:
                continue
            given += weight * of_won
            held += weight * of_won * (found.lower <= truth <= found.upper)
            error += weight * of_won * (found.estimate - truth)
    return {"covered": held, "bias": error / given, "given": given}


def likely(draws: int, chance: float) -> list[tuple[int, float]]:
    """All numbers of successes but the least likely, of which each has a probability below 1e-7."""
    weights = binom.pmf(np.arange(draws + 1), draws, chance)
    return [(number, float(weight)) for number, weight in enumerate(weights) if weight > 1e-7]


@cache
def rate(won: int, draws: int) -> WinRate:
    return win_rate([1.0] * won + [0.0] * (draws - won))


def equal_length_covers(facts: int, truth: float, slope: float, count: int) -> tuple[float, float, float]:
    """The share of intervals at equal lengths that hold the truth, the mean error, and the share fitted. A
    judge likes length by `slope`; both orders of a prompt agree in seven of ten at least; one side is longer
    mostly.
    """
    held, errors = 0, []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        gap = rng.normal(40, 60, facts)
        chance = expit(logit(truth) + slope * np.tanh(gap / gap.std()))
        first = rng.random(facts) < chance
        second = np.where(rng.random(facts) < 0.7, first, rng.random(facts) < chance)
        outcomes = np.concatenate([first, second]).astype(np.float64)
        found = equal_length_rate(outcomes, np.tile(gap, 2), [*range(facts), *range(facts)])
        if found.estimate is None or found.lower is None or found.upper is None:
            continue
        held += found.lower <= truth <= found.upper
        errors.append(found.estimate - truth)
    return held / len(errors), float(np.mean(errors)), len(errors) / count


def measured(count: int) -> Iterator[dict[str, Any]]:
    """One row a setting."""
    for facts in (30, 60, 200):
        for largest, ties, correlation in ((1, 0.0, 0.0), (1, 0.5, 0.0), (5, 0.0, 0.3), (5, 0.0, 0.8)):
            for truth in TRUTHS:
                setting = {"facts": facts, "prompts": largest, "ties": ties, "correlation": correlation}
                share = covers(facts, largest, truth, ties, correlation, count)
                yield {"what": "win rate", **setting, "truth": truth, "covered": share}
    for prompts, controls in ((30, 100), (100, 240), (500, 100)):
        for accuracy in (0.8, 0.9, 0.95):
            for truth in (0.1, 0.3, 0.5, 0.7, 0.9):
                setting = {"prompts": prompts, "controls": controls, "accuracy": accuracy, "truth": truth}
                yield {"what": "corrected", **setting, **corrected_covers(prompts, controls, accuracy, truth)}
    yield from equal_lengths(count // 10)


def equal_lengths(count: int) -> Iterator[dict[str, Any]]:
    for facts in (24, 60):
        for slope in (0.0, 1.5):
            for truth in (0.2, 0.5, 0.8):
                share, bias, fitted = equal_length_covers(facts, truth, slope, count)
                setting = {"facts": facts, "slope": slope, "truth": truth, "fitted": fitted}
                yield {"what": "equal lengths", **setting, "covered": share, "bias": bias}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/judge_size.json"))
    asked = parser.parse_args()
    results = []
    for row in measured(asked.replications):
        results.append(row)
        print(json.dumps(row), flush=True)
    found = {"replications": asked.replications, "nominal": 0.95, "results": results}
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
