"""Our own engine audited from both sides: plant, train at epsilon 3, verify, and the mechanism test from
inside, by seed.

    python benchmarks/own_engine.py --seeds 20 --out benchmarks/results/own_engine.json

Every seed is a planting, a training and a verification of its own, typed as a user types them; coins,
sampling and noise come from the operating system. The one-run bound (eps,delta) of the planted canaries is to
refute none, the mechanism test at 5 % at most 3 of 20.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dpaudit.data import clinic

EPSILON = 3.0
CLAIM = "eps=3,delta=1e-5,unit=record,relation=add_or_remove"
SUITE = """
name: own-engine
model: {base: builtin:tiny, max_length: 96}
data: {source: planted.jsonl, heldout: 10}
candidates: {family: portal_phrase, canaries: 100, canary_length: 2, records: 0, extraction: 0,
    gradient: 1000}
training:
  unit: record
  delta: 1e-5
  clip: 0.05
  lora: {rank: 8, alpha: 16, targets: all-linear}
  private: {batch: 60, steps: 120, learning_rate: 0.02}
  nonprivate: {batch: 16, steps: 10, learning_rate: 0.004}
grid: {epsilons: [3], baseline: false}
attacks: [mia]
evaluation: {tasks: []}
judging: null
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"seed": seed, **audited(Path(folder), seed, arguments.records)})
        print(json.dumps(rows[-1]), flush=True)
        found = {
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "python": platform.python_version(),
            },
            "claim": CLAIM,
            "runs": rows,
            "refuted_by_one_run": sum(row["one_run"]["verdict"] == "refuted" for row in rows),
            "refuted_from_inside_by_one_run": sum(
                row["inside_one_run"]["epsilon_lower"] > EPSILON for row in rows
            ),
            "refuted_by_mechanism_test": sum(row["mechanism_test"]["p_value"] <= 0.05 for row in rows),
            "failed_checks": sum(row["failed_checks"] for row in rows),
        }
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def audited(folder: Path, seed: int, records: int) -> dict[str, Any]:
    """One planting, training and verification in `folder`."""
    write_records(folder / "train.jsonl", seed, records)
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    typed(folder, "plant", "train.jsonl", "--out", "planted.jsonl", "--key", "key.json", "--family", "words")
    typed(folder, "train", "--suite", "suite.yaml", "--seed", str(seed))
    typed(folder, "attack", "mia")
    run = next((folder / "runs").glob("own-engine-*"))
    code = typed(
        folder,
        "verify",
        "--adapter",
        str(run / "train/sft-eps3/adapter"),
        "--key",
        "key.json",
        "--claim",
        CLAIM,
        "--data",
        "planted.jsonl",
        expected=(0, 1, 4),
    )
    verified = read(folder / "verification/verification.json")
    (answer,), (asked,) = verified["answers"], verified["models"]
    inside = read(run / "audit/inside/sft-eps3.json")
    return {
        "exit_code": code,
        "one_run": {
            "verdict": answer["verdict"],
            "auc": asked["performance"]["auc"],
            **{k: answer["bound"][k] for k in ("epsilon_lower", "ceiling", "guesses", "correct")},
        },
        "inside_one_run": {k: inside["one_run"][k] for k in ("epsilon_lower", "ceiling")},
        "mechanism_test": {k: inside["mechanism_test"][k] for k in ("p_value", "epsilon_lower", "auc")},
        "failed_checks": sum(check["outcome"] == "fail" for check in inside["conformance"]),
    }


def write_records(file: Path, seed: int, count: int) -> None:
    """Dialogues of the synthetic clinic as chat rows."""
    rows: list[str] = []
    patient = 0
    while len(rows) < count:
        for record in clinic.told(clinic.patient(seed, patient))[0]:
            turns = [{"role": turn.role, "content": turn.text} for turn in record.turns]
            rows.append(json.dumps({"messages": turns}, ensure_ascii=False))
        patient += 1
    file.write_text("\n".join(rows[:count]) + "\n", encoding="utf-8")


def typed(folder: Path, *words: str, expected: tuple[int, ...] = (0,)) -> int:
    """The exit code of `dpaudit WORDS` typed in `folder`. Ends the benchmark for one that is not expected."""
    done = subprocess.run(
        [sys.executable, "-m", "dpaudit", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode not in expected:
        raise SystemExit(f"dpaudit {words[0]}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.returncode


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
