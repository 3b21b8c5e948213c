"""What one finished run of a suite shows of its attacks, per arm and recipe, with what it cost in time.

    dpaudit run suites/smollm2-medquad.yaml --model DIR --data FILE
    python benchmarks/real_run.py runs/NAME --attack-seconds 700 --out benchmarks/results/smollm2_medquad.json

Training times are the run's own; those of attacks are given as they were taken. Nothing that names a text is
copied.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import psutil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--attack-seconds", type=float, help="of attack mia, wall clock")
    parser.add_argument("--note", default="", help="how the machine was used meanwhile")
    arguments = parser.parse_args()
    run = arguments.run
    plan, manifest = read(run / "plan.json"), read(run / "corpus/manifest.json")
    found = {
        "machine": machine(),
        "note": arguments.note,
        "suite": plan["suite"]["name"],
        "primary": plan["suite"]["primary"],
        "counts": manifest["counts"],
        "shares": {key: value for key, value in manifest.items() if "share" in key},
        "seconds": {arm.parent.name: read(arm)["seconds"] for arm in sorted(run.glob("train/*/train.json"))}
        | {"attack mia": arguments.attack_seconds},
        "claims": {f.parent.name: read(f)["claim"] for f in sorted(run.glob("train/*/privacy.json"))},
        "attacks": {
            folder.name: {f.stem: row(read(f)) for f in sorted(folder.glob("*.json"))}
            for folder in sorted(run.glob("audit/*"))
            if folder.is_dir() and folder.name != "inside"
        },
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def row(audit: dict[str, Any]) -> dict[str, Any]:
    """The figures of one audit, its curves left out."""
    if "bound" not in audit:
        kept = {
            key: value for key, value in audit.items() if key not in ("inputs", "exposure", "arm", "recipe")
        }
        return {key: value for key, value in kept.items() if not isinstance(value, list)}
    canaries, bound, records = audit["canaries"], audit["bound"], audit["records"] or {}
    low = canaries["tpr_at_fpr"]
    return {
        **{key: canaries[key] for key in ("n", "members", "auc", "auc_lower", "auc_upper")},
        "tpr_at_1_percent_fpr": low["tpr_on_curve"] if low["tpr"] is None else low["tpr"],
        **{
            key: bound[key]
            for key in ("epsilon_lower", "ceiling", "guesses", "correct", "canaries", "confidence", "delta")
        },
        "records_auc": [records.get(key) for key in ("auc", "auc_lower", "auc_upper")],
        "records_near_duplicates": records.get("near_duplicates"),
        "blind_auc": (audit["blind"] or {}).get("auc"),
    }


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
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
