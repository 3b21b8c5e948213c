"""Our own engine, on the same rows."""

import json
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


def trained(work: Work) -> dict[str, Any]:
    suite = work.folder / "field.yaml"
    suite.write_text(
        SUITE.format(
            base=resolve("builtin:tiny"),
            data=work.data,
            delta=common.DELTA,
            clip=common.CLIP,
            batch=common.BATCH,
            epsilon=common.EPSILON,
            length=common.LENGTH,
        )
    )
    runs = work.folder / "runs"
    common.command("run", str(suite), "--runs", str(runs))
    (claim,) = json.loads(common.command("verify", "--run", "field", "--runs", str(runs), "--json"))["claims"]
    return {"inside": claim, "outside": None}


def main() -> None:
    common.main("dpaudit", trained)


if __name__ == "__main__":
    main()
