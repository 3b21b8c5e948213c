"""Whole pages whose claims are all true: how often is any of them refuted?

    python benchmarks/true_claims.py --seeds 20 --out benchmarks/results/true_claims.json

Every seed is a run of its own from end to end: the embedded model and clinic, arms at epsilon 1, 4 and 8 and
one without noise as their control, 300 canaries of text, and as many along axes of the weights as `auto`
takes. Coins, sampling and noise come from the seed. Both questions of every claim are tested in one family.
At most 3 of 20 pages are to be refuted anywhere: more have a chance of 1.6 % where a page errs in 5 %. What
--out holds already is not run again. Some two minutes a seed on one core.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from dpaudit.findings.together import Together
from dpaudit.pipeline import sequence
from dpaudit.suite.loading import load
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

SUITE = """
name: true-claims
model: {base: builtin:tiny, max_length: 64}
data: {source: builtin:clinic, patients: 600, heldout: 20}
candidates: {family: portal_phrase, canaries: 300, canary_length: 2, records: 0, extraction: 0}
training:
  unit: record
  delta: 1e-5
  clip: 0.05
  allow_delta: true
  lora: {rank: 8, alpha: 16, targets: all-linear}
  private: {batch: 150, steps: 30, learning_rate: 0.02}
  nonprivate: {batch: 16, steps: 500, learning_rate: 0.004}
grid: {epsilons: [8, 4, 1], baseline: true}
attacks: [mia]
evaluation: {tasks: []}
judging: null
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(arguments.out.read_text())["pages"] if arguments.out.is_file() else []
    for seed in range(len(rows), arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"seed": seed, **page(Path(folder), seed)})
        print(json.dumps(rows[-1]), flush=True)
        result = {
            "machine": f"{platform.machine()}, torch {torch.__version__}, one thread",
            "pages_refuted": sum(row["refuted"] for row in rows),
            "pages": rows,
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def page(folder: Path, seed: int) -> dict[str, Any]:
    """One run from its suite to its verdicts."""
    suite = folder / "true-claims.yaml"
    suite.write_text(SUITE, encoding="utf-8")
    begun = time.perf_counter()
    plan = Plan(load(str(suite)), seed=seed, insecure_seed=seed)
    run_dir = sequence.everything(plan, folder / "runs", Progress(quiet=True), workers=1)
    found = Together.read(run_dir, "audit/summary.json")
    return {
        "seconds": round(time.perf_counter() - begun),
        "refuted": any(answer.verdict == "refuted" for answer in found.answers),
        "answers": [
            {
                "claim": answer.claim.epsilon,
                "verdict": answer.verdict,
                "questions": [[q.side, q.p_value, q.level, q.power] for q in answer.questions],
            }
            for answer in found.answers
        ],
    }


if __name__ == "__main__":
    main()
