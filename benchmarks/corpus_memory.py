"""Memory of a corpus by its size: peak resident memory of stage prepare and of building the training units.

    python benchmarks/corpus_memory.py --out benchmarks/results/corpus_memory.json

Each size runs in a process of its own, over a JSONL file of synthetic consultations made beforehand. The peak
is `ru_maxrss`, what /usr/bin/time reports. It counts pages of mapped files too, and not the page cache.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__)
ROOT = HERE.parents[1]
WORDS = ("pain", "fever", "since", "monday", "tablet", "evening", "doctor", "rest", "cough", "rash", "sleep",
    "dose")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--units", nargs="+", default=["record", "patient"])
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--measure", nargs=3, metavar=("FILE", "UNIT", "RUNS"), help="one run, in this process"
    )
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(*arguments.measure)))
        return
    rows = []
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "data.jsonl"
            write_corpus(file, size)
            for unit in arguments.units:
                rows.append(
                    {"records": size, "unit": unit, "file_mb": file.stat().st_size >> 20, **apart(file, unit)}
                )
                print(json.dumps(rows[-1]), flush=True)
    if arguments.out is not None:
        found = {"machine": machine(), "rows": rows, "growth": growth(rows)}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write_corpus(file: Path, size: int) -> None:
    """Dialogues of about 60 words; on average three to a patient, whose records lie anywhere in the file."""
    rng = random.Random(0)
    with file.open("w", encoding="utf-8") as stream:
        for number in range(size):
            turns = [
                {"from": speaker, "value": f"{number} {' '.join(rng.choices(WORDS, k=30))}"}
                for speaker in ("human", "gpt")
            ]
            row = {"conversations": turns, "id": f"r{number}", "patient_id": f"p{rng.randrange(size // 3)}"}
            stream.write(json.dumps(row) + "\n")


def apart(file: Path, unit: str) -> dict[str, float]:
    """What one run in a fresh process measured."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, str(HERE), "--measure", str(file), unit, runs]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(file: str, unit: str, runs: str) -> dict[str, float]:
    """Peaks so far, in MB, and seconds: after prepare, after building the units, after reading 1,000 of
    them.
    """
    from dpaudit.commands.asked import Asked
    from dpaudit.pipeline import plans
    from dpaudit.stages.prepare import prepare
    from dpaudit.stages.train import training_set
    from dpaudit.storage import run_store
    from dpaudit.system.progress import Progress

    changed = Asked(data=file, unit=unit, settings=["data.preference=null", "grid.dpo=[]"]).overrides()
    plan = plans.resolve("demo", changed)
    run_dir = run_store.open_or_create(plan.to_json(), "memory", Path(runs))
    found, began = {}, time.monotonic()
    prepare.run(run_dir, plan, Progress(quiet=True))
    found |= {"prepare_mb": peak(), "prepare_seconds": round(time.monotonic() - began, 1)}
    began = time.monotonic()
    training_set.expected_units(run_dir, "sft", unit)
    data = training_set.load(run_dir, plan, "sft")
    found |= {"units_mb": peak(), "units_seconds": round(time.monotonic() - began, 1)}
    began, rng = time.monotonic(), random.Random(0)
    for _ in range(1000):
        assert data.units[rng.randrange(len(data.units))]
    found |= {"read_mb": peak(), "microseconds_a_unit": round((time.monotonic() - began) * 1000)}
    return found | {"units": len(data.units)}


def peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def growth(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per unit, by how many MB and by which share the largest corpus exceeds the smallest."""
    found = {}
    for unit in sorted({row["unit"] for row in rows}):
        of_unit = sorted((row for row in rows if row["unit"] == unit), key=lambda row: row["records"])
        least, most = of_unit[0]["read_mb"], of_unit[-1]["read_mb"]
        grown = of_unit[-1]["prepare_mb"] - of_unit[0]["prepare_mb"]
        found[unit] = {
            "mb": round(most - least, 1),
            "share": round(most / least - 1, 4),
            "prepare_mb": round(grown, 1),
        }
    return found


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
