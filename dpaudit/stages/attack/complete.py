"""Personal fields of real records: does greedy decoding complete a field from the text before it? No labels,
no text.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpaudit.signals.recipe import Recipe
from dpaudit.stages.attack.items import ItemSource, encoded_sources, learnt_units
from dpaudit.stages.attack.scores import Score, ScoringJob, by_recipe, require_numbers, write_scores
from dpaudit.stages.prepare.candidates import CandidateUnits
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Method
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.encode import Encoded
    from dpaudit.models.field_spans import FieldTokens
    from dpaudit.models.hf_model import HFModel


@dataclass(frozen=True, eq=False)
class _Read:
    """One record of a unit, and the fields in it."""

    unit: str
    encoded: "Encoded"
    fields: list["FieldTokens"]

    @property
    def tried(self) -> list["FieldTokens"]:
        return [field for field in self.fields if field.standing == "tried"]


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[ScoringJob],
    candidates: CandidateUnits,
    model: "HFModel",
) -> None:
    """Rows of a unit: its `records`, and by kind of field how many were `tried`, `completed`, `given` in the
    prompt, `untrained` or `cut`, and the log-probability in nats of those that were tried, added up.
    """
    for made_by, arms in by_recipe(jobs):
        methods = {arm.method: _read(plan, made_by, candidates, arm.method, model.tokenizer) for arm in arms}
        for method, records in methods.items():
            if not any(record.tried for record in records):
                progress.say(
                    f"{made_by.name}: no {method} record that a coin decides on holds a field to try; "
                    "the result is empty"
                )
        with progress.task("attack extract: completing personal fields", total=len(arms)) as advance:
            for arm in arms:
                with model.active(arm.name):
                    scores = _scores(methods[arm.method], model)
                require_numbers(run_dir, arm.name, scores)
                write_scores(run_dir, plan, arm.name, made_by, scores)
                advance(1)


def _read(
    plan: Plan, made_by: Recipe, candidates: CandidateUnits, method: Method, tokenizer: Any
) -> list[_Read]:
    """Every record that arms of this method learn from, of all units that a coin decides on."""
    from dpaudit.models.field_spans import fields_of

    measure: Any = made_by.make_signal()
    units = learnt_units(candidates, method)
    named = [(unit, ItemSource(record, method == "dpo")) for unit in units for record in units[unit]]
    coded = encoded_sources([source for _, source in named], tokenizer, plan.suite.model.max_length)
    return [
        _Read(unit, encoded, fields_of(source.record, encoded, tokenizer, measure.fields))
        for (unit, source), (encoded, _) in zip(named, coded, strict=True)
    ]


def _scores(records: Sequence[_Read], model: "HFModel") -> list[Score]:
    totals: dict[str, dict[str, float]] = {}
    for record in records:
        counted = totals.setdefault(record.unit, defaultdict(float))
        counted["records"] += 1
        for field in record.fields:
            counted[f"{field.kind}.{field.standing}"] += 1
    for unit, signal, value in _tried(records, model):
        totals[unit][signal] += value
    return [
        Score(unit, "record", signal, float(value))
        for unit, counted in totals.items()
        for signal, value in counted.items()
    ]


def _tried(records: Sequence[_Read], model: "HFModel") -> Iterable[tuple[str, str, float]]:
    """Unit, signal and value of every field that is tried."""
    asked = [record for record in records if record.tried]
    masks = [np.logical_or.reduce([field.counted for field in record.tried]) for record in asked]
    arm_scores = model.token_scores([record.encoded for record in asked], counted=masks)
    for record, scores in zip(asked, arm_scores, strict=True):
        for field in record.tried:
            yield record.unit, f"{field.kind}.completed", float(scores.greedy[field.counted].all())
            yield record.unit, f"{field.kind}.logprob", float(scores.logprob[field.counted].sum())
