"""Our own engine, on rows of the same file."""

import json
from pathlib import Path
from typing import Any

import common
from common import Work

from dpaudit.models.hf import resolve

SUITE = """
name: field
description: The rows of the field, by our own engine.
model: {{base: "{base}", max_length: {length}}}
data: {{source: "{data}", heldout: 50}}
candidates: {{canaries: 100, records: 50, extraction: 0}}
training:
  unit: record
  delta: {delta}
  clip: {clip}
  lora: {{rank: 8, alpha: 16}}
  private: {{batch: {batch}, steps: 84, learning_rate: 0.001}}
  nonprivate: {{batch: {batch}, steps: 84, learning_rate: 0.001}}
grid: {{epsilons: [{epsilon}], baseline: false}}
attacks: [mia]
evaluation: {{tasks: []}}
judging: null
"""


def shortened(work: Work) -> Path:
    """The rows with the end of every question alone, so that answers fit into the length of the others."""
    out = work.folder / "rows.jsonl"
    with out.open("w", encoding="utf-8") as file:
        for line in work.data.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["conversations"][0]["value"] = row["conversations"][0]["value"][-40:]
            print(json.dumps(row), file=file)
    return out


def trained(work: Work) -> dict[str, Any]:
    suite = work.folder / "field.yaml"
    suite.write_text(
        SUITE.format(
            base=resolve("builtin:tiny"),
            data=shortened(work).absolute(),
            delta=common.DELTA,
            clip=common.CLIP,
            batch=common.BATCH,
            epsilon=common.EPSILON,
            length=common.LENGTH,
        )
    )
    runs = work.folder / "runs"
    common.command("run", str(suite), "--runs", str(runs))
    shown = json.loads(common.command("verify", "--run", "field", "--runs", str(runs), "--json"))
    (claim,) = shown["declared"]
    if claim["ceiling"] > claim["claim"]:
        raise SystemExit("ours: the claim is in reach from outside: look at its question there")
    outside = {"verdict": "no power", "reason": f"all guesses right would have proven {claim['ceiling']:.2f}"}
    return {"inside": seen_inside(runs / shown["run"], claim), "outside": outside}


def seen_inside(run: Path, claim: dict[str, Any]) -> dict[str, Any]:
    """The verdict of the run rests on the look from inside: from outside no claim of 8 is in reach."""
    look = json.loads((run / "audit" / "inside" / f"{claim['arm']}.json").read_text(encoding="utf-8"))
    return {
        "verdict": claim["verdict"],
        "reason": claim["reason"],
        "failed": [check["name"] for check in look["conformance"] if check["outcome"] == "fail"],
        "p_value": look["mechanism_test"]["p_value"],
        "power_halved": look["power_halved"],
    }


def main() -> None:
    common.main("dpaudit", trained)


if __name__ == "__main__":
    main()
