"""The demo for several seeds, all reported, none chosen: time, memory, verdicts, and every figure that has a
bar.

    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4 --out benchmarks/results/demo_seeds.json

Seeds that the file already holds and that are not asked for are kept. Time is the whole process's wall clock;
memory the largest sum, over samples every two seconds, of the proportional set sizes of the process and its
children (reading them oftener slows the process that is measured). `bounds` sets the primary rule beside the
rule before it (recipe `difference`: the base's opinion taken off whole, members alone guessed). For
`bits_per_byte_without_axes` the private arms are trained again with `candidates.gradient=0`, or, under
`--keep-without-axes`, the figures that the file holds are kept: only where no training changed since.
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
ARMS = ("inf", "eps8", "eps4", "eps1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep-without-axes", action="store_true")
    arguments = parser.parse_args()
    kept = json.loads(arguments.out.read_text(encoding="utf-8"))["runs"] if arguments.out.is_file() else []
    known = {row["seed"]: row for row in kept}
    for seed in arguments.seeds:
        bits = known[seed]["bits_per_byte_without_axes"] if arguments.keep_without_axes else None
        with tempfile.TemporaryDirectory() as folder:
            known[seed] = {"seed": seed, **one_seed(seed, Path(folder), bits)}
        print(json.dumps(known[seed]), flush=True)
        rows = [known[one] for one in sorted(known)]
        result = {
            "machine": machine(),
            "bits_per_byte_lost_by_axes": lost(rows),
            "runs": rows,
            "held": {name: all(r["held"].get(name, False) for r in rows) for name in known[seed]["held"]},
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def one_seed(seed: int, folder: Path, without: dict[str, float] | None) -> dict[str, Any]:
    first, again = measured(seed, folder), measured(seed, folder)
    return {
        **first,
        "again_seconds": again["seconds"],
        **figures(folder),
        "bits_per_byte_without_axes": without or without_axes(seed, folder),
    }


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
    found = attacked(run) | quality(run) | verdicts(run) | {"preferences": preferences(run)}
    return found | {"held": held(found)}


def attacked(run: Path) -> dict[str, Any]:
    audits = {arm: read(run, f"audit/sft-{arm}/calibrated.json")["canaries"] for arm in ARMS}
    extracted = {arm: read(run, f"audit/sft-{arm}/extraction.json") for arm in ARMS}
    return {
        "canary_auc": {arm: [a["auc"], a["auc_lower"], a["auc_upper"]] for arm, a in audits.items()},
        "coins": audits["eps1"]["n"],
        "bounds": {
            arm: {
                recipe: read(run, f"audit/sft-{arm}/{recipe}.json")["bound"]["epsilon_lower"]
                for recipe in ("calibrated", "difference")
            }
            for arm in ARMS
        },
        "extracted": {
            arm: [e["planted_found"], e["planted"], e["controls_found"]] for arm, e in extracted.items()
        },
    }


def quality(run: Path) -> dict[str, Any]:
    asked = {"arm": "sft-eps8", "against": "base", "task": "clinic_choice", "measure": "accuracy"}
    pairs = read(run, "evaluate/summary.json")["pairs"]
    gain = next(p for p in pairs if asked.items() <= p.items())
    return {
        "bits_per_byte": {
            arm: read(run, f"evaluate/{arm}.json")["quality"]["bits_per_byte"]["value"]
            for arm in ("base", *(f"sft-{a}" for a in ARMS))
        },
        "accuracy_eps8_minus_base": [gain["difference"], gain["lower"], gain["upper"]],
        "judge_fit": read(run, "judge/summary.json")["fit"],
    }


def verdicts(run: Path) -> dict[str, Any]:
    audit = read(run, "audit/summary.json")
    return {
        "verdicts": {
            row["arm"]: [
                row["verdict"],
                *([q["side"], q["p_value"], q["level"], q["power"]] for q in row["questions"]),
            ]
            for row in audit["answers"]
        },
        "positive_control": [
            [r["epsilon_lower"], *(claim["verdict"] for claim in r["claims"])]
            for r in audit["positive_control"]
        ],
    }


def preferences(run: Path) -> dict[str, Any]:
    """Of each preference arm against each model it is compared with: how much its accuracy on held-out pairs
    changed, with the interval, and the warning of the page, if there is one."""
    found: dict[str, Any] = {}
    for row in read(run, "evaluate/preferences.json")["results"]["compared"]:
        accuracy = next(c for c in row["changes"] if c["measure"] == "accuracy")
        changed = [accuracy[name] for name in ("difference", "lower", "upper")]
        found.setdefault(row["arm"], {})[row["role"]] = {"accuracy": changed, "warning": row["worse"]}
    return found


def held(found: dict[str, Any]) -> dict[str, bool]:
    auc, extracted = found["canary_auc"], found["extracted"]
    bits = [found["bits_per_byte"][f"sft-{arm}"] for arm in ARMS]
    preferred = found["preferences"]
    return {
        "inf_auc_at_least_0.9": auc["inf"][0] >= 0.9,
        "inf_half_extracted": 2 * extracted["inf"][0] >= extracted["inf"][1],
        "eps1_auc_upper_at_most_0.65_with_500_coins": auc["eps1"][2] <= 0.65 and found["coins"] >= 500,
        "eps1_nothing_extracted": extracted["eps1"][0] == 0,
        "eps8_accuracy_above_base": found["accuracy_eps8_minus_base"][1] > 0,
        "bits_per_byte_in_order": bits == sorted(bits),
        **{
            f"{arm}_prefers_better_than_its_start": preferred[arm]["its start"]["accuracy"][1] > 0
            for arm in preferred
        },
        "no_warning_of_preference_training": not any(
            row["warning"] for rows in preferred.values() for row in rows.values()
        ),
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
