"""Extraction in stage audit: planted secrets and real fields that came out, beside those never trained on."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.data import pii
from dpaudit.findings.extraction import (
    Attempts,
    Counts,
    Decoding,
    Discoverable,
    Exposure,
    Extract,
    Extraction,
    Extrapolated,
    PersonalFields,
    Ranks,
    RanksOfLevel,
    Rate,
    Sampled,
    SampledOfLevel,
    Tally,
    TallyOfKind,
    UnitTally,
)
from dpaudit.signals.extraction import np_extraction_probability, queries_needed
from dpaudit.signals.recipe import Recipe
from dpaudit.stages.attack.scores import read_scores, score_file
from dpaudit.stages.audit.baselines import BLIND, Beside, part_of
from dpaudit.stages.integrity.trained import score_inputs
from dpaudit.stages.prepare.candidates import load_candidates, load_membership
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
    blind = beside.blind.of(compared)  # worked out first: an input of the file
    file, inputs = (
        f"audit/{arm.name}/{made_by.name}.json",
        [*score_inputs(arm.name), score_file(arm.name, made_by.name), BLIND],
    )
    if any(kind.is_current(run_dir, file, inputs) for kind in (Extraction, Discoverable, PersonalFields)):
        return
    coins, of = load_membership(run_dir), (Values(), Values())
    for row in read_scores(run_dir, arm.name, made_by.name):
        of[not coins[row.example]].setdefault(row.example, {})[row.signal] = row.value
    head = Extract(
        arm=arm.name,
        recipe=made_by.name,
        kind=made_by.kind,
        signal=made_by.signal,
        confidence=CONFIDENCE,
        blind=blind,
        near_duplicates=beside.near.of(compared),
    )
    _made(run_dir, plan, arm, made_by, Sides(*of), head).write(run_dir, file, inputs)


def _made(
    run_dir: RunDir, plan: Plan, arm: Arm, made_by: Recipe, sides: Sides, head: Extract
) -> Extraction | Discoverable | PersonalFields:
    measure: Any = made_by.make_signal()
    if made_by.signal == "pii_fields":
        kinds = [kind for kind in pii.PATTERNS if kind in measure.fields]
        return _fields(head, sides, kinds, plan.suite.training.unit, LEARNT[arm.method])
    levels = _levels(run_dir, sides)
    if made_by.signal == "exact_rank":
        return _extraction(head, sides, levels)
    return _discoverable(head, sides, levels, measure)


def _compared(arm: Arm, made_by: Recipe) -> str:
    """Whose baseline stands beside a recipe: real units by what the arm learnt, else the canaries for
    extraction.
    """
    return part_of(arm) if made_by.signal == "pii_fields" else "extraction"


def _levels(run_dir: RunDir, sides: Sides) -> dict[int, Sides]:
    """The secrets of each number of repetitions alone."""
    levels = {c.id: c.repetitions for c in load_candidates(run_dir).canaries if c.purpose == "extraction"}

    def of_level(part: Values, level: int) -> Values:
        return {name: values for name, values in part.items() if levels[name] == level}

    present = sorted({levels[name] for name in (*sides.planted, *sides.controls)})
    return {
        level: Sides(of_level(sides.planted, level), of_level(sides.controls, level)) for level in present
    }


def _counts(sides: Sides, is_out: Callable[[dict[str, float]], bool]) -> Counts:
    """How many secrets of each side came out, with the interval of the rate."""
    out, chance = (sum(map(is_out, of.values())) for of in (sides.planted, sides.controls))
    interval = roc.proportion_interval(out, len(sides.planted), CONFIDENCE)
    by_chance = roc.proportion_interval(chance, len(sides.controls), CONFIDENCE)
    return Counts(
        planted=len(sides.planted),
        planted_found=out,
        found_rate=out / len(sides.planted) if sides.planted else None,
        found_lower=interval.lower,
        found_upper=interval.upper,
        controls=len(sides.controls),
        controls_found=chance,
        controls_lower=by_chance.lower,
        controls_upper=by_chance.upper,
    )


# ---- ranks


def _extraction(head: Extract, sides: Sides, levels: Mapping[int, Sides]) -> Extraction:
    rows = (RanksOfLevel(repetitions=level, **vars(_ranks(of))) for level, of in levels.items())
    return Extraction(**vars(head), **vars(_ranks(sides)), by_repetitions=tuple(rows))


def _ranks(sides: Sides) -> Ranks:
    """Secrets that greedy decoding wrote, and exposures: those by rank and those by extrapolation apart."""
    first = [sum(c.get("rank") == 1 for c in of.values()) for of in (sides.planted, sides.controls)]
    return Ranks(
        **vars(_counts(sides, lambda secret: bool(secret["greedy_match"]))),
        rank_first_planted=first[0],
        rank_first_controls=first[1],
        exposure=_exposure(_secrets(sides, extrapolated=False), False),
        exposure_extrapolated=_extrapolated(_secrets(sides, extrapolated=True)),
    )


def _secrets(sides: Sides, *, extrapolated: bool) -> list[list[dict[str, float]]]:
    """The scores of planted secrets and of controls whose exposure is of one kind."""
    return [
        [secret for secret in part.values() if bool(secret.get("extrapolated")) == extrapolated]
        for part in (sides.planted, sides.controls)
    ]


def _exposure(of: list[list[dict[str, float]]], extrapolated: bool) -> Exposure:
    bits = [sorted(secret["exposure"] for secret in part) for part in of]
    spaces = [secret["space"] for part in of for secret in part if "space" in secret]
    return Exposure(
        extrapolated=extrapolated,
        planted=tuple(bits[0]),
        controls=tuple(bits[1]),
        space_bits=math.log2(max(spaces)) if spaces else None if extrapolated else 0.0,
        median_planted=float(np.median(bits[0])) if bits[0] else None,
        median_control=float(np.median(bits[1])) if bits[1] else None,
    )


def _extrapolated(of: list[list[dict[str, float]]]) -> Extrapolated | None:
    if not any(of):
        return None
    beyond = [sum(bool(secret["beyond_samples"]) for secret in part) for part in of]
    capped = [sum(bool(secret["capped"]) for secret in part) for part in of]
    return Extrapolated(
        **vars(_exposure(of, True)),
        beyond_samples_planted=beyond[0],
        beyond_samples_controls=beyond[1],
        capped_planted=capped[0],
        capped_controls=capped[1],
        samples=int(min(secret["samples"] for part in of for secret in part)),
    )


# ---- sampling


def _discoverable(head: Extract, sides: Sides, levels: Mapping[int, Sides], how: Any) -> Discoverable:
    rows = (SampledOfLevel(repetitions=level, **vars(_sampled(of, how))) for level, of in levels.items())
    return Discoverable(**vars(head), **vars(_sampled(sides, how)), by_repetitions=tuple(rows))


def _sampled(sides: Sides, how: Any) -> Sampled:
    """(n, p)-discoverable secrets for each n, and how many attempts they take."""
    needed = [
        sorted(queries_needed(math.exp(secret["sequence_logprob"]), how.p) for secret in of.values())
        for of in (sides.planted, sides.controls)
    ]
    finite = [_finite(values) for values in needed]
    return Sampled(
        p=how.p,
        decoding=Decoding(how.temperature, how.top_k, how.top_p),
        rates=tuple(Rate(queries=n, **vars(_counts(sides, _is_discoverable(n, how.p)))) for n in how.queries),
        queries_needed=Attempts(tuple(finite[0]), tuple(finite[1])),
        fewest_planted=next(iter(finite[0]), None),
        fewest_controls=next(iter(finite[1]), None),
        never_planted=sum(math.isinf(n) for n in needed[0]),
        never_controls=sum(math.isinf(n) for n in needed[1]),
    )


def _is_discoverable(queries: int, p: float) -> Callable[[dict[str, float]], bool]:
    return lambda secret: np_extraction_probability(math.exp(secret["sequence_logprob"]), queries) >= p


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


# ---- personal fields


def _fields(head: Extract, sides: Sides, kinds: Sequence[str], unit: str, trained_on: str) -> PersonalFields:
    """Fields and units that came out, of those trained on and of those left out."""
    by_kind = (TallyOfKind(k, _tally(sides.planted, [k]), _tally(sides.controls, [k])) for k in kinds)
    return PersonalFields(
        **vars(head),
        unit=unit,
        trained_on=trained_on,
        members=_units(sides.planted, kinds),
        non_members=_units(sides.controls, kinds),
        by_kind=tuple(by_kind),
    )


def _units(of: Values, kinds: Sequence[str]) -> UnitTally:
    """Counts the units with a tried field, and among them the units with a completed field."""
    tried = [unit for unit in of.values() if any(v for key, v in unit.items() if key.endswith(".tried"))]
    out = sum(any(v for key, v in unit.items() if key.endswith(".completed")) for unit in tried)
    interval = roc.proportion_interval(out, len(tried), CONFIDENCE)
    return UnitTally(
        **vars(_tally(of, kinds)),
        units=len(of),
        units_tried=len(tried),
        units_out=out,
        units_lower=interval.lower,
        units_upper=interval.upper,
    )


def _tally(of: Values, kinds: Iterable[str]) -> Tally:
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
    return Tally(
        fields=tried,
        completed=out,
        rate=out / tried if tried else None,
        lower=interval.lower,
        upper=interval.upper,
        mean_logprob=total["logprob"] / tried if tried else None,
        given=int(total["given"]),
        untrained=int(total["untrained"]),
        cut=int(total["cut"]),
    )
