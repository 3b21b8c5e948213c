"""Guesses of members alone against guesses on both sides: the expected one-run bound at the best share.

    python benchmarks/guess_sides.py --out benchmarks/results/guess_sides.json

500 canaries, delta 1e-5; normal scores whose means lie `distance` apart, in or out; 60 simulated audits, seed
0. The share of canaries that are guessed is the best of eight; beside it, what half of them proves, as the
primary recipe guesses. Some two minutes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.stats.epsilon import epsilon_lower_one_run

CANARIES, DELTA, AUDITS = 500, 1e-5, 60
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def row(distance: float) -> dict[str, Any]:
    random = np.random.default_rng(0)
    coins = random.random((AUDITS, CANARIES)) < 0.5
    scores = random.standard_normal((AUDITS, CANARIES)) + distance * coins
    sorted_coins = np.take_along_axis(coins, np.argsort(-scores, 1), 1)
    right_in, right_out = sorted_coins.cumsum(1), (~sorted_coins)[:, ::-1].cumsum(1)
    found: dict[str, Any] = {"distance": distance}
    for level in (0.05, 0.05 / 6):
        for side in ("in", "both"):
            means = {}
            for share in SHARES:
                count = int(share * CANARIES)
                below = count // 2
                correct = (
                    right_in[:, count - 1]
                    if side == "in"
                    else right_in[:, count - below - 1] + right_out[:, below - 1]
                )
                bounds = [
                    epsilon_lower_one_run(
                        canaries=CANARIES, guesses=count, correct=int(n), delta=DELTA, confidence=1 - level
                    )
                    for n in correct
                ]
                means[share] = float(np.mean(bounds))
            best = max(means, key=lambda share: means[share])
            found[f"{side} at {level:.4f}"] = {"bound": means[best], "share": best, "with_half": means[0.5]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    rows = [row(distance) for distance in (1.0, 1.5, 2.0, 2.94, 4.0)]
    parser.parse_args().out.write_text(json.dumps({"results": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
