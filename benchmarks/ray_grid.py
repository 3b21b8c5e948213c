"""A grid of four arms trained by Ray with two workers on two cores, against `--workers 2`: whole commands.

    pip install -e '.[ray]'
    python benchmarks/ray_grid.py --out benchmarks/results/ray_grid.json

Each round trains the demo's four SFT arms both ways, in an order that turns from round to round; Ray is
started and ended by the command. Seconds are those of the clock, so the machine has to be left alone: the
load before each command is kept beside. The aim: Ray takes at most 1.15 times as long. On a machine with
more cores type `taskset --cpu-list 0,1` before it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

AIM = 1.15
WAYS = {"workers": ("--workers", "2"), "ray": ("--on", "ray")}
GRID = {"grid.epsilons": "[8, 4, 1]", "grid.dpo": "[]", "data.preference": "null"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of every arm, in place of the suite's: a shorter check")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    settings = GRID | ({"training.steps": str(asked.steps)} if asked.steps else {})
    rounds = [timed(settings, turned=bool(number % 2)) for number in range(asked.rounds)]
    asked.out.write_text(json.dumps(told(rounds, asked.steps), indent=1) + "\n", encoding="utf-8")
    print(asked.out.read_text(encoding="utf-8"))


def timed(settings: dict[str, str], turned: bool) -> dict[str, Any]:
    """The seconds of one round, and the load before each command."""
    typed = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    found: dict[str, Any] = {}
    for name in sorted(WAYS, reverse=turned):
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "dpaudit", "train", "--suite", "demo", *typed, *WAYS[name]],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            found[name] = {"seconds": round(time.perf_counter() - began, 1), "load_before": round(load, 2)}
    return found


def told(rounds: list[dict[str, Any]], steps: int | None) -> dict[str, Any]:
    ratios = [one["ray"]["seconds"] / one["workers"]["seconds"] for one in rounds]
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor(),
        "ray": version("ray"),
        "steps": steps or "as the suite says",
        "aim": AIM,
        "rounds": rounds,
        "ratio": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    main()
