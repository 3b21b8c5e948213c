"""Extraction in stage audit: which of the planted secrets came out, beside the controls that were never planted."""

import math
from typing import Any

import numpy as np

from dpaudit.recipe import Recipe
from dpaudit.rundir import RunDir
from dpaudit.stages.prepare import load_membership
from dpaudit.stages.scores import read_scores, score_file, score_inputs
from dpaudit.stats import roc
from dpaudit.suite import Arm

CONFIDENCE = 0.95


def audit(run_dir: RunDir, arm: Arm, made_by: Recipe) -> None:
    file, inputs = (
        f"audit/{arm.name}/{made_by.name}.json",
        [*score_inputs(arm.name), score_file(arm.name, made_by.name)],
    )
    if run_dir.is_current(file, inputs):
        return
    planted = load_membership(run_dir)
    values: dict[bool, dict[str, dict[str, float]]] = {True: {}, False: {}}
    for row in read_scores(run_dir, arm.name, made_by.name):
        values[planted[row.example]].setdefault(row.example, {})[row.signal] = row.value
    found = {"arm": arm.name, "recipe": made_by.name, **_extracted(values[True], values[False])}
    run_dir.write_json(file, found, inputs)


def _extracted(planted: dict[str, dict[str, float]], controls: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Counts of secrets that greedy decoding wrote, their Clopper-Pearson bounds, and exposures in bits.

    Both intervals are two-sided, for secrets like these. Exposures are sorted, so that nothing links them to a canary.
    """
    written, chance = (sum(bool(c["greedy_match"]) for c in of.values()) for of in (planted, controls))
    interval = roc.proportion_interval(written, len(planted), CONFIDENCE)
    by_chance = roc.proportion_interval(chance, len(controls), CONFIDENCE)
    exposures = [sorted(c["exposure"] for c in of.values()) for of in (planted, controls)]
    space = max((c["space"] for c in (*planted.values(), *controls.values())), default=1.0)
    return {
        "confidence": CONFIDENCE,
        "planted": len(planted),
        "planted_found": written,
        "found_rate": written / len(planted) if planted else None,
        "found_lower": interval.lower,
        "found_upper": interval.upper,
        "controls": len(controls),
        "controls_found": chance,
        "controls_lower": by_chance.lower,
        "controls_upper": by_chance.upper,
        "rank_first_planted": sum(c["rank"] == 1 for c in planted.values()),
        "rank_first_controls": sum(c["rank"] == 1 for c in controls.values()),
        "exposure": {
            "planted": exposures[0],
            "controls": exposures[1],
            "space_bits": math.log2(space),
            "median_planted": float(np.median(exposures[0])) if exposures[0] else None,
            "median_control": float(np.median(exposures[1])) if exposures[1] else None,
        },
    }
