"""What a score says beyond a reference model's: the residual of a line through all canaries, fitted without a
coin.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST = 3  # examples: a line through two of them leaves no residual


@dataclass(frozen=True, eq=False)
class Residual:
    """Scores with the reference's share taken off: `audited - slope * reference`, shape (examples,).

    `slope` is the fitted one, held within [0, 1]; `fitted` is None where no line can be fitted, and the slope
    then is 0.
    """

    scores: Floats  # higher = more likely a member
    slope: float
    fitted: float | None


def residual(audited: Floats, reference: Floats) -> Residual:
    """The audited model's scores less the reference's, as much of them as the scores themselves say.

    Both arrays have shape (examples,), nats a token or any other unit that they share. The slope is that of
    least squares over all examples. Below 0 it would call a text that the reference finds unlikely a member,
    above 1 it would take off more than the reference knows: it is held to 0, where the audited model's score
    stands alone, and to 1, where the difference of both stands (Watson et al. 2022, arXiv 2111.08440,
    equation 2). The intercept moves all scores alike and is left out.

    The fit sees every example's scores and no coin. The scores that result, and so the guesses, still are a
    function of the two models and the texts alone. The reference is fixed before the coins, and the audited
    model is what the private training put out: the guesses are post-processing of that output, which the
    one-run bound allows in any form (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846, theorem 5.2). Neither
    the number of guesses nor the fair coins depend on the slope.

    Raises ValueError for NaN, infinite scores and arrays of different lengths.
    """
    if audited.shape != reference.shape or audited.ndim != 1:
        raise ValueError(f"expected two arrays of one length, got {audited.shape} and {reference.shape}")
    if not (np.isfinite(audited).all() and np.isfinite(reference).all()):
        raise ValueError("expected finite scores")
    fitted = _slope(audited, reference)
    slope = min(max(fitted or 0.0, 0.0), 1.0)
    return Residual(audited - slope * reference, slope, fitted)


def trace(audited: Floats, reference: Floats, scores: Floats) -> float:
    """How much training left in one rendering of the texts: by this, without a coin, a rendering is chosen.

    The geometric mean of two lengths in the unit of the scores: how far all texts rose above the reference
    (0 where they fell), and the standard deviation of the residual `scores`. Alone, the rise hardly differs
    between renderings once a model has learned what all texts have in common, and the deviation is noise
    where little was learned (measured: docs/scores.md). All arrays have shape (examples,).
    """
    rise = max(float((audited - reference).mean()), 0.0)
    return math.sqrt(rise * float(scores.std()))


def _slope(audited: Floats, reference: Floats) -> float | None:
    """The least-squares slope; None for fewer than three examples and for a reference that says the same of
    all.
    """
    if len(reference) < LEAST or reference.min() == reference.max():
        return None
    centred = reference - reference.mean()
    return float(centred @ (audited - audited.mean()) / (centred @ centred))
