"""Answers of tasks other than multiple choice as items and scores: what lm-eval's own `process_results` says
of each item, and measures of free answers.
"""

import inspect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dpaudit.findings.quality import Alone, Item, Score
from dpaudit.judging import free
from dpaudit.judging.measures import Measured
from dpaudit.models.items import AskedItem, Sample

RIGHT = ("exact_match", "acc")  # of lm-eval's own process_results an item has 0 or 1
SHARES = (*RIGHT, "acc_norm", "acc_bytes", "quasi_exact_match")  # lm-eval's metrics between 0 and 1
BYPASS = "bypass"  # lm-eval's name for no metric
Value = tuple[float, float]  # what adds up to a figure, and its weight


def right_metric(task: Any) -> str | None:
    """The metric that says whether an item is right. A task that computes its results itself has none: its
    scores may lie between.
    """
    better = task.higher_is_better()
    usual = not callable(getattr(task.config, "process_results", None))
    return next((name for name in RIGHT if usual and better.get(name) is True), None)


def items_of(
    samples: Sequence[Sample], asked: Sequence[AskedItem], metric: str
) -> tuple[tuple[Item, ...], float]:
    """The items as right and wrong, and the share that the commonest answer would get right."""
    items = tuple(
        Item(
            item.id,
            int(sample[metric]),
            None,
            item.cluster,
            None,
            (),
            item.prompt,
            item.groups,
            item.length,
            item.cut,
        )
        for sample, item in zip(samples, asked, strict=True)
    )
    commonest = max(Counter(str(sample["target"]) for sample in samples).values())
    return items, commonest / len(samples)


def measures_of(
    by_filter: Mapping[str, Sequence[Sample]],
    figures: Mapping[str, Any],
    asked: Sequence[AskedItem],
    task: Any,
) -> tuple[Measured, ...]:
    """Every measure of a task beside right and wrong; `by_filter` has the samples of each of its filters,
    `figures` what lm-eval makes of all of them.
    """
    right, first = right_metric(task), next(iter(by_filter))
    found = []
    for name, samples in by_filter.items():
        for metric in samples[0]["metrics"]:
            if metric == BYPASS or (metric, name) == (right, first):
                continue
            told = metric if len(by_filter) == 1 else f"{metric} ({name})"
            found.append(_measure(told, metric, samples, figures.get(f"{metric},{name}"), asked, task))
    wanted = (task.config.metadata or {}).get("measures", ())
    return (*found, *(_of_answers(name, by_filter[first], asked) for name in wanted))


def _measure(
    told: str,
    metric: str,
    samples: Sequence[Sample],
    figure: Any,
    asked: Sequence[AskedItem],
    task: Any,
) -> Measured:
    better = task.higher_is_better().get(metric)
    aggregate = task.aggregation().get(metric)
    values = [value_of(aggregate, sample[metric]) for sample in samples]
    there = [value for value in values if value is not None]
    whole = float(figure) if isinstance(figure, int | float) and math.isfinite(figure) else None
    if len(there) < len(values):
        return Measured(told, (), better, whole, "no score of its own an item")
    if not all(math.isfinite(value) for value, _ in there):
        return Measured(told, (), better, whole, "a score that is no finite number")
    name = f"log {told}" if _name(aggregate) in ("perplexity", "weighted_perplexity") else told
    alone: Alone | None = None if better is not None else "it is not known whether more is better"
    is_share = metric in SHARES and all(0 <= value <= 1 == weight for value, weight in there)
    return Measured(name, _rows(there, asked), better, alone=alone, is_share=is_share)


def value_of(aggregate: Any, score: Any) -> Value | None:
    """What an item adds to a figure of lm-eval, as all values over all weights; None for a figure of another
    kind.

    A perplexity is taken as its logarithm, in nats.
    """
    name = _name(aggregate)
    if name in ("weighted_perplexity", "bits_per_byte"):
        logprob, size = score
        unit = math.log(2) if name == "bits_per_byte" else 1.0
        return (-float(logprob) / unit, float(size)) if size else None
    if name not in ("mean", "perplexity") or not isinstance(score, int | float):
        return None
    return (float(score), 1.0) if name == "mean" else (-float(score), 1.0)


def _name(aggregate: Any) -> str | None:
    """The name of an aggregation of lm-eval's own."""
    plain = inspect.unwrap(aggregate) if callable(aggregate) else None
    is_own = getattr(plain, "__module__", None) == "lm_eval.api.metrics"
    return str(plain.__name__) if plain is not None and is_own else None


def _of_answers(name: str, samples: Sequence[Sample], asked: Sequence[AskedItem]) -> Measured:
    """A measure of free answers. Items whose reference has nothing to measure are left out, of every
    model.
    """
    measure = free.MEASURES[name]
    found = [measure.of(str(sample["filtered_resps"][0]), str(sample["target"])) for sample in samples]
    rows = [(value, item) for value, item in zip(found, asked, strict=True) if value is not None]
    if not rows:
        return Measured(name, (), measure.higher_is_better, alone=measure.nothing)
    scores = _rows([(value, 1.0) for value, _ in rows], [item for _, item in rows])
    return Measured(name, scores, measure.higher_is_better, is_share=True)


def _rows(values: Sequence[Value], asked: Sequence[AskedItem]) -> tuple[Score, ...]:
    return tuple(
        Score(item.id, item.cluster, item.prompt, value, weight, item.cut)
        for (value, weight), item in zip(values, asked, strict=True)
    )
