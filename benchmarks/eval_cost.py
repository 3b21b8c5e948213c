"""What `dpaudit eval` costs with k arms against one arm: whole processes, loading included.

    python benchmarks/eval_cost.py --out benchmarks/results/eval_cost.json

Two runs of the demo's suite are trained for a few steps, one with a single arm and one with four. Each round
copies both and times `dpaudit eval` on the copies, in an order that turns from round to round; figures are
medians over rounds. The base and half of the non-private adapter are asked in both. Seconds are those of the
processor (one thread) and of the clock, which on a busy machine is the worse measure. The aim: k arms cost at
most k + .3 times one arm.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ARMS = {"one": 1, "several": 4}
GRIDS = {"one": "[]", "several": "[8, 4, 1]"}
SHORT = {
    "data.preference": "null",
    "grid.dpo": "[]",
    "training.private.steps": 2,
    "training.nonprivate.steps": 4,
    "judging": "null",
}
ALLOWED = 0.3  # of one arm, beyond k of them


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = {name: trained(Path(folder) / name, name) for name in ARMS}
        seconds = timed(made, Path(folder), arguments.rounds)
    arguments.out.write_text(json.dumps(told(seconds), indent=1) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def trained(folder: Path, name: str) -> Path:
    """A folder with a run whose arms are trained."""
    folder.mkdir()
    settings = SHORT | {"grid.epsilons": GRIDS[name]}
    typed = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    dpaudit(folder, "train", "--suite", "demo", *typed)
    return folder


def timed(made: dict[str, Path], folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Name -> seconds of processor and clock that `eval` takes, round by round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for number in range(rounds):
        for name in list(made)[:: 1 if number % 2 else -1]:
            copy = folder / "copy"
            shutil.copytree(made[name], copy)
            seconds[name].append(dpaudit(copy, "eval"))
            shutil.rmtree(copy)
    return seconds


def dpaudit(folder: Path, *words: str) -> tuple[float, float]:
    """Seconds of processor and clock that a command takes."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dpaudit", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ended - begun


def told(seconds: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians, and what k arms cost in arms."""
    medians = {
        clock: {name: statistics.median(row[place] for row in rows) for name, rows in seconds.items()}
        for place, clock in enumerate(("processor", "clock"))
    }
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread",
        "rounds": len(seconds["one"]),
        "arms": ARMS,
        "seconds": medians,
        "times_one_arm": {clock: of["several"] / of["one"] for clock, of in medians.items()},
        "allowed": ARMS["several"] + ALLOWED,
        "holds": medians["processor"]["several"] <= (ARMS["several"] + ALLOWED) * medians["processor"]["one"],
    }


if __name__ == "__main__":
    main()
