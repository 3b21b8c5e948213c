"""The blind baseline: how well membership can be told from the text alone, without any model.

Where it can, a membership result measures a difference between texts and not memory (Das et al. 2024, arXiv
2406.16201; Meeus et al. 2024, arXiv 2406.17975). Where membership was drawn by coin, it means a broken coin file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.stats.roc import auc_interval

FOLDS = 5
ALARM = 1e-3  # DESIGN §7: with fair coins the baseline alarms below this p-value only


@dataclass(frozen=True)
class Blind:
    """The baseline's AUC with its interval; `p_value` is that of "the text says nothing", one-sided."""

    auc: float
    auc_lower: float
    auc_upper: float
    p_value: float
    alarm: bool
    units: int


def baseline(texts: Sequence[str], members: Sequence[bool], *, seed: int, confidence: float = 0.95) -> Blind:
    """The AUC of a cross-fitted classifier that sees one text a unit: TF-IDF of words and characters, logistic regression.

    A unit's score comes from a classifier that saw neither it nor its fold; only ranks inside a fold are
    compared, since folds have classifiers of their own. Raises ValueError with fewer than 2 members or
    controls for each of the 5 folds.
    """
    member = np.asarray(members, dtype=bool)
    fewest = min(int(member.sum()), int((~member).sum()))
    if fewest < 2 * FOLDS:
        raise ValueError(f"expected at least {2 * FOLDS} members and controls, got {fewest} of one kind")
    scores, fold = _cross_fitted(texts, member, seed)
    found = auc_interval(_ranks_in_fold(scores, fold), member, confidence)
    p_value = _rank_sum_p_value(scores, member, fold)
    return Blind(found.auc, found.lower, found.upper, p_value, p_value < ALARM, len(member))


def _cross_fitted(
    texts: Sequence[str], member: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(units,) score of each unit from the classifier of the other folds, and (units,) its fold."""
    from sklearn.model_selection import StratifiedKFold

    rows = np.array(texts, dtype=object)
    scores, fold = np.empty(len(rows)), np.empty(len(rows), np.int64)
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, member)
    for number, (fitted, scored) in enumerate(splits):
        classifier = _classifier().fit(rows[fitted], member[fitted])
        scores[scored], fold[scored] = classifier.decision_function(rows[scored]), number
    return scores, fold


def _classifier() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(token_pattern=r"(?u)\w+", sublinear_tf=True, max_features=20_000)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=20_000
    )
    return make_pipeline(make_union(words, characters), LogisticRegression(C=1.0, max_iter=1000))


def _ranks_in_fold(scores: NDArray[np.float64], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each score's mid-rank inside its fold, as a share in (0, 1)."""
    from scipy.stats import rankdata

    ranks = np.empty_like(scores)
    for number in range(FOLDS):
        inside = fold == number
        ranks[inside] = (rankdata(scores[inside]) - 0.5) / inside.sum()
    return ranks


def _rank_sum_p_value(
    scores: NDArray[np.float64], member: NDArray[np.bool_], fold: NDArray[np.int64]
) -> float:
    """One-sided p-value of the rank sums of all folds together (Wilcoxon by strata, normal approximation, ties counted)."""
    from scipy.stats import norm, rankdata

    excess = variance = 0.0
    for number in range(FOLDS):
        inside = fold == number
        ranks, chosen = rankdata(scores[inside]), member[inside]
        size, members = len(ranks), int(chosen.sum())
        excess += float(ranks[chosen].sum()) - members * (size + 1) / 2
        variance += members * (size - members) / size * float(np.var(ranks, ddof=1))
    return float(norm.sf(excess / math.sqrt(variance))) if variance > 0 else 1.0
