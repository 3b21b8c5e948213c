"""What an arm is worth: accuracy on benchmark items, bits per byte of held-out answers, and arms compared on
the same items.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpaudit.errors import UsageError
from dpaudit.stats.paired import (
    PairedDifference,
    mean_interval,
    page_trend,
    paired_difference,
    win_rate_interval,
)
from dpaudit.stats.roc import proportion_interval
from dpaudit.suite.grid import Arm, nonprivate

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
BASE = "base"
ACCURACIES = (-1.0, 1.0)  # between these lies any difference of two


class Item(NamedTuple):
    """One benchmark item as one model answered it. Items of one cluster (a passage, a condition) are no
    independent draws.
    """

    id: str
    correct: int
    margin: float  # nats: log-probability of the right choice minus that of the best wrong one
    cluster: str


class HeldOut(NamedTuple):
    """The cost of one held-out record's answers: bits over their tokens, and their UTF-8 bytes."""

    id: str
    bits: float
    bytes: int


def accuracy_figures(items: Sequence[Item], chance: float) -> dict[str, Any]:
    """Accuracy with its 95 % interval (Clopper-Pearson, or a cluster bootstrap), mean margin, and the chance
    level.

    "above_chance" is whether the interval lies above `chance`.
    """
    correct = [float(item.correct) for item in items]
    clusters = [item.cluster for item in items]
    distinct = len(set(clusters))
    if distinct == len(items):
        lower, upper = proportion_interval(int(sum(correct)), len(items), CONFIDENCE)
    else:
        rate = win_rate_interval(correct, clusters, CONFIDENCE)
        lower, upper = rate.lower, rate.upper
    return {
        "accuracy": float(np.mean(correct)),
        "accuracy_lower": lower,
        "accuracy_upper": upper,
        "items": len(items),
        "clusters": distinct,
        "margin": float(np.mean([item.margin for item in items])),
        "chance": chance,
        "above_chance": lower > chance,
        "uninformative": not lower > chance,
    }


def bits_figures(rows: Sequence[HeldOut], clusters: Mapping[str, str]) -> dict[str, Any] | None:
    """Bits per byte (all bits over all bytes; lower is better) with its 95 % interval; None where nothing was
    held out.

    `clusters` names the patient (or the record itself) of each record id.
    """
    if not rows:
        return None
    scores = _bits_scores(rows)
    found = mean_interval(scores, [clusters[row.id] for row in rows], CONFIDENCE)
    return {
        "value": found.estimate,
        "lower": found.lower,
        "upper": found.upper,
        "records": found.items,
        "clusters": found.clusters,
    }


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


def task_pairs(
    task: str,
    answers: Mapping[str, Sequence[Item]],
    pairs: Sequence[tuple[str, str]],
    margin: float,
    uninformative: bool,
) -> list[dict[str, Any]]:
    """Each arm against its reference on one task: accuracy (with p, Holm, the declared margin) and log-prob
    margin.

    Interval and "p_value" come from one sign-flip test over clusters, which for items without clusters is the
    exact McNemar test. Holm is over the arms that share a reference. "non_inferior" is whether the one-sided
    95 % lower limit of arm - reference lies above -`margin`, "shown_worse" whether its upper limit lies below
    -`margin`; with neither, nothing is shown. Both are None where the task is uninformative.
    """
    rows = []
    for arm, against in pairs:
        ours, theirs = answers[arm], answers[against]
        clusters = same_items(task, ours, theirs)
        named = {"arm": arm, "against": against, "task": task}
        rows.append(named | _accuracy_pair(ours, theirs, clusters, margin) | {"uninformative": uninformative})
        if uninformative:
            rows[-1] |= {"non_inferior": None, "shown_worse": None}
        margins = paired_difference(
            [i.margin for i in ours], [i.margin for i in theirs], clusters, CONFIDENCE
        )
        rows.append(named | {"measure": "margin", **_interval(margins), "uninformative": uninformative})
    for against in {against for _, against in pairs}:
        family = [row for row in rows if row["against"] == against and row["measure"] == "accuracy"]
        for row, adjusted in zip(family, holm([row["p_value"] for row in family]), strict=True):
            row["p_holm"] = adjusted
    return rows


