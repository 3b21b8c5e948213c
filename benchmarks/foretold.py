"""What `--dry-run` foretells of a suite's training, and what the training then takes: whole processes.

    python benchmarks/foretold.py --out benchmarks/results/foretold.json demo
    python benchmarks/foretold.py --out ... --data FILE small --steps 20

A dry run measures, then the same arms are trained. Seconds are those of the clock, on the machine as it was,
and those of the processor, less those of a dry run that measures nothing, which prepares the same corpus.
Where other work runs beside, the processor's are the better measure. The aims: time within a factor of 1.5,
memory within 20 %.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

AIMS = {"time": 1.5, "memory": 1.2}
DONE = re.compile(r"training (\S+): done \(([\d.]+) s\)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, help="of every arm, in place of the suite's: a shorter check")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    typed = ["train", "--suite", asked.suite, "--json"]
    typed += ["--data", str(asked.data.resolve())] if asked.data else []
    typed += ["--set", f"training.steps={asked.steps}"] if asked.steps else []
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        bare = dpaudit(Path(folder), *typed, "--dry-run", "--no-measure")
        foretold = dpaudit(Path(folder), *typed, "--dry-run")
        loads.append(os.getloadavg()[0])
        trained = dpaudit(Path(folder), *typed)
    loads.append(os.getloadavg()[0])
    named = f"{asked.suite}, {asked.steps} steps" if asked.steps else asked.suite
    made = {"load": loads, **compared(bare, foretold, trained)}
    kept = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else {}
    results = kept.get("results", {}) | {named: made}
    kept = {"machine": machine(), "aims": AIMS, "results": results}
    asked.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(asked.out.read_text(encoding="utf-8"))


def dpaudit(folder: Path, *words: str) -> dict[str, Any]:
    """What a command printed, and its seconds of clock and processor, those of its processes included."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "dpaudit", *words], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "told": json.loads(done.stdout),
        "arms": {name: float(seconds) for name, seconds in DONE.findall(done.stderr)},
        "seconds": time.perf_counter() - began,
        "processor_seconds": processor,
    }


def compared(bare: dict[str, Any], foretold: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Foretold, taken and their ratio (foretold over taken), of every arm and of all."""
    rows = {row["what"]: row for row in foretold["told"]["takes"]}
    took = {row["arm"]: row for row in trained["told"]["took"]}
    *_, whole = rows.values()
    arms = {
        name: {
            "seconds": pair(rows[name]["seconds"], trained["arms"][name]),
            "memory_mb": pair(rows[name]["peak_memory_mb"], took[name]["peak_memory_mb"]),
        }
        for name in took
    }
    of_training = trained["processor_seconds"] - bare["processor_seconds"]
    return {
        "arms": arms,
        "all_processor_seconds": pair(whole["processor_seconds"], of_training),
        "all_seconds": pair(whole["seconds"], trained["seconds"] - bare["seconds"]),
        "measuring_seconds": foretold["seconds"] - bare["seconds"],
        "measuring_processor_seconds": foretold["processor_seconds"] - bare["processor_seconds"],
    }


def pair(foretold: float, taken: float) -> dict[str, float]:
    return {"foretold": round(foretold, 2), "taken": round(taken, 2), "ratio": round(foretold / taken, 3)}


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "processor": platform.processor(), "torch": torch.__version__}


if __name__ == "__main__":
    main()
