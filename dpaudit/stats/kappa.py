"""How far two raters agree beyond chance."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from dpaudit.stats.paired import Labels, cluster_totals
from dpaudit.stats.win_rates import win_rate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa with a two-sided interval: 1 = the same verdict on every item, 0 = as often as chance
    makes it. None where both raters gave one and the same verdict to all items: then chance explains all.
    """

    kappa: float | None
    lower: float | None
    upper: float | None
    agreement: float  # share of items with the same verdict
    agreement_lower: float
    agreement_upper: float
    items: int
    clusters: int


def cohen(
    ours: Sequence[Hashable],
    theirs: Sequence[Hashable],
    clusters: Labels | None = None,
    confidence: float = 0.95,
) -> Kappa:
    """Return kappa of two raters' verdicts on the same items; items of one label in `clusters` are one draw.

    The variance is that of the linearised kappa, summed by cluster. The interval is the exact one for the
    share of equal verdicts at the number of independent items whose kappa would vary as much, never more than
    there are, at the chance agreement that was seen: so it has a width where all verdicts are equal. No items
    or lists of different lengths raise ValueError.

    Source: Cohen 1960; Fleiss, Cohen and Everitt 1969 (the linearisation); Korn and Graubard 1998.
    Coverage: tests/stats/test_kappa.py.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"expected as many verdicts of both raters, got {len(ours)} and {len(theirs)}")
    same = np.array([float(a == b) for a, b in zip(ours, theirs, strict=True)])
    agreement = win_rate(same, clusters, confidence)
    share_ours, share_theirs = _shares(ours), _shares(theirs)
    chance = sum(share * share_theirs.get(verdict, 0.0) for verdict, share in share_ours.items())
    limits = agreement.estimate, agreement.lower, agreement.upper
    sizes = cluster_totals(same, clusters)[1]
    if chance == 1:
        return Kappa(None, None, None, *limits, same.size, sizes.size)
    observed = agreement.estimate
    kappa = (observed - chance) / (1 - chance)
    expected = np.array(
        [share_theirs.get(a, 0.0) + share_ours.get(b, 0.0) for a, b in zip(ours, theirs, strict=True)]
    )
    moves = ((same - observed) - (1 - kappa) * (expected - 2 * chance)) / (1 - chance)
    variance = _variance(cluster_totals(moves, clusters)[0], same.size)
    effective = float(sizes.sum()) ** 2 / float((sizes**2).sum())  # were all items of a cluster alike
    if 0 < observed < 1 and variance > 0:
        effective = min(float(same.size), observed * (1 - observed) / (1 - chance) ** 2 / variance)
    low, high = _exact(observed, effective, confidence)
    return Kappa(
        kappa,
        max(-1.0, (low - chance) / (1 - chance)),
        (high - chance) / (1 - chance),
        *limits,
        same.size,
        sizes.size,
    )


def _shares(verdicts: Sequence[Hashable]) -> dict[Hashable, float]:
    return {verdict: verdicts.count(verdict) / len(verdicts) for verdict in set(verdicts)}


def _variance(sums: Floats, items: int) -> float:
    """The variance of a mean over items, from what each cluster adds to it."""
    clusters = sums.size
    return float((sums**2).sum()) * clusters / (clusters - 1) / items**2 if clusters > 1 else 0.0


def _exact(share: float, effective: float, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's limits of a share."""
    right, tail = share * effective, (1 - confidence) / 2
    low = float(beta.ppf(tail, right, effective - right + 1)) if right > 0 else 0.0
    high = float(beta.isf(tail, right + 1, effective - right)) if share < 1 else 1.0
    return low, high
