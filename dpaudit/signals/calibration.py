"""What a score says beyond the length of its text and a reference model's opinion: the residual of a line
through all canaries, fitted without a coin.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST = 4  # examples: a plane through three of them leaves no residual
DIGITS = 9  # of a slope behind the point: a model that is its reference has slope 1, not 1 less rounding


@dataclass(frozen=True, eq=False)
class Residual:
    """Scores with the reference's share and the length's taken off, shape (examples,):
    `audited - slope * reference - per_token * tokens`.

    `slope` is the fitted one, held within [0, 1]; `fitted` is None where none can be fitted, and the slope
    then is 0. `per_token` is in the unit of the scores, 0 where all texts have the same number of tokens.
    """

    scores: Floats  # higher = more likely a member
    slope: float
    fitted: float | None
    per_token: float


def residual(audited: Floats, tokens: Floats, reference: Floats | None = None) -> Residual:
    """The audited model's scores less what the number of tokens and the reference's scores say of them.

    All arrays have shape (examples,); scores are log-probabilities of a whole text, in nats, or any other
    unit that audited model and reference share. Both slopes are those of least squares over all examples. A
    reference's slope below 0 would call a text that the reference finds unlikely a member, above 1 it would
    take off more than the reference knows: it is held to 0, where the audited model's score stands alone, and
    to 1, where the difference of both stands (Watson et al. 2022, arXiv 2111.08440, equation 2); the length's
    is then fitted to what is left. The intercept moves all scores alike and is left out.

    Why whole texts and not means a token: where each token of a member is more probable by the same factor,
    on average, and tokens are independent, the log-likelihood ratio of "in" against "out" is a sum over
    tokens, less a term in proportion to their number (Neyman and Pearson 1933). A mean gives a secret that
    the tokenizer cuts into few pieces another unit than one that it cuts into many.

    The fit sees every example's scores and no coin. The scores that result, and so the guesses, still are a
    function of the two models and the texts alone. The reference is fixed before the coins, and the audited
    model is what the private training put out: the guesses are post-processing of that output, which the
    one-run bound allows in any form (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846, theorem 5.2). Neither
    the number of guesses nor the fair coins depend on the slopes.

    Raises ValueError for NaN, infinite scores and arrays of different lengths.
    """
    given = [audited, tokens, *([] if reference is None else [reference])]
    if audited.ndim != 1 or any(values.shape != audited.shape for values in given):
        raise ValueError(f"expected arrays of one length, got {', '.join(str(v.shape) for v in given)}")
    if not all(np.isfinite(values).all() for values in given):
        raise ValueError("expected finite scores")
    fitted, left, slope = None, audited, 0.0
    if reference is not None:
        fitted, _ = _slopes(audited, reference, tokens)
        slope = min(max(fitted or 0.0, 0.0), 1.0)
        left = audited - slope * reference
    per_token = _slopes(left, tokens)[0] or 0.0
    return Residual(left - per_token * tokens, slope, fitted, per_token)


def trace(audited: Floats, reference: Floats, scores: Floats) -> float:
    """How much training left in one rendering of the texts: by this, without a coin, a rendering is chosen.

    The geometric mean of two lengths in the unit of the scores: how far all texts rose above the reference
    (0 where they fell), and the standard deviation of the residual `scores`. Alone, the rise hardly differs
    between renderings once a model has learned what all texts have in common, and the deviation is noise
    where little was learned (measured: docs/scores.md). All arrays have shape (examples,).
    """
    rise = max(float((audited - reference).mean()), 0.0)
    return math.sqrt(rise * float(scores.std()))


def _slopes(values: Floats, *by: Floats) -> list[float | None]:
    """The least-squares slope on each of `by`; None for one that says the same of all examples, and for fewer
    than four examples.
    """
    telling = [regressor.min() < regressor.max() for regressor in by]
    if len(values) < LEAST or not any(telling):
        return [None] * len(by)
    centred = np.column_stack([x - x.mean() for x, tells in zip(by, telling, strict=True) if tells])
    found = iter(np.linalg.lstsq(centred, values - values.mean(), rcond=None)[0])
    return [round(float(next(found)), DIGITS) if tells else None for tells in telling]
