"""Trains, attacks and judges a claim from Python, on the embedded model and clinic: a first look, with few
steps and canaries.

    python docs/worked.py [FOLDER FOR RUNS]
"""

import sys
from pathlib import Path
from typing import Any

import dpaudit

SMALL: dict[str, Any] = {
    "grid.epsilons": [8],
    "grid.dpo": [],
    "attacks": ["mia"],
    "data.patients": 300,
    "candidates.canaries": 100,
    "candidates.records": 50,
    "candidates.extraction": 4,
    "training.private.steps": 4,
    "training.private.batch": 32,
    "training.nonprivate.steps": 40,
}


def main(runs: Path, suite: str = "demo", settings: dict[str, Any] | None = None) -> None:
    plan = dpaudit.plan(suite, SMALL if settings is None else settings)
    run = dpaudit.train(plan, runs=runs, progress=True)
    print(f"{run.name}: note down {run.commitment}")
    report = dpaudit.audit(run)
    for found in report.audits:
        if found.primary and found.bound:
            proven = found.bound
            print(f"{found.arm}: at least {proven.epsilon_lower:.2f}, of at most {proven.ceiling:.2f}")
    for claim in run.verify():
        print(f"{claim.arm}, epsilon {claim.claim:g}: {claim.verdict}, {claim.reason}")
    print(run.write_page())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
