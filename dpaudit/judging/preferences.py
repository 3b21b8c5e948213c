"""Whether preference training did what it is for: figures of one model, and a DPO arm beside its start."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dpaudit.findings.preferences import Change, HeldPair, Measure, PreferenceFigures
from dpaudit.findings.quality import HeldOut
from dpaudit.judging.quality import CONFIDENCE, bits_pairs
from dpaudit.stats.paired import mean_interval, paired_difference

Floats = NDArray[np.float64]
ANYTHING = (-np.inf, np.inf)


def figures(arm: str, rows: Sequence[HeldPair], left_out: int) -> PreferenceFigures:
    """Raises ValueError where there is no pair."""
    right = _right(rows)
    mean = mean_interval(right, [row.cluster for row in rows], CONFIDENCE)
    is_shorter = np.array([row.chosen_tokens < row.rejected_tokens for row in rows])
    return PreferenceFigures(
        arm=arm,
        accuracy=mean.estimate,
        accuracy_lower=max(0.0, mean.lower),
        accuracy_upper=min(1.0, mean.upper),
        chosen=float(np.mean([row.chosen for row in rows])),
        rejected=float(np.mean([row.rejected for row in rows])),
        pairs=mean.items,
        clusters=mean.clusters,
        left_out=left_out,
        shorter=float(right[is_shorter].mean()) if is_shorter.any() else None,
        shorter_pairs=int(is_shorter.sum()),
    )


def changes(
    ours: Sequence[HeldPair],
    theirs: Sequence[HeldPair],
    heldout: Mapping[str, Sequence[HeldOut]],
    clusters: Mapping[str, str],
) -> tuple[Change, ...]:
    """Every measure of an arm less that of another on the same pairs; `heldout` has the held-out records of
    `arm` and of `against`, for bits per byte (negative: the arm is better).
    """
    labels = [row.cluster for row in ours]
    both = [_column(ours, name) - _column(theirs, name) for name in ("chosen", "rejected")]
    columns: list[tuple[Measure, Floats, tuple[float, float]]] = [
        ("accuracy", _right(ours) - _right(theirs), (-1.0, 1.0)),
        ("log_ratio", both[0] - both[1], ANYTHING),
        ("chosen", both[0], ANYTHING),
        ("rejected", both[1], ANYTHING),
    ]
    found = []
    for measure, gap, bounds in columns:
        tested = paired_difference(gap, np.zeros(len(gap)), labels, CONFIDENCE, bounds)
        found.append(Change(measure, tested.estimate, tested.lower, tested.upper, tested.p_value))
    if heldout["arm"] and heldout["against"]:
        (bits,) = bits_pairs(heldout, [("arm", "against")], clusters)
        found.append(Change("bits_per_byte", bits.difference, bits.lower, bits.upper, bits.p_value))
    return tuple(found)


def worse(found: Sequence[Change]) -> str | None:
    """Why an arm is worse than its start: in its purpose, or without gain there at a cost elsewhere."""
    by_measure = {change.measure: change for change in found}
    accuracy, bits = by_measure["accuracy"], by_measure.get("bits_per_byte")
    if accuracy.upper < 0:
        return "it prefers the chosen answer less often than its start does"
    if accuracy.lower > 0:
        return None
    both_fell = by_measure["chosen"].upper < 0 and by_measure["rejected"].upper < 0
    if both_fell or (bits is not None and bits.lower > 0):
        cost = "both answers" if both_fell else "held-out answers"
        return f"it prefers the chosen answer no more often than its start does, and finds {cost} less likely"
    return None


def _right(rows: Sequence[HeldPair]) -> Floats:
    """1 where the chosen answer is the likelier, half of it where both are the same."""
    gap = _column(rows, "chosen") - _column(rows, "rejected")
    return (np.sign(gap) + 1) / 2


def _column(rows: Sequence[HeldPair], name: str) -> Floats:
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)
