"""The mechanism test on real trainings of a language model: are its p-values uniform where ledgers are true?

    python benchmarks/mechanism_calibration.py --data meqsum.jsonl --count 300 --out FILE.json

Each training is of its own coins, sampling and noise, from seeds fixed beforehand (0, 1, ...): 100 records of
the data, an adapter of rank 4 on the embedded model (or --model DIR), 20 steps of 32 expected units, 300
canaries along axes, claim 4. Told: the p-values, their shares at or below .05 and .01 with Clopper-Pearson
intervals, and the Kolmogorov-Smirnov test against uniform. A run that is cut goes on: what is in --out
counts. About ten seconds a training on one core; of a 135M model ten minutes and more.
"""

import argparse
import json
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kstest

from dpaudit.evidence import whitebox
from dpaudit.pipeline import sequence
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.prepare.axes import axis_names
from dpaudit.stages.prepare.candidates import load_membership
from dpaudit.stats import mechanism
from dpaudit.stats.roc import proportion_interval
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

ARM, AXES, QUIET = "sft-eps4", 300, Progress(quiet=True)


def suite(data: Path, model: str | None) -> Suite:
    schedule = Schedule(32, 20, 0.01)
    return Suite(
        "calibration",
        Training(schedule, schedule, unit="record", clip=0.05, lora=Lora(rank=4), allow_delta=True),
        model=Model(model or "builtin:tiny", max_length=160 if model else 320),
        data=Data(str(data), limit=104, heldout=4),
        candidates=Candidates(canaries=0, records=0, extraction=0, gradient=AXES),
        grid=Grid((4.0,), baseline=False),
        attacks=(),
        judging=None,
    )


def p_value(made: Suite, seed: int) -> float:
    """Of one training, whose ledger is true."""
    plan = Plan(replace(made, name=f"calibration-{seed}"), insecure_seed=seed)
    folder = Path(tempfile.mkdtemp())
    try:
        run_dir = sequence.train(plan, folder, QUIET, workers=1)
        trained, coins = TrainedArm(run_dir, ARM), load_membership(run_dir)
        observed = np.load(run_dir.file(trained.axes_file))
        included = np.array([coins[name] for name in axis_names(AXES)], dtype=bool)
        return mechanism.p_value(observed, included, whitebox.family(trained.ledger().acting))
    finally:
        shutil.rmtree(folder)


def told(p_values: list[float]) -> dict[str, Any]:
    shares = {}
    for level in (0.05, 0.01):
        below, count = sum(p <= level for p in p_values), len(p_values)
        interval = proportion_interval(below, count, 0.95)
        shares[f"at or below {level}"] = {"count": below, "share": below / count, "interval": list(interval)}
    return {
        "trainings": len(p_values),
        **shares,
        "kolmogorov_smirnov_p": float(kstest(p_values, "uniform").pvalue),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = suite(arguments.data, arguments.model)
    known = (
        json.loads(arguments.out.read_text()) if arguments.out.is_file() else {"p_values": [], "seconds": 0.0}
    )
    p_values, seconds = list(known["p_values"]), float(known["seconds"])
    machine = f"{platform.machine()}, torch {torch.__version__}, one thread"
    for seed in range(len(p_values), arguments.count):
        begun = time.perf_counter()
        p_values.append(p_value(made, seed))
        seconds += time.perf_counter() - begun
        result = {
            "model": Path(arguments.model).name if arguments.model else "builtin:tiny",
            "machine": machine,
            "seconds": seconds,
            **told(p_values),
            "p_values": p_values,
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(seed, p_values[-1], flush=True)


if __name__ == "__main__":
    main()
