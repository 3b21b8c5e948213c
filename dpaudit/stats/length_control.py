"""How often one of two answers would be preferred if both were equally long."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import pearsonr, t

from dpaudit.stats.paired import Labels

Floats = NDArray[np.float64]

CLUSTERS_LEAST = 20  # coverage with few: benchmarks/judge_size.py
ONE_SIDE_LEAST = 3.0  # clusters' worth of wins, and of losses
LONGER_LEAST = 3  # clusters where the one answer is as long or longer, and where the other is
SHOWN = 0.05  # p-value at which rightness is said to go with length
_STEPS = 50  # of Newton's method; a fit that exists takes about 6
_STEEPEST = 12.0  # of a slope on the scale of tanh: beyond it, lengths alone decide

Absent = Literal[
    "too few clusters",
    "almost no wins",
    "almost no losses",
    "no difference in lengths",
    "one side almost always longer",
    "lengths alone decide",
]


@dataclass(frozen=True)
class EqualLengthRate:
    """The win rate at equal lengths with a two-sided interval; or why it cannot be fitted."""

    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    absent: Absent | None = None


def equal_length_rate(
    outcomes: ArrayLike, gaps: ArrayLike, clusters: Labels, confidence: float = 0.95
) -> EqualLengthRate:
    """Return the mean outcome that a logistic regression on the difference of lengths predicts where it is
    0.

    `outcomes`, of shape (comparisons,), are 1 for a win, 0.5 for a tie, 0 for a loss; `gaps` are the length
    of the first answer less that of the second, in any unit: the model reads tanh(gap / its spread). The
    interval is on the scale of log-odds, from the jackknife over clusters (one step of Newton's method each)
    with Student's quantile. Where nearly all gaps have one sign, equal lengths lie at the edge of what was
    seen or outside, and nothing is predicted. A length mismatch or confidence outside (0, 1) raises
    ValueError.

    Source: Dubois, Galambosi, Liang and Hashimoto 2024 (arXiv 2404.04475), section 3, without the term of a
    prompt's difficulty, which takes other models' answers; Papke and Wooldridge 1996 (ties as one half).
    """
    outcome, gap = np.asarray(outcomes, dtype=np.float64), np.asarray(gaps, dtype=np.float64)
    if not outcome.size == gap.size == len(clusters) or not 0 < confidence < 1:
        raise ValueError("expected outcomes, gaps and clusters of one length, and confidence in (0, 1)")
    index = np.unique(np.array([str(label) for label in clusters]), return_inverse=True)[1]
    if (absent := _absence(outcome, gap, index)) is not None:
        return EqualLengthRate(absent=absent)
    design = np.column_stack([np.ones(gap.size), np.tanh(gap / gap.std())])
    fitted = _fit(design, outcome)
    if fitted is None:
        return EqualLengthRate(absent="lengths alone decide")
    error = _jackknife_error(design, outcome, fitted, index)
    reach = float(t.isf((1 - confidence) / 2, index.max())) * error
    limits = float(expit(fitted[0] - reach)), float(expit(fitted[0] + reach))
    return EqualLengthRate(float(expit(fitted[0])), *limits)


def _absence(outcome: Floats, gap: Floats, index: NDArray[np.intp]) -> Absent | None:
    """Why no fit can be relied on."""
    if np.unique(index).size < CLUSTERS_LEAST:
        return "too few clusters"
    won = np.bincount(index, weights=outcome) / np.bincount(index)
    if won.sum() < ONE_SIDE_LEAST:
        return "almost no wins"
    if (1 - won).sum() < ONE_SIDE_LEAST:
        return "almost no losses"
    if np.ptp(gap) == 0:
        return "no difference in lengths"
    sides = min(np.unique(index[gap <= 0]).size, np.unique(index[gap >= 0]).size)
    return "one side almost always longer" if sides < LONGER_LEAST else None


def goes_with_length(differences: ArrayLike, gaps: ArrayLike, clusters: Labels) -> bool:
    """Whether `differences` in rightness, of shape (comparisons,), are shown to be linked with `gaps` in
    length, in either direction (Pearson's correlation of the means of clusters). Then a rate at equal lengths
    would take a difference in rightness for one in length. False where either never varies.
    """
    index = np.unique(np.array([str(label) for label in clusters]), return_inverse=True)[1]
    size = np.bincount(index)
    difference, gap = (
        np.bincount(index, weights=np.asarray(values, dtype=np.float64)) / size
        for values in (differences, gaps)
    )
    if size.size < 3 or np.ptp(difference) == 0 or np.ptp(gap) == 0:
        return False
    return bool(pearsonr(difference, gap).pvalue < SHOWN)


def _fit(design: Floats, outcome: Floats) -> Floats | None:
    """Level and slope, shape (2,), of the largest likelihood; None where there is none."""
    found: Floats = np.zeros(2)
    for _ in range(_STEPS):
        mean = expit(design @ found)
        information = design.T @ (design * (mean * (1 - mean))[:, None])
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, design.T @ (outcome - mean))
        found = np.asarray(found + np.clip(step, -2, 2), dtype=np.float64)
        if np.abs(found).max() > _STEEPEST:
            return None
        if np.abs(step).max() < 1e-9:
            return found
    return None


def _jackknife_error(design: Floats, outcome: Floats, fitted: Floats, index: NDArray[np.intp]) -> float:
    """The standard error of the level: every cluster left out in turn."""
    mean = expit(design @ fitted)
    count = int(index.max()) + 1
    scores, parts = np.zeros((count, 2)), np.zeros((count, 2, 2))
    np.add.at(scores, index, design * (outcome - mean)[:, None])
    weighted = (mean * (1 - mean))[:, None, None] * design[:, :, None] * design[:, None, :]
    np.add.at(parts, index, weighted)
    moves = np.linalg.solve(parts.sum(axis=0) - parts, scores[:, :, None])[:, 0, 0]
    return float(np.sqrt((count - 1) / count * (moves**2).sum()))
