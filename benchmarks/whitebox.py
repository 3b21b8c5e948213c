"""The white-box tier measured: one-run bound, false refutation and power of the mechanism test at claims 1, 4
and 8.

    python benchmarks/whitebox.py --out benchmarks/results/whitebox.json

1,000 canaries among 10,000 units, 64 a step, 468 steps, delta 1e-5, 95 %. `bound`: dry runs of the engine,
the weights of guesses frozen by the claim; `further` are runs of other seeds, and `expected` is the mean that
the exact distribution of scores gives. `false_refutation` and the faults: audits simulated with NumPy, each
drawn anew; `rate x4` and `steps x3` are what the ledger says less of, so that the noise is that of the
ledger.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpaudit.evidence import whitebox
from dpaudit.findings.inside import OneRun
from dpaudit.privacy.accountants import calibrate, epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import mechanism as mechanism_test
from dpaudit.stats import weighted
from dpaudit.stats.mechanism import SampledGaussian
from dpaudit.stats.roc import proportion_interval
from dpaudit.training import dpsgd, dry

CLAIMS, DELTA, CONFIDENCE, CANARIES, RATE, STEPS = (1.0, 4.0, 8.0), 1e-5, 0.95, 1000, 64 / 10_000, 468
LEDGERS = {  # what acts, of what the ledger says: noise, rate, steps
    "engine": (1.0, 1.0, 1.0),
    "noise / 2": (0.5, 1.0, 1.0),
    "rate x4": (1.0, 4.0, 1.0),
    "steps x3": (1.0, 1.0, 3.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--further", type=int, default=160)
    parser.add_argument("--audits", type=int, default=2000, help="of the engine; a fifth of a fault")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for epsilon in CLAIMS:
        rows.append({"claim": epsilon, "bound": bound(epsilon, arguments.runs, arguments.further)})
        for name in LEDGERS:
            audits = arguments.audits if name == "engine" else arguments.audits // 5
            rows[-1]["false_refutation" if name == "engine" else name] = refuted(epsilon, name, audits)
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"results": rows}, indent=1) + "\n", encoding="utf-8")


def claimed(epsilon: float, rate: float = RATE, steps: int = STEPS) -> SampledGaussian:
    return SampledGaussian(
        calibrate(Claim(epsilon, DELTA, "record", "add_or_remove"), rate, steps), rate, steps
    )


def bound(epsilon: float, runs: int, further: int) -> dict[str, Any]:
    family = claimed(epsilon)
    weights = weighted.weights_frozen(family, CANARIES, DELTA, CONFIDENCE)
    included = mechanism_test.included_by_rank(family, CANARIES)
    found = [dry_bound(epsilon, family.noise_multiplier, seed) for seed in range(runs + further)]
    return {
        **mean([each.epsilon_lower for each in found[:runs]]),
        "further": mean([each.epsilon_lower for each in found[runs:]]) if further else None,
        "expected": round(weighted.expected_bound(weights, included, DELTA, CONFIDENCE), 3),
        "called_in": int((weights > 0).sum()),
        "called_out": int((weights < 0).sum()),
        "ceiling": round(found[0].ceiling, 2),
    }


def dry_bound(epsilon: float, noise: float, seed: int) -> OneRun:
    told = Mechanism(noise, RATE, STEPS, 0.5)
    coins, sampling = (np.random.default_rng([seed, part]) for part in range(2))
    seen = dry.train(dry.Setting(), told, coins, sampling, dpsgd.noise_generator(torch.device("cpu"), seed))
    claim = Claim(epsilon, DELTA, "record", "add_or_remove")
    return whitebox.bounded(seen.observed, seen.included, told, claim, CONFIDENCE)


def mean(found: list[float]) -> dict[str, Any]:
    return {
        "mean": round(float(np.mean(found)), 3),
        "standard_error": round(float(np.std(found) / len(found) ** 0.5), 3),
        "runs": len(found),
    }


def refuted(epsilon: float, name: str, audits: int) -> dict[str, Any]:
    noise, rate, steps = LEDGERS[name]
    family = claimed(epsilon, RATE / rate, round(STEPS / steps))
    random = np.random.default_rng([round(epsilon), *name.encode()])
    hits, by_bound = 0, 0
    weights = weighted.weights_frozen(family, CANARIES, DELTA, CONFIDENCE)
    for _ in range(audits):
        included = random.random(CANARIES) < 0.5
        observed = random.standard_normal((STEPS, CANARIES)) * (family.noise_multiplier * noise)
        observed += (random.random((STEPS, CANARIES)) < RATE) & included
        hits += mechanism_test.p_value(observed, included, family) <= 1 - CONFIDENCE
        right = weighted.right_weight(mechanism_test.scores(observed, family), included, weights)
        by_bound += (
            weighted.p_value_weighted(weights=weights, right=right, epsilon=epsilon, delta=DELTA)
            < 1 - CONFIDENCE
        )
    lower, upper = proportion_interval(hits, audits, CONFIDENCE)
    acting = Mechanism(family.noise_multiplier * noise, RATE, STEPS, 1.0)
    return {
        "share": hits / audits,
        "lower": round(lower, 4),
        "upper": round(upper, 4),
        "audits": audits,
        "by_one_run_bound": by_bound / audits,
        "true_epsilon": round(epsilon_spent(acting, DELTA), 2),
    }


if __name__ == "__main__":
    main()
