"""Extraction in stage audit: what came out of the planted and of the real, beside what was never trained
on.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.data import pii
from dpaudit.signals.extraction import np_extraction_probability, queries_needed
from dpaudit.signals.recipe import Recipe
from dpaudit.stages.attack.scores import read_scores, score_file, score_inputs
from dpaudit.stages.audit.baselines import BLIND, Beside, part_of
from dpaudit.stages.prepare.prepare import load_candidates, load_membership
from dpaudit.stats import roc
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan

CONFIDENCE = 0.95
LEARNT = {"sft": "answers", "cpt": "whole texts", "dpo": "preferred answers"}  # what an arm's loss counts
Values = dict[str, dict[str, float]]  # example -> signal -> value


@dataclass(frozen=True)
class Sides:
    """The scores of what was trained on, and of what was not."""

    planted: Values
    controls: Values


def audit(beside: Beside, arm: Arm, made_by: Recipe) -> None:
    """Writes audit/ARM/RECIPE.json. All intervals are two-sided Clopper-Pearson, each for one figure
    alone.
    """
    run_dir, plan, compared = beside.run_dir, beside.plan, _compared(arm, made_by)
    blind = beside.blind[compared]  # worked out first: an input of the file
    file, inputs = (
        f"audit/{arm.name}/{made_by.name}.json",
        [*score_inputs(arm.name), score_file(arm.name, made_by.name), BLIND],
    )
    if run_dir.is_current(file, inputs):
        return
    coins, of = load_membership(run_dir), (Values(), Values())
    for row in read_scores(run_dir, arm.name, made_by.name):
        of[not coins[row.example]].setdefault(row.example, {})[row.signal] = row.value
    head = {
        "arm": arm.name,
        "recipe": made_by.name,
        "kind": made_by.kind,
        "signal": made_by.signal,
        "confidence": CONFIDENCE,
        "blind": blind,
        "near_duplicates": beside.near[compared],
    }
    sides, measure = Sides(*of), made_by.make_signal()
    if made_by.signal == "pii_fields":
        found = _fields(sides, plan, arm, measure)
    else:
        made = _ranks if made_by.signal == "exact_rank" else _discoverable
        found = {**made(sides, measure), "by_repetitions": _levels(run_dir, sides, made, measure)}
    run_dir.write_json(file, {**head, **found}, inputs)


def _compared(arm: Arm, made_by: Recipe) -> str:
    """Whose baseline stands beside a recipe: real units by what the arm learnt, else the canaries for
    extraction.
    """
    return part_of(arm) if made_by.signal == "pii_fields" else "extraction"


def _levels(run_dir: RunDir, sides: Sides, made: Callable[..., Any], measure: Any) -> list[dict[str, Any]]:
    """The same figures for the secrets of each number of repetitions alone."""
    levels = {c.id: c.repetitions for c in load_candidates(run_dir).canaries if c.purpose == "extraction"}
    found = []
    for level in sorted({levels[name] for name in (*sides.planted, *sides.controls)}):
        of = [
            {n: v for n, v in part.items() if levels[n] == level} for part in (sides.planted, sides.controls)
        ]
        found.append({"repetitions": level, **made(Sides(*of), measure)})
    return found


def _counts(sides: Sides, is_out: Callable[[dict[str, float]], bool]) -> dict[str, Any]:
    """How many secrets of each side came out, with the interval of the rate."""
    out, chance = (sum(map(is_out, of.values())) for of in (sides.planted, sides.controls))
    interval = roc.proportion_interval(out, len(sides.planted), CONFIDENCE)
    by_chance = roc.proportion_interval(chance, len(sides.controls), CONFIDENCE)
    return {
        "planted": len(sides.planted),
        "planted_found": out,
        "found_rate": out / len(sides.planted) if sides.planted else None,
        "found_lower": interval.lower,
        "found_upper": interval.upper,
        "controls": len(sides.controls),
        "controls_found": chance,
        "controls_lower": by_chance.lower,
        "controls_upper": by_chance.upper,
    }


# ---- ranks


def _ranks(sides: Sides, _: Any) -> dict[str, Any]:
    """Secrets that greedy decoding wrote, and exposures: those by rank and those by extrapolation apart."""
    first = [sum(c.get("rank") == 1 for c in of.values()) for of in (sides.planted, sides.controls)]
    return {
        **_counts(sides, lambda secret: bool(secret["greedy_match"])),
        "rank_first_planted": first[0],
        "rank_first_controls": first[1],
        "exposure": _exposure(sides, False),
        "exposure_extrapolated": _exposure(sides, True) if _any(sides, "extrapolated") else None,
    }


def _any(sides: Sides, signal: str) -> bool:
    return any(secret.get(signal) for of in (sides.planted, sides.controls) for secret in of.values())


def _exposure(sides: Sides, extrapolated: bool) -> dict[str, Any]:
    """Exposures of one kind in bits, sorted, so that nothing links them to a canary."""
    of = [
        [secret for secret in part.values() if bool(secret.get("extrapolated")) == extrapolated]
        for part in (sides.planted, sides.controls)
    ]
    bits = [sorted(secret["exposure"] for secret in part) for part in of]
    spaces = [secret["space"] for part in of for secret in part if "space" in secret]
    found = {
        "extrapolated": extrapolated,
        "planted": bits[0],
        "controls": bits[1],
        "space_bits": math.log2(max(spaces)) if spaces else None if extrapolated else 0.0,
        "median_planted": float(np.median(bits[0])) if bits[0] else None,
        "median_control": float(np.median(bits[1])) if bits[1] else None,
    }
    if not extrapolated:
        return found
    told = {
        f"{signal}_{side}": sum(bool(secret[signal]) for secret in part)
        for signal in ("beyond_samples", "capped")
        for side, part in zip(("planted", "controls"), of, strict=True)
    }
    return {**found, **told, "samples": int(min(secret["samples"] for part in of for secret in part))}


# ---- sampling


def _discoverable(sides: Sides, how: Any) -> dict[str, Any]:
    """(n, p)-discoverable secrets for each n, and how many attempts they take."""
    needed = [
        sorted(queries_needed(math.exp(secret["sequence_logprob"]), how.p) for secret in of.values())
        for of in (sides.planted, sides.controls)
    ]
    return {
        "p": how.p,
        "decoding": {"temperature": how.temperature, "top_k": how.top_k, "top_p": how.top_p},
        "rates": [{"queries": n, **_counts(sides, _is_discoverable(n, how.p))} for n in how.queries],
        "queries_needed": {"planted": _finite(needed[0]), "controls": _finite(needed[1])},
        "fewest_planted": next(iter(_finite(needed[0])), None),
        "fewest_controls": next(iter(_finite(needed[1])), None),
        "never_planted": sum(math.isinf(n) for n in needed[0]),
        "never_controls": sum(math.isinf(n) for n in needed[1]),
    }


def _is_discoverable(queries: int, p: float) -> Callable[[dict[str, float]], bool]:
    return lambda secret: np_extraction_probability(math.exp(secret["sequence_logprob"]), queries) >= p


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


# ---- personal fields


def _fields(sides: Sides, plan: Plan, arm: Arm, measure: Any) -> dict[str, Any]:
    """Fields and units that came out, of those trained on and of those left out."""
    kinds = [kind for kind in pii.PATTERNS if kind in measure.fields]
    both = {"members": sides.planted, "non_members": sides.controls}
    return {
        "unit": plan.suite.training.unit,
        "trained_on": LEARNT[arm.method],
        **{side: {**_units(of), **_tally(of, kinds)} for side, of in both.items()},
        "by_kind": [
            {"field": kind, **{side: _tally(of, [kind]) for side, of in both.items()}} for kind in kinds
        ],
    }


def _units(of: Values) -> dict[str, Any]:
    """Units with a field that was tried, and of those the ones of which at least one was completed."""
    tried = [unit for unit in of.values() if any(v for key, v in unit.items() if key.endswith(".tried"))]
    out = sum(any(v for key, v in unit.items() if key.endswith(".completed")) for unit in tried)
    interval = roc.proportion_interval(out, len(tried), CONFIDENCE)
    return {
        "units": len(of),
        "units_tried": len(tried),
        "units_out": out,
        "units_lower": interval.lower,
        "units_upper": interval.upper,
    }


def _tally(of: Values, kinds: Iterable[str]) -> dict[str, Any]:
    """Fields of some kinds. The interval takes fields for independent, which those of one unit need not
    be.
    """
    total: dict[str, float] = defaultdict(float)
    for unit in of.values():
        for kind in kinds:
            for what in ("tried", "completed", "given", "untrained", "cut", "logprob"):
                total[what] += unit.get(f"{kind}.{what}", 0)
    tried, out = int(total["tried"]), int(total["completed"])
    interval = roc.proportion_interval(out, tried, CONFIDENCE)
    return {
        "fields": tried,
        "completed": out,
        "rate": out / tried if tried else None,
        "lower": interval.lower,
        "upper": interval.upper,
        "mean_logprob": total["logprob"] / tried if tried else None,
        **{what: int(total[what]) for what in ("given", "untrained", "cut")},
    }
