"""Measures of an answer beside right and wrong: ROUGE, perplexity, what a free answer names. Models are
compared item by item.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from dpaudit.findings.quality import Alone, MeasureChange, MeasureFigures, Score
from dpaudit.judging import cautions, losses
from dpaudit.judging.quality import CONFIDENCE, Floats, as_mean, same_items
from dpaudit.stats.holm import holm
from dpaudit.stats.paired import mean_interval, paired_difference
from dpaudit.stats.roc import proportion_interval

DRAWS_LEAST = 6  # with fewer no sign flip is rare enough to tell anything at 5 %
NOTHING_MEASURED: tuple[Alone, ...] = ("no reference has it", "every reference has it")
Scores = Mapping[str, Mapping[str, Mapping[str, Sequence[Score]]]]  # by model, task and measure


@dataclass(frozen=True)
class Measured:
    """One model's scores by one measure. `value` is the figure where items have no scores of their own."""

    name: str
    rows: tuple[Score, ...]  # empty where items have no scores of their own
    higher_is_better: bool | None
    value: float | None = None
    alone: Alone | None = None
    is_share: bool = False  # every score lies in [0, 1]


def figures(task: str, found: Measured, items: int, left_out: int, cut: int) -> MeasureFigures:
    """The measure with its 95 % interval: Clopper-Pearson where all items are draws of their own and score 0
    or 1, else the bootstrap over clusters. `items` were asked, `cut` of them with a cut prompt.
    """
    if found.alone in NOTHING_MEASURED:
        items, left_out, cut = 0, left_out + items, 0
    if not found.rows:
        return MeasureFigures(
            task, found.name, found.value, None, None, items, 0, found.higher_is_better, left_out, cut,
            found.alone,
        )  # fmt: skip
    value, lower, upper = _interval(found)
    return MeasureFigures(
        task=task,
        measure=found.name,
        value=value,
        lower=lower,
        upper=upper,
        items=len(found.rows),
        clusters=len({row.cluster for row in found.rows}),
        higher_is_better=found.higher_is_better,
        left_out=left_out + items - len(found.rows),
        cut=sum(row.cut for row in found.rows),
        alone=found.alone,
        is_share=found.is_share,
    )


def _interval(found: Measured) -> tuple[float, float, float]:
    values, clusters = [row.value for row in found.rows], [row.cluster for row in found.rows]
    if found.is_share and len(set(clusters)) == len(clusters) and set(values) <= {0.0, 1.0}:
        limits = proportion_interval(int(sum(values)), len(values), CONFIDENCE)
        return float(np.mean(values)), *limits
    mean = mean_interval(_scores(found.rows), clusters, CONFIDENCE)
    if found.is_share:
        return mean.estimate, max(mean.lower, 0.0), min(mean.upper, 1.0)
    return mean.estimate, mean.lower, mean.upper


def compared(
    known: Sequence[MeasureFigures],
    scores: Scores,
    pairs: Sequence[tuple[str, str]],
    read: Mapping[str, float] = MappingProxyType({}),
) -> tuple[MeasureChange, ...]:
    """Each arm's measures less its reference's on the same items, by sign-flip tests over clusters, with
    Holm's p-values over all of them, and their words.

    `known` are the figures of one model, `scores` is by model, task and measure; `read` is the share of a
    task's items that stand in the training text. A pair of which a model has no scores by a measure is left
    out.
    """
    rows = [
        _change(row, scores, pair)
        for row in known
        if row.alone is None
        for pair in pairs
        if all(scores[name].get(row.task, {}).get(row.measure) for name in pair)
    ]
    adjusted = holm([row.p_value for row in rows])
    return tuple(
        _concluded(row, p, scores, read.get(row.task, 0.0)) for row, p in zip(rows, adjusted, strict=True)
    )


def _change(
    figure: MeasureFigures,
    scores: Scores,
    pair: tuple[str, str],
) -> MeasureChange:
    ours, theirs = (scores[name][figure.task][figure.measure] for name in pair)
    clusters = same_items(figure.task, ours, theirs)
    bounds = (-1.0, 1.0) if figure.is_share else (-math.inf, math.inf)
    gap = paired_difference(_scores(ours), _scores(theirs), clusters, CONFIDENCE, bounds)
    return MeasureChange(
        arm=pair[0],
        against=pair[1],
        task=figure.task,
        measure=figure.measure,
        higher_is_better=bool(figure.higher_is_better),
        difference=gap.estimate,
        lower=max(gap.lower, bounds[0]),
        upper=min(gap.upper, bounds[1]),
        p_value=gap.p_value,
        p_holm=1.0,
        word="cannot tell",
        reason="neither is shown",
        items=gap.items,
        clusters=gap.clusters,
    )


def _concluded(row: MeasureChange, p: float, scores: Scores, read: float) -> MeasureChange:
    """The change with its word. `read` is the share of the items that stand in the training text, which says
    nothing against a loss.
    """
    row = replace(row, p_holm=p)
    asked = [scores[name][row.task][row.measure] for name in (row.arm, row.against)]
    if any(cautions.is_mostly_cut(sum(one.cut for one in rows), len(rows)) for rows in asked):
        return replace(row, reason="prompts cut")
    is_shown = p <= losses.ERROR and row.difference != 0
    is_better = (row.difference > 0) == row.higher_is_better
    if read > losses.READ_MOST and (is_better or not is_shown):
        return replace(row, reason="items in the training text")
    if not is_shown:
        return replace(row, reason="too few for an interval") if row.clusters < DRAWS_LEAST else row
    return replace(row, word="better" if is_better else "worse", reason=None)


def _scores(rows: Sequence[Score]) -> Sequence[float] | Floats:
    """Scores whose mean is the figure. Those of equal weight are left as they are: rounding would break
    ties.
    """
    values, weights = [row.value for row in rows], [row.weight for row in rows]
    return as_mean(values, weights) if len(set(weights)) > 1 else [value / weights[0] for value in values]
