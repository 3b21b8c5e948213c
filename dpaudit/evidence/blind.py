"""The blind baseline: how well membership can be told from the text alone, without any model.

Where it can, a membership result measures a difference between texts and not memory (Das et al. 2024, arXiv
2406.16201; Meeus et al. 2024, arXiv 2406.17975). Where membership was drawn by coin, it means a broken coin
file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpaudit.stats.roc import auc_interval

FOLDS = 5
ALARM = 1e-3  # DESIGN §7: with fair coins the baseline alarms below this p-value only
PERMUTATIONS = 4999
PENALTY = 1.0  # of the ridge; texts have squared norm 2

Finding = Literal["silent", "broken coins", "distribution shift"]
NO_BASELINE = "no baseline: too few"  # stands where a finding would
SUPPORTS_NOTHING = {
    "broken coins": "the texts alone tell which canaries went in (blind baseline, p < .001): the coins are "
    "broken, and "
    "nothing follows from guessing them",
    "distribution shift": "members and others are different texts, which a reader without the model tells "
    "apart: what was "
    "measured need not be memory",
}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Blind:
    """The baseline's AUC with its interval; `p_value` is that of "the text says nothing", one-sided."""

    auc: float
    auc_lower: float
    auc_upper: float
    p_value: float
    alarm: bool
    units: int


def finding(auc_lower: float, auc_upper: float, p_value: float, *, drawn_by_coin: bool) -> Finding:
    """What a baseline means for the comparison that it stands beside (DESIGN section 7).

    With fair coins a text carries no information, so a small p-value means a broken coin file. Without coins,
    an interval of the AUC that excludes one half is enough: members and others are different texts.
    """
    if drawn_by_coin:
        return "broken coins" if p_value < ALARM else "silent"
    return "silent" if auc_lower <= 0.5 <= auc_upper else "distribution shift"


def baseline(texts: Sequence[str], members: Sequence[bool], *, seed: int, confidence: float = 0.95) -> Blind:
    """The AUC of a cross-fitted classifier that sees one text a unit: TF-IDF of words and characters, then
    ridge.

    A unit's score comes from a classifier that saw no label of its fold, and only ranks inside a fold are
    compared. The p-value is exact: coins are permuted and the classifiers refitted. A ridge is used and no
    logistic regression because it is linear in the labels, so that a new fit is one product. The interval is
    the wider of DeLong's and the permutations': folds share units, so DeLong's alone is too narrow. Raises
    ValueError with fewer than 10 members or controls.
    """
    member = np.asarray(members, dtype=bool)
    fewest = min(int(member.sum()), int((~member).sum()))
    if fewest < 2 * FOLDS:
        raise ValueError(f"expected at least {2 * FOLDS} members and controls, got {fewest} of one kind")
    generator = np.random.default_rng(seed)
    fold = generator.permutation(
        np.arange(len(member)) % FOLDS
    )  # blind to the labels, as permuting them needs
    smoother = _smoother(_kernel(texts), fold)
    ranks = _ranks(smoother @ member, fold)
    permuted = np.stack([generator.permutation(member) for _ in range(PERMUTATIONS)], axis=1)
    under_null = _auc(_ranks(smoother @ permuted, fold), permuted)  # (permutations,)
    interval = auc_interval(ranks, member, confidence)
    p_value = float((1 + np.sum(under_null >= interval.auc - 1e-12)) / (1 + PERMUTATIONS))
    margin = float(np.quantile(np.abs(under_null - under_null.mean()), confidence))
    lower, upper = (
        max(0.0, min(interval.lower, interval.auc - margin)),
        min(1.0, max(interval.upper, interval.auc + margin)),
    )
    return Blind(interval.auc, lower, upper, p_value, p_value < ALARM, len(member))


def _kernel(texts: Sequence[str]) -> Floats:
    """(units, units) inner products of TF-IDF vectors; fitted on all texts, since it sees no label."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=r"(?u)\w+", sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    total = np.zeros((len(texts), len(texts)))
    for vectors in (words.fit_transform(texts), characters.fit_transform(texts)):
        total += (vectors @ vectors.T).toarray()
    return total


def _smoother(kernel: Floats, fold: NDArray[np.int64]) -> Floats:
    """(units, units): its product with the labels is each unit's score, by the ridge of the other folds'
    centred labels.
    """
    smoother = np.zeros_like(kernel)
    for number in range(FOLDS):
        scored, fitted = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        inner = kernel[np.ix_(fitted, fitted)] + PENALTY * np.eye(len(fitted))
        weights = np.linalg.solve(inner, kernel[np.ix_(fitted, scored)]).T  # (scored, fitted)
        smoother[np.ix_(scored, fitted)] = weights - weights.mean(axis=1, keepdims=True)
    return smoother


def _ranks(scores: Floats, fold: NDArray[np.int64]) -> Floats:
    """Each score's mid-rank inside its fold, as a share in (0, 1); along the first axis."""
    from scipy.stats import rankdata

    ranks = np.empty(scores.shape)
    for number in range(FOLDS):
        inside = fold == number
        ranks[inside] = (rankdata(scores[inside].round(12), axis=0) - 0.5) / inside.sum()
    return ranks


def _auc(ranks: Floats, members: NDArray[np.bool_]) -> Floats:
    """The AUC of each column of ranks."""
    from scipy.stats import rankdata

    count = members[:, 0].sum()
    sums = np.where(members, rankdata(ranks, axis=0), 0.0).sum(axis=0)
    return np.asarray((sums - count * (count + 1) / 2) / (count * (len(ranks) - count)))
