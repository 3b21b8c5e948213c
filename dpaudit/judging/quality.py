"""The quality of an arm: accuracy on benchmark items, bits per byte of held-out answers, and arms compared on
the same items.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpaudit.errors import UsageError
from dpaudit.findings.quality import BASE, Bits, Comparison, HeldOut, Item, Rung, Score, TaskFigures, Trend
from dpaudit.stats import margins
from dpaudit.stats.holm import holm
from dpaudit.stats.paired import (
    PairedDifference,
    page_trend,
    paired_difference,
    ratio_interval,
)
from dpaudit.stats.roc import proportion_interval
from dpaudit.suite.grid import Arm, nonprivate

Floats = NDArray[np.float64]
Measure = Literal["accuracy", "log_odds", "bits_per_byte"]
ACCURACY: Measure = "accuracy"
LOG_ODDS: Measure = "log_odds"
CONFIDENCE = 0.95


def accuracy_figures(task: str, items: Sequence[Item], chance: float, left_out: int = 0) -> TaskFigures:
    """Accuracy with its 95 % interval (Clopper-Pearson, or of clusters whatever their correlation), mean
    log-odds, and the chance level.
    """
    correct = np.array([float(item.correct) for item in items])
    clusters = [item.cluster for item in items]
    distinct = len(set(clusters))
    if distinct == len(items):
        lower, upper = proportion_interval(int(correct.sum()), len(items), CONFIDENCE)
    else:
        lower, upper = margins.share_interval(correct, clusters, CONFIDENCE)
    return TaskFigures(
        task=task,
        accuracy=float(correct.mean()),
        accuracy_lower=lower,
        accuracy_upper=upper,
        items=len(items),
        clusters=distinct,
        log_odds=_mean([item.log_odds for item in items]),
        brier=_mean([item.brier for item in items]),
        chance=chance,
        above_chance=bool(lower > chance),
        left_out=left_out,
        cut=sum(item.cut for item in items),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of what all items have; None where they have nothing."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def bits_figures(rows: Sequence[HeldOut], clusters: Mapping[str, str]) -> Bits | None:
    """Bits per byte (all bits over all bytes; lower is better) with its 95 % interval; None where nothing was
    held out.

    `clusters` names the patient (or the record itself) of each record id.
    """
    if not rows:
        return None
    bits, size = [row.bits for row in rows], [row.bytes for row in rows]
    mean = ratio_interval(bits, size, [clusters[row.id] for row in rows], CONFIDENCE)
    return Bits(mean.estimate, mean.lower, mean.upper, mean.items, mean.clusters)


def references(arms: Sequence[Arm], against: Sequence[str] = ("inf", BASE)) -> list[tuple[str, str]]:
    """The (arm, reference) pairs that are compared; `against` names "inf", "base", or an arm.

    A twin is the reference of the arm that differs from it by canaries alone, and in no other pair.
    """
    pairs = [
        (arm.name, twin.name)
        for twin in arms
        if twin.twin
        for arm in arms
        if arm == replace(twin, twin=False)
    ]
    for reference in against:
        for arm in (arm for arm in arms if not arm.twin):
            other = nonprivate(arm, arms) if reference == "inf" else None
            name = (other.name if other else None) if reference == "inf" else reference
            if name is not None and name != arm.name:
                pairs.append((arm.name, name))
    return list(dict.fromkeys(pairs))


def log_odds_pairs(
    task: str, answers: Mapping[str, Sequence[Item]], pairs: Sequence[tuple[str, str]]
) -> list[Comparison]:
    """Each arm's log-odds less its reference's on one task; a sign-flip test over clusters. None for a task
    without choices.
    """
    rows = []
    for arm, against in pairs:
        ours, theirs = answers[arm], answers[against]
        clusters = same_items(task, ours, theirs)
        mine, other = _nats(ours), _nats(theirs)
        if not mine or not other:
            continue
        gap = paired_difference(mine, other, clusters, CONFIDENCE)
        rows.append(_comparison((arm, against), task, LOG_ODDS, gap))
    return rows


def _nats(items: Sequence[Item]) -> list[float]:
    return [item.log_odds for item in items if item.log_odds is not None]


def bits_pairs(
    heldout: Mapping[str, Sequence[HeldOut]], pairs: Sequence[tuple[str, str]], clusters: Mapping[str, str]
) -> list[Comparison]:
    """Each arm's bits per byte minus its reference's on the same records (negative = the arm is better)."""
    rows = []
    for arm, against in pairs:
        ours, theirs = heldout[arm], heldout[against]
        if [(row.id, row.bytes) for row in ours] != [(row.id, row.bytes) for row in theirs]:
            raise _unequal(f"held-out records of {arm} and {against}")
        labels = [clusters[row.id] for row in ours]
        gap = paired_difference(_bits_scores(ours), _bits_scores(theirs), labels, CONFIDENCE)
        rows.append(_comparison((arm, against), None, "bits_per_byte", gap))
    return rows


def ladders(arms: Sequence[Arm]) -> list[list[str]]:
    """The names of arms that differ in epsilon alone, largest first, where there are three or more."""
    groups: dict[tuple[str, str, int], list[Arm]] = {}
    for arm in (arm for arm in arms if not arm.twin):
        groups.setdefault((arm.method, arm.loss, arm.seed), []).append(arm)
    return [
        [arm.name for arm in sorted(group, key=lambda arm: -arm.epsilon)]
        for group in groups.values()
        if len(group) > 2
    ]


def task_trends(task: str, answers: Mapping[str, Sequence[Item]], ladder: Sequence[str]) -> Iterator[Trend]:
    """Page's test of "quality falls with epsilon" over one ladder, by accuracy and by log-odds; rows are
    clusters.
    """
    clusters = [item.cluster for item in answers[ladder[0]]]
    if len(set(clusters)) < 2:
        return
    right = [[float(item.correct) for item in answers[arm]] for arm in ladder]
    nats = [_nats(answers[arm]) for arm in ladder]
    for measure, columns in ((ACCURACY, right), (LOG_ODDS, nats)) if all(nats) else ((ACCURACY, right),):
        yield _trend(task, measure, ladder, columns, columns, clusters, "falling")


def bits_trends(
    heldout: Mapping[str, Sequence[HeldOut]], ladder: Sequence[str], clusters: Mapping[str, str]
) -> Iterator[Trend]:
    """Page's test of "bits per byte rise as epsilon falls" over one ladder; rows are patients, else
    records.
    """
    labels = [clusters[row.id] for row in heldout[ladder[0]]]
    if len(set(labels)) < 2:
        return
    per_byte = [[row.bits / row.bytes for row in heldout[arm]] for arm in ladder]
    scores = [_bits_scores(heldout[arm]).tolist() for arm in ladder]
    yield _trend(None, "bits_per_byte", ladder, per_byte, scores, labels, "rising")


def same_items(
    task: str, ours: Sequence[Item] | Sequence[Score], theirs: Sequence[Item] | Sequence[Score]
) -> list[str]:
    """The clusters of items that both answered. Raises UsageError where the two lists are not of the same
    items, asked with the same prompts.
    """
    if [_asked(item) for item in ours] != [_asked(item) for item in theirs]:
        raise _unequal(f"items of {task}")
    return [item.cluster for item in ours]


def _asked(item: Item | Score) -> tuple[str, str, str]:
    return item.id, item.cluster, item.prompt


def _comparison(
    pair: tuple[str, str],
    task: str | None,
    measure: Measure,
    gap: PairedDifference,
) -> Comparison:
    return Comparison(
        arm=pair[0],
        against=pair[1],
        task=task,
        measure=measure,
        difference=gap.estimate,
        lower=gap.lower,
        upper=gap.upper,
        p_value=gap.p_value,
        items=gap.items,
        clusters=gap.clusters,
    )


def _trend(
    task: str | None,
    measure: Measure,
    ladder: Sequence[str],
    columns: Sequence[Sequence[float]],
    scores: Sequence[Sequence[float]],
    clusters: Sequence[str],
    direction: Literal["rising", "falling"],
) -> Trend:
    """`columns` hold each arm's values, which are ranked; `scores` those whose means are compared."""
    matrix = np.column_stack([_cluster_means(column, clusters) for column in columns])
    means = [float(mean) for mean in matrix.mean(axis=0)]
    steps = np.diff(means) * (1 if direction == "rising" else -1)
    return Trend(
        task=task,
        measure=measure,
        arms=tuple(ladder),
        means=tuple(means),
        direction=direction,
        ordered=bool((steps >= 0).all()),
        p_value=page_trend(matrix, direction),
        clusters=len(matrix),
        rungs=tuple(_rungs(measure, ladder, scores, clusters)),
    )


