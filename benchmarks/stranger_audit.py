"""A stranger's training audited from end to end: plant, `stranger.py`, verify, once for every seed, none
chosen.

    python benchmarks/stranger_audit.py --model DIR --data dialogues.jsonl --rows 100 --seeds 0 1 2 --work DIR
    \\
        --out benchmarks/results/stranger_audit.json

A seed has a planting with coins of its own and a training of its own. What the work folder already holds is
not made again. The figures in `results/` are of the 135M model and the first 100 rows of MeQSum. Family of
secrets, learning rate and length of a row were settled on another planting, whose result is no part of these.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

CLAIM = "eps=3,delta=1e-5,unit=record,relation=add_or_remove"
EXIT_CODES = (0, 1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    lines = arguments.data.read_text(encoding="utf-8").splitlines(keepends=True)[: arguments.rows]
    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    runs = [{"seed": seed, **audited(arguments.work, seed, arguments.model)} for seed in arguments.seeds]
    found = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "data": arguments.data.name,
        "rows": len(lines),
        "claim": CLAIM,
        "trainer": "benchmarks/stranger.py, its defaults, bfloat16",
        "runs": runs,
        "refuted": sum(run["verdict"] == "refuted" for run in runs),
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def audited(work: Path, seed: int, model: str) -> dict[str, Any]:
    """Plants, trains and verifies under one seed, and what verify found."""
    place = work / f"s{seed}"
    place.mkdir(exist_ok=True)
    data, key, adapter = place / "planted.jsonl", place / "key.json", place / "adapter"
    if not data.is_file():
        typed("-m", "dpaudit", "plant", work / "train.jsonl", "--out", data, "--key", key)
    if not (adapter / "adapter_model.safetensors").is_file():
        script = Path(__file__).with_name("stranger.py")
        typed(
            script, "--model", model, "--data", data, "--out", adapter, "--dtype", "bfloat16", "--seed", seed
        )
    found = place / "verification/verification.json"
    if not found.is_file():
        typed(
            "-m",
            "dpaudit",
            "verify",
            "--adapter",
            adapter,
            "--base",
            model,
            "--key",
            key,
            "--data",
            data,
            "--claim",
            CLAIM,
            "--out",
            found.parent,
            expected=EXIT_CODES,
        )
    told = json.loads(found.read_text(encoding="utf-8"))
    (answer,), (asked,) = told["answers"], told["models"]
    kept = ("epsilon_lower", "ceiling", "canaries", "guesses", "correct", "confidence", "notion")
    return {
        "verdict": answer["verdict"],
        "rendering": asked["rule"]["rendering"],
        "recipe": asked["rule"]["recipe"],
        "auc": asked["performance"]["auc"],
        "rows_planted": sum(1 for _ in data.open(encoding="utf-8")),
        **{key: answer["bound"][key] for key in kept},
    }


def typed(*words: object, expected: tuple[int, ...] = (0,)) -> None:
    """Runs `python WORDS`. Ends the benchmark for an exit code that is not expected."""
    code = subprocess.run([sys.executable, *map(str, words)], check=False).returncode
    if code not in expected:
        raise SystemExit(f"{words[0]} {words[1]}: exit code {code}")


if __name__ == "__main__":
    main()
