"""The demo for several seeds, all reported, none chosen: time, memory, verdicts, and every figure that has a
bar.

    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4 --out benchmarks/results/demo_seeds.json

Seeds that the file already holds and that are not asked for are kept. Time is the whole process's wall clock;
memory the largest sum, over samples every two seconds, of the proportional set sizes of the process and its
children (reading them oftener slows the process that is measured). `bounds` sets the primary rule beside the
rule before it (recipe `difference`: the base's opinion taken off whole, members alone guessed). For
`bits_per_byte_without_axes` the private arms are trained again with `candidates.gradient=0`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

DPAUDIT = str(Path(sys.executable).with_name("dpaudit"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    kept = json.loads(arguments.out.read_text(encoding="utf-8"))["runs"] if arguments.out.is_file() else []
    rows = [row for row in kept if row["seed"] not in arguments.seeds]
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            first, again = measured(seed, Path(folder)), measured(seed, Path(folder))
            found = figures(Path(folder)) | {"bits_per_byte_without_axes": without_axes(seed, Path(folder))}
            rows.append({"seed": seed, **first, "again_seconds": again["seconds"], **found})
        print(json.dumps(rows[-1]), flush=True)
        result = {
            "machine": machine(),
            "bits_per_byte_lost_by_axes": lost(rows),
            "runs": rows,
            "held": {name: all(r["held"][name] for r in rows) for name in rows[0]["held"]},
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def lost(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each private arm, the mean over seeds of the relative loss in bits per byte, and the largest."""
    found = {}
    for arm in rows[0]["bits_per_byte_without_axes"]:
        losses = [row["bits_per_byte"][arm] / row["bits_per_byte_without_axes"][arm] - 1 for row in rows]
        found[arm] = {"mean": sum(losses) / len(losses), "largest": max(losses)}
    return found


def without_axes(seed: int, folder: Path) -> dict[str, float]:
    """Held-out bits per byte of the private arms, trained with no canary along an axis."""
    seeds = ["--seed", str(seed), "--insecure-seed", str(seed)]
    no_more = ["--no-baseline", "--set", "grid.dpo=[]", "--set", "grid.dpo_epsilons=[]"]
    train = ["train", "--eps", "8,4,1", *no_more, "--set", "candidates.gradient=0", *seeds]
    for words in (train, ["eval"]):
        subprocess.run(
            [DPAUDIT, *words, "--runs", "without"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
    run = next((folder / "without").glob("demo-*"))
    arms = ("sft-eps8", "sft-eps4", "sft-eps1")
    return {arm: read(run, f"evaluate/{arm}.json")["quality"]["bits_per_byte"]["value"] for arm in arms}


def measured(seed: int, folder: Path) -> dict[str, float]:
    """Wall seconds and peak memory of one `dpaudit demo`."""
    command = [DPAUDIT, "demo", "--seed", str(seed), "--insecure-seed", str(seed)]
    began, peak = time.monotonic(), 0
    process = psutil.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process))
        time.sleep(2)
    if process.returncode:
        raise SystemExit(f"demo with seed {seed} ended with {process.returncode}")
    return {"seconds": round(time.monotonic() - began, 1), "peak_memory_mb": round(peak / 2**20)}


def memory(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_full_info().pss
    except psutil.Error:
        return total
    return total


def figures(folder: Path) -> dict[str, Any]:
    """The figures of one run and whether each bar of the demo was held."""
    run = next((folder / "runs").glob("demo-*"))
    audits = {
        arm: read(run, f"audit/sft-{arm}/calibrated.json")["canaries"]
        for arm in ("inf", "eps8", "eps4", "eps1")
    }
    extracted = {arm: read(run, f"audit/sft-{arm}/extraction.json") for arm in audits}
    quality = {
        arm: read(run, f"evaluate/{arm}.json")["quality"]["bits_per_byte"]["value"]
        for arm in ("base", *(f"sft-{a}" for a in audits))
    }
    pairs = read(run, "evaluate/summary.json")["pairs"]
    gain = next(
        p
        for p in pairs
        if p["arm"] == "sft-eps8"
        and p["against"] == "base"
        and p["task"] == "clinic_choice"
        and p["measure"] == "accuracy"
    )
    judge = read(run, "judge/summary.json")
    rows = read(run, "audit/summary.json")
    bits = [quality[f"sft-{arm}"] for arm in audits]
    return {
        "canary_auc": {arm: [a["auc"], a["auc_lower"], a["auc_upper"]] for arm, a in audits.items()},
        "coins": audits["eps1"]["n"],
        "bounds": {
            arm: {
                recipe: read(run, f"audit/sft-{arm}/{recipe}.json")["bound"]["epsilon_lower"]
                for recipe in ("calibrated", "difference")
            }
            for arm in audits
        },
        "extracted": {
            arm: [e["planted_found"], e["planted"], e["controls_found"]] for arm, e in extracted.items()
        },
        "bits_per_byte": quality,
        "accuracy_eps8_minus_base": [gain["difference"], gain["lower"], gain["upper"]],
        "verdicts": {
            row["arm"]: [
                row["verdict"],
                *([q["side"], q["p_value"], q["level"], q["power"]] for q in row["questions"]),
            ]
            for row in rows["answers"]
        },
        "positive_control": [
            [r["epsilon_lower"], *(claim["verdict"] for claim in r["claims"])]
            for r in rows["positive_control"]
        ],
        "judge_fit": judge["fit"],
        "held": {
            "inf_auc_at_least_0.9": audits["inf"]["auc"] >= 0.9,
            "inf_half_extracted": 2 * extracted["inf"]["planted_found"] >= extracted["inf"]["planted"],
            "eps1_auc_upper_at_most_0.65_with_500_coins": audits["eps1"]["auc_upper"] <= 0.65
            and audits["eps1"]["n"] >= 500,
            "eps1_nothing_extracted": extracted["eps1"]["planted_found"] == 0,
            "eps8_accuracy_above_base": gain["lower"] > 0,
            "bits_per_byte_in_order": bits == sorted(bits),
        },
    }


def read(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / name).read_text(encoding="utf-8"))
    return found


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }


if __name__ == "__main__":
    main()
