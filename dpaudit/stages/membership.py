"""Membership inference in stage attack: what a model says of every candidate, and the signals made of it. No labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.corpus import Record
from dpaudit.models.encode import counted_mask
from dpaudit.progress import Progress
from dpaudit.recipe import Recipe
from dpaudit.rundir import RunDir
from dpaudit.signals import Span
from dpaudit.stages.prepare import Candidates
from dpaudit.stages.scores import Job, Score, require_numbers, write_scores
from dpaudit.suite import Method, Plan

if TYPE_CHECKING:
    from dpaudit.models import Advance, TokenScores
    from dpaudit.models.encode import Encoded
    from dpaudit.models.hf import HFModel


@dataclass(frozen=True, eq=False)
class Item:
    """One sequence to score, and the tokens of it that count. A unit has one item a record."""

    example: str
    kind: str
    encoded: "Encoded"
    counted: NDArray[np.bool_]
    text: str


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[Job],
    candidates: Candidates,
    model: "HFModel",
) -> None:
    """One pass over the candidates an arm serves all its recipes; one pass of the base model serves all arms."""
    methods = {job.arm.method for job in jobs}
    items = {m: _items(plan, candidates, m, model.tokenizer) for m in methods}
    passes = [items[job.arm.method] for job in jobs] + list(items.values())
    with progress.task("attack mia: scoring candidates", total=sum(map(len, passes))) as advance:
        with model.active(None):
            base = {m: _scores(model, items[m], advance) for m in items}
        for job in jobs:
            rows = items[job.arm.method]
            with model.active(job.arm.name):
                found = _scores(model, rows, advance)
            for chosen in job.recipes:
                scores = _signal_scores(chosen, rows, found, base[job.arm.method])
                require_numbers(run_dir, job.arm.name, scores)
                write_scores(run_dir, job.arm.name, chosen, scores)


def _scores(model: "HFModel", items: Sequence[Item], advance: "Advance") -> list["TokenScores"]:
    return model.token_scores([item.encoded for item in items], advance, [item.counted for item in items])


def _items(plan: Plan, candidates: Candidates, method: Method, tokenizer: Any) -> list[Item]:
    """Canaries by their secret; coin-flipped units by the answers of what the method learns from."""
    from dpaudit.models.encode import encode, encode_text
    from dpaudit.models.spaces import encoded_secret

    length, items = plan.suite.model.max_length, []
    for canary in candidates.canaries:
        if canary.purpose == "mia":
            coded = encoded_secret(canary, tokenizer, length, plain=method == "cpt")
            items.append(Item(canary.id, "canary", coded, counted_mask(coded.secret_mask), canary.secret))
    for unit, records in _units(candidates, method).items():
        for record in records:
            if record.text is not None:
                coded = encode_text(record.text, tokenizer, length)
            else:
                coded = encode(record.turns, tokenizer, length, last_only=method == "dpo")
            counted = counted_mask(coded.answer_mask)
            if counted.any():  # nothing counts where the prompt alone fills max_length
                text = tokenizer.decode(np.array(coded.input_ids)[counted], skip_special_tokens=True)
                items.append(Item(unit, "record", coded, counted, text))
    return items


def _units(candidates: Candidates, method: Method) -> dict[str, list[Record]]:
    """Unit -> what an arm of this method learns from; of a preference pair, the prompt with the chosen answer."""
    if method == "dpo":
        return {unit: [_chosen(pair) for pair in pairs] for unit, pairs in candidates.pairs.items()}
    return candidates.records if method == "sft" else candidates.texts


def _chosen(pair: Record) -> Record:
    from dpaudit.corpus import Turn

    assert pair.chosen is not None
    return Record(pair.id, (*pair.turns, Turn("assistant", pair.chosen)), pair.patient)


def _signal_scores(
    chosen: Recipe, items: Sequence[Item], arm: Sequence["TokenScores"], base: Sequence["TokenScores"]
) -> list[Score]:
    """One score an example: the mean over its records."""
    signal = chosen.make_signal()
    values: dict[tuple[str, str], list[float]] = {}
    for item, scored, reference in zip(items, arm, base, strict=True):
        at = item.counted
        span = Span(scored.logprob[at], scored.mean[at], scored.std[at], reference.logprob[at], item.text)
        values.setdefault((item.example, item.kind), []).append(signal(span))
    return [
        Score(example, kind, chosen.signal, float(np.mean(found)))
        for (example, kind), found in values.items()
    ]