def _rungs(
    measure: Measure, ladder: Sequence[str], scores: Sequence[Sequence[float]], clusters: Sequence[str]
) -> Iterator[Rung]:
    """Each arm of a ladder against the one before it, on the same items; Holm over the rungs."""
    gaps = []
    for before, after in pairwise(scores):
        if measure == ACCURACY:
            gaps.append(margins.gap(after, before, clusters, CONFIDENCE))
        else:
            found = paired_difference(after, before, clusters, CONFIDENCE)
            gaps.append(margins.Gap(found.estimate, found.lower, found.upper, found.p_value))
    adjusted = holm([gap.p_value for gap in gaps])
    for (against, arm), gap, p in zip(pairwise(ladder), gaps, adjusted, strict=True):
        yield Rung(arm, against, gap.estimate, gap.lower, gap.upper, p)


def _bits_scores(rows: Sequence[HeldOut]) -> Floats:
    """(records,) scores whose mean is all bits over all bytes and whose spread is that ratio's (delta
    method).
    """
    return as_mean([row.bits for row in rows], [float(row.bytes) for row in rows])


def as_mean(values: Sequence[float], weights: Sequence[float]) -> Floats:
    """(items,) scores whose mean is all values over all weights, and whose spread is that ratio's (delta
    method).
    """
    tops, sizes = np.array(values), np.array(weights)
    ratio = tops.sum() / sizes.sum()
    return np.asarray(ratio + (tops - ratio * sizes) / sizes.mean(), dtype=np.float64)


def _cluster_means(values: Sequence[float] | Floats, clusters: Sequence[str]) -> Floats:
    number: dict[str, int] = {}
    index = np.array([number.setdefault(cluster, len(number)) for cluster in clusters])
    return np.asarray(np.bincount(index, weights=np.asarray(values, dtype=np.float64)) / np.bincount(index))


def _unequal(what: str) -> UsageError:
    return UsageError(
        f"evaluate/: {what}",
        "the same set in both arms",
        "different sets",
        "delete the folder evaluate/ of the run and type `dpaudit eval`",
    )
