"""How visible planted rows are: what a text classifier that somebody trains for it tells of them.

The classifier is given the answer for most rows, which nobody who filters has: another filter may find fewer
rows, and one that knows how rows are made may find more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpaudit.schema import Count, Proportion
from dpaudit.stats.roc import auc_interval

FOLDS = 5
FEWEST = 2 * FOLDS  # real rows, below which nothing is learned
MOST = 800  # rows of each kind: a few seconds
FALSE_ALARMS = 0.01
LONGEST = 4000  # characters of a row that are read, half of them from its end
INVERSE_PENALTY = 10.0  # of the logistic regression; texts have squared norm 2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Visibility:
    """`auc` of the classifier, planted against real rows; 0.5 = not to be told apart.

    `found` is the share of planted rows above a threshold that at most 1 % of the real rows exceed. `planted`
    and `real` count the rows that were compared.
    """

    auc: Proportion
    found: Proportion
    planted: Count
    real: Count


def visibility(
    planted: Sequence[str], real: Sequence[str], groups: Sequence[int] | None = None, seed: int = 0
) -> Visibility | None:
    """What a cross-fitted classifier tells of `planted` texts beside `real` ones; None below FEWEST of
    either.

    `groups` has a number for each planted text and then each real one. Texts of one number lie in one fold: a
    planted row and the row that it was made from, which would else mislead the classifier. A row's score
    comes from a classifier that saw no row of its fold.
    """
    if min(len(planted), len(real)) < FEWEST:
        return None
    is_planted = np.arange(len(planted) + len(real)) < len(planted)
    numbers = np.arange(len(is_planted)) if groups is None else np.asarray(groups)
    scores = _scores([_shortened(text) for text in (*planted, *real)], is_planted, numbers, seed)
    most = np.sort(scores[~is_planted])[-1 - int(FALSE_ALARMS * len(real))]
    return Visibility(
        auc_interval(scores, is_planted, 0.95).auc,
        float(np.mean(scores[is_planted] > most)),
        len(planted),
        len(real),
    )


def _shortened(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} {text[-half:]}"


def _scores(texts: list[str], is_planted: NDArray[np.bool_], groups: NDArray[np.int64], seed: int) -> Floats:
    """(texts,): the log-odds that each is planted, by a classifier of the other folds."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    words = TfidfVectorizer(token_pattern=r"(?u)\w+", ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    vectors = hstack([kind.fit_transform(texts) for kind in (words, characters)]).tocsr()
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    scores = np.empty(len(texts))
    for fitted, scored in folds.split(vectors, is_planted, groups):
        model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=200)
        model.fit(vectors[fitted], is_planted[fitted])
        scores[scored] = model.decision_function(vectors[scored])
    return scores
