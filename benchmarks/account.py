"""How long `dpaudit account --eps` takes as a whole process, and whether its noise is the needed noise.

    python benchmarks/account.py --out benchmarks/results/account.json

The alternative is a plain bisection over dp-accounting's PLD accountant at its default interval of 1e-4, down
to 1e-6 of the noise, upper end returned. It takes minutes in all, is run once a case and kept in the file
with its time. Rounds go over the cases in turn, so that what else the machine does falls on all; medians and
all rounds are kept.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

DELTA, INTERVAL = 1e-5, 1e-4
SECONDS, EXCESS = 10.0, 1.001  # the bars: of the whole process, and of the noise over the reference
CASES = [(epsilon, 0.01, 1000) for epsilon in (0.1, 1.0, 4.0, 8.0)] + [(1.0, 0.004, 5000), (8.0, 0.004, 5000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    references = known(arguments.out)
    rounds: dict[str, list[float]] = {name(case): [] for case in CASES}
    answers: dict[str, dict[str, Any]] = {}
    for _ in range(arguments.rounds):
        for case in CASES:
            seconds, answers[name(case)] = asked(*case)
            rounds[name(case)].append(seconds)
    rows = []
    for case in CASES:
        reference = references.get(name(case)) or bisected(*case)
        rows.append(row(case, rounds[name(case)], answers[name(case)], reference))
        print(json.dumps(rows[-1]), flush=True)
    held = {bar: all(found["held"][bar] for found in rows) for bar in rows[0]["held"]}
    found = {"machine": machine(), "delta": DELTA, "interval": INTERVAL, "cases": rows, "held": held}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def name(case: tuple[float, float, int]) -> str:
    epsilon, rate, steps = case
    return f"epsilon {epsilon:g}, rate {rate:g}, {steps} steps"


def known(file: Path) -> dict[str, dict[str, float]]:
    """The references that an earlier call measured with the present dp-accounting."""
    if not file.is_file():
        return {}
    kept = json.loads(file.read_text(encoding="utf-8"))
    same = kept["machine"]["packages"]["dp-accounting"] == version("dp-accounting")
    return {found["case"]: found["reference"] for found in kept["cases"]} if same else {}


def asked(epsilon: float, rate: float, steps: int) -> tuple[float, dict[str, Any]]:
    """Wall seconds and answer of one `dpaudit account`, start-up included."""
    options = {"--eps": epsilon, "--rate": rate, "--steps": steps, "--delta": DELTA}
    words = [text for option, value in options.items() for text in (option, str(value))]
    began = time.monotonic()
    command = [sys.executable, "-m", "dpaudit.cli", "account", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.monotonic() - began, json.loads(done.stdout)


def epsilon_of(rate: float, steps: int) -> Callable[[float], float]:
    """The epsilon of a noise multiplier by dp-accounting at the reference interval."""
    import dp_accounting
    from dp_accounting import pld

    def epsilon(noise_multiplier: float) -> float:
        step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise_multiplier))
        accountant = pld.PLDAccountant(
            dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=INTERVAL
        )
        return float(accountant.compose(step, steps).get_epsilon(DELTA))

    return epsilon


def bisected(epsilon: float, rate: float, steps: int) -> dict[str, float]:
    """The least noise that keeps the claim at the reference interval, and the seconds that plain bisection
    took.
    """
    began = time.monotonic()
    spent = epsilon_of(rate, steps)
    low, high = 0.1, 1.0
    while spent(high) > epsilon:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) <= epsilon else (middle, high)
    return {"noise_multiplier": high, "seconds": round(time.monotonic() - began, 1)}


def row(
    case: tuple[float, float, int], seconds: list[float], answer: dict[str, Any], reference: dict[str, float]
) -> dict[str, Any]:
    epsilon, rate, steps = case
    noise_multiplier, median = answer["noise_multiplier"], statistics.median(seconds)
    share = noise_multiplier / reference["noise_multiplier"]
    recomputed = epsilon_of(rate, steps)(noise_multiplier)
    return {
        "case": name(case),
        "noise_multiplier": noise_multiplier,
        "seconds": round(median, 2),
        "rounds": [round(one, 2) for one in seconds],
        "reference": reference,
        "noise_over_reference": round(share, 7),
        "epsilon_recomputed": recomputed,
        "held": {
            "within_10_seconds": median <= SECONDS,
            "never_below": recomputed <= epsilon,
            "within_0.1_percent": share <= EXCESS,
        },
    }


def machine() -> dict[str, Any]:
    packages = ("dp-accounting", "numpy", "scipy", "opacus")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in packages},
    }


def processor() -> str:
    """The model of the processor where the system tells it, else its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
