"""What a recipe makes of a model's answers: one score a canary in every rendering. No coin is read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.errors import UsageError
from dpaudit.findings.membership import Slope
from dpaudit.signals import calibration
from dpaudit.signals.recipe import Recipe
from dpaudit.signals.text import Span
from dpaudit.stages.asking import Answers

if TYPE_CHECKING:
    from dpaudit.models.secret_spans import SecretScores

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """One score a canary in one rendering, shape (canaries,), higher = more likely in.

    `trace` tells how much training left in this rendering, and so which rendering counts: see
    `calibration.trace`; of a recipe without a reference it is the mean score.
    """

    values: Floats
    trace: float
    slope: Slope | None = None  # of a recipe that calibrates by a reference


def scored(made_by: Recipe, answers: Answers, is_pair: bool) -> Scored:
    """The scores that a recipe gives; of a pair, the chosen secret's less the rejected one's.

    Raises UsageError where a model gives no number, or the probability zero, and for a base with other
    tokens.
    """
    base = answers.base or answers.audited  # a signal that calibrates is asked only where there is a base
    audited = _values(made_by, answers, answers.audited, base, is_pair)
    if made_by.calibration == "none":
        return Scored(audited, float(audited.mean()))
    tokens = _beside_rejected(np.array([a.logprob.size for a in answers.audited], np.float64), is_pair)
    if made_by.reference == "none":
        return Scored(calibration.residual(audited, tokens).scores, float(audited.mean()))
    reference = _values(made_by, answers, base, base, is_pair)
    found = calibration.residual(audited, tokens, reference)
    trace = calibration.trace(audited, reference, found.scores)
    return Scored(found.scores, trace, Slope(found.slope, found.fitted, found.per_token))


def _values(
    made_by: Recipe,
    answers: Answers,
    model: "list[SecretScores]",
    base: "list[SecretScores]",
    is_pair: bool,
) -> Floats:
    """The signal of what `model` says, beside what `base` says."""
    signal = made_by.make_signal()
    values = np.array(
        [
            signal(Span(a.logprob, a.mean, a.std, _same_tokens(a, b), secret))
            for a, b, secret in zip(model, base, answers.secrets, strict=True)
        ],
        dtype=np.float64,
    )
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise UsageError(
            "dpaudit verify",
            "a model that gives every text a probability",
            f"NaN or zero for {bad} of {len(values)} secrets",
            "its training diverged: there is nothing to audit",
        )
    return _beside_rejected(values, is_pair)


def _beside_rejected(values: Floats, is_pair: bool) -> Floats:
    """Of pairs the chosen text's value less the rejected one's, which stands behind it."""
    return values[0::2] - values[1::2] if is_pair else values


def _same_tokens(audited: "SecretScores", base: "SecretScores") -> Any:
    if len(audited.logprob) != len(base.logprob):
        raise UsageError("--base", "a base with the audited model's tokens", "a base with other tokens")
    return base.logprob
