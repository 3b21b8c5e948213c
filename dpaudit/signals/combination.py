"""Several attacks as one: a logistic regression over their scores, fitted on examples that then leave every
count.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpaudit.stats import roc

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEAST = 20  # members and controls each, below which nothing is fitted
MIDDLE = (1.0, 99.0)  # percentiles to which scores are clipped: single ones reach infinity


@dataclass(frozen=True, eq=False)
class Fitted:
    """Weights of standardised scores; calling it gives each example's log-odds of being a member,
    (examples,).
    """

    lowest: Floats  # (recipes,), to which scores are clipped
    highest: Floats
    centre: Floats
    scale: Floats
    weights: Floats
    intercept: float

    def __call__(self, scores: Floats) -> Floats:
        return self.standardised(scores) @ self.weights + self.intercept

    def standardised(self, scores: Floats) -> Floats:
        return (np.clip(scores, self.lowest, self.highest) - self.centre) / self.scale


def lot(names: Sequence[str], share: float, seed: int) -> Bools:
    """Which examples are fitted on: a `share` of them by a public hash of each name, blind to coins and
    scores.
    """
    drawn = [hashlib.sha256(f"combination/{seed}/{name}".encode()).digest() for name in names]
    chosen = np.zeros(len(names), dtype=bool)
    chosen[sorted(range(len(names)), key=drawn.__getitem__)[: int(share * len(names))]] = True
    return chosen


def fit(scores: Floats, members: Bools, penalty: float) -> Fitted:
    """The logistic regression with squared weights penalised; `scores` has shape (examples, recipes).

    Raises ValueError with fewer than 20 members or controls, or for NaN.
    """
    from sklearn.linear_model import LogisticRegression

    fewest = min(int(members.sum()), int((~members).sum()))
    if fewest < LEAST:
        raise ValueError(
            f"expected at least {LEAST} members and controls to fit on, got {fewest} of one kind"
        )
    finite = np.where(np.isfinite(scores), scores, np.nan)
    if np.isnan(scores).any():
        raise ValueError("expected scores without NaN")
    lowest, highest = np.nan_to_num(np.nanpercentile(_some(finite), MIDDLE, axis=0))
    clipped = np.clip(scores, lowest, highest)
    spread = clipped.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)  # a constant score carries no information
    centre = clipped.mean(axis=0)
    made = LogisticRegression(C=1 / penalty, max_iter=1000).fit((clipped - centre) / scale, members)
    return Fitted(lowest, highest, centre, scale, made.coef_[0].astype(np.float64), float(made.intercept_[0]))


def _some(scores: Floats) -> Floats:
    """The scores; a column without any finite value becomes zero."""
    empty = np.isnan(scores).all(axis=0)
    return np.where(empty, 0.0, scores)


def best(scores: Floats, members: Bools, fpr: float) -> int:
    """The column with the highest true positive rate at `fpr` on these examples; among equals the highest
    AUC.
    """
    figures = []
    for column in scores.T:
        curve = roc.roc_curve(column, members)
        area = float(np.trapezoid(curve.tpr, curve.fpr))
        figures.append((float(curve.tpr[curve.fpr <= fpr].max()), area))
    return max(range(len(figures)), key=figures.__getitem__)