def bits_pairs(
    heldout: Mapping[str, Sequence[HeldOut]], pairs: Sequence[tuple[str, str]], clusters: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Each arm's bits per byte minus its reference's on the same records (negative = the arm is better)."""
    rows = []
    for arm, against in pairs:
        ours, theirs = heldout[arm], heldout[against]
        if [(row.id, row.bytes) for row in ours] != [(row.id, row.bytes) for row in theirs]:
            raise _unequal(f"held-out records of {arm} and {against}")
        labels = [clusters[row.id] for row in ours]
        found = paired_difference(_bits_scores(ours), _bits_scores(theirs), labels, CONFIDENCE)
        rows.append(
            {"arm": arm, "against": against, "task": None, "measure": "bits_per_byte", **_interval(found)}
        )
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


def task_trends(
    task: str, answers: Mapping[str, Sequence[Item]], ladder: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Page's test of "quality falls with epsilon" over one ladder, by accuracy and by margin; rows are
    clusters.
    """
    clusters = [item.cluster for item in answers[ladder[0]]]
    if len(set(clusters)) < 2:
        return
    for measure in ("accuracy", "margin"):
        field = "correct" if measure == "accuracy" else "margin"
        columns = [[float(getattr(item, field)) for item in answers[arm]] for arm in ladder]
        matrix = np.column_stack([_cluster_means(column, clusters) for column in columns])
        yield _trend(task, measure, ladder, matrix, "falling")


def bits_trends(
    heldout: Mapping[str, Sequence[HeldOut]], ladder: Sequence[str], clusters: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Page's test of "bits per byte rise as epsilon falls" over one ladder; rows are patients, else
    records.
    """
    labels = [clusters[row.id] for row in heldout[ladder[0]]]
    if len(set(labels)) < 2:
        return
    per_byte = [[row.bits / row.bytes for row in heldout[arm]] for arm in ladder]
    matrix = np.column_stack([_cluster_means(column, labels) for column in per_byte])
    yield _trend(None, "bits_per_byte", ladder, matrix, "rising")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def same_items(task: str, ours: Sequence[Item], theirs: Sequence[Item]) -> list[str]:
    """The clusters of items that both answered. Raises UsageError where the two lists are not of the same
    items.
    """
    if [(item.id, item.cluster) for item in ours] != [(item.id, item.cluster) for item in theirs]:
        raise _unequal(f"items of {task}")
    return [item.cluster for item in ours]


def _accuracy_pair(
    ours: Sequence[Item], theirs: Sequence[Item], clusters: list[str], margin: float
) -> dict[str, Any]:
    first, second = [float(item.correct) for item in ours], [float(item.correct) for item in theirs]
    found = paired_difference(first, second, clusters, CONFIDENCE, ACCURACIES)
    one_sided = paired_difference(first, second, clusters, 2 * CONFIDENCE - 1, ACCURACIES)
    return {
        "measure": "accuracy",
        **_interval(found),
        "non_inferior": one_sided.lower > -margin,
        "shown_worse": one_sided.upper < -margin,
        "one_sided_lower": one_sided.lower,
        "one_sided_upper": one_sided.upper,
    }


def _interval(found: PairedDifference) -> dict[str, Any]:
    return {
        "difference": found.estimate,
        "lower": found.lower,
        "upper": found.upper,
        "p_value": found.p_value,
        "items": found.items,
        "clusters": found.clusters,
    }


def _trend(
    task: str | None,
    measure: str,
    ladder: Sequence[str],
    matrix: Floats,
    direction: Literal["rising", "falling"],
) -> dict[str, Any]:
    means = [float(mean) for mean in matrix.mean(axis=0)]
    steps = np.diff(means) * (1 if direction == "rising" else -1)
    return {
        "task": task,
        "measure": measure,
        "arms": list(ladder),
        "means": means,
        "direction": direction,
        "ordered": bool((steps >= 0).all()),
        "p_value": page_trend(matrix, direction),
        "clusters": len(matrix),
    }


def _bits_scores(rows: Sequence[HeldOut]) -> Floats:
    """(records,) scores whose mean is all bits over all bytes and whose spread is that ratio's (delta
    method).
    """
    bits, size = np.array([row.bits for row in rows]), np.array([float(row.bytes) for row in rows])
    ratio = bits.sum() / size.sum()
    return np.asarray(ratio + (bits - ratio * size) / size.mean(), dtype=np.float64)


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
