"""Membership signals over shadow models: the audited model's scores of a text beside those of models that
learnt from it and of models that did not.

Pure functions of a `ShadowSpan`; higher = more likely a member. All of them use only the attacker's own coins
of the shadow models. A NaN of the audited model is the score; one of a shadow model raises ValueError.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dpaudit.errors import BadValue

Floats = NDArray[np.float64]


class ShadowSpan(Protocol):
    """The input of the signals. Log-probabilities are in nats; those of a text are means per token.

    `logprob` (tokens,): the span under the audited model. `shadow_logprob` (shadows,): the span under each
    shadow model; `shadow_in` (shadows,): whether that model learnt from it. `population` (texts, 1 +
    shadows): texts that no model learnt from, under the audited model (column 0) and each shadow model.
    """

    @property
    def logprob(self) -> NDArray[np.float32]: ...
    @property
    def shadow_logprob(self) -> Floats: ...
    @property
    def shadow_in(self) -> NDArray[np.bool_]: ...
    @property
    def population(self) -> Floats: ...


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution; with variance 0 it is the limit, all of it at the mean."""

    mean: float
    variance: float

    def log_density(self, x: float) -> float:
        if self.variance == 0:
            return math.inf if x == self.mean else -math.inf
        return -0.5 * (math.log(2 * math.pi * self.variance) + (x - self.mean) ** 2 / self.variance)

    def standardised(self, x: float) -> float:
        """(x - mean) / standard deviation; 0 at the mean whatever the variance."""
        if x == self.mean:
            return 0.0
        deviation = math.sqrt(self.variance)
        return (x - self.mean) / deviation if deviation > 0 else math.copysign(math.inf, x - self.mean)


@dataclass(frozen=True)
class LiraOnline:
    """log N(x; in) - log N(x; out) of the text's mean log-probability x: which kind of shadow model x fits.

    `variance` per_example gives either side the variance of its own shadow models; shared gives both the
    variance within sides, so that a score leans on all shadow models of the text, and rises with x where
    learning lifts the text. Infinite where a variance is 0 and x lies off the mean. Needs two shadow models
    on each side, or ValueError.
    Source: Carlini et al. 2022 (arXiv 2112.03570), algorithm 1; for few shadow models they fix the variance
    over all texts, where `shared` fixes it over the sides of one.
    """

    kind: ClassVar = "mia"
    evidence: ClassVar = "shadows"
    reference: ClassVar = "shadows"
    least_shadows: ClassVar = 4
    variance: Literal["per_example", "shared"]

    def __call__(self, span: ShadowSpan) -> float:
        inside, outside = _sides(span, least=2)
        x = _mean(span)
        if math.isnan(x):
            return x
        learnt, unlearnt = _fitted(inside), _fitted(outside)
        if self.variance == "shared":
            freedom = len(inside) - 1, len(outside) - 1
            variance = (freedom[0] * learnt.variance + freedom[1] * unlearnt.variance) / sum(freedom)
            learnt, unlearnt = Gaussian(learnt.mean, variance), Gaussian(unlearnt.mean, variance)
        return _log_ratio(x, learnt, unlearnt)


@dataclass(frozen=True)
class LiraOffline:
    """How many standard deviations x lies above its mean among shadow models that did not learn from the
    text.

    The probability of the source is the normal distribution function of this number, which rises with it and
    rounds to 1. Infinite where the variance is 0. Needs two such shadow models, or ValueError.
    Source: Carlini et al. 2022 (arXiv 2112.03570), equation 4.
    """

    kind: ClassVar = "mia"
    evidence: ClassVar = "shadows"
    reference: ClassVar = "shadows"
    least_shadows: ClassVar = 4

    def __call__(self, span: ShadowSpan) -> float:
        _, outside = _sides(span, least=0)
        if len(outside) < 2:
            raise ValueError(
                f"expected two shadow models that did not learn from the text, got {len(outside)}"
            )
        return _fitted(outside).standardised(_mean(span))


@dataclass(frozen=True)
class Rmia:
    """The share of population texts z with ratio(x) / ratio(z) >= gamma, in [0, 1].

    ratio = p(x | audited model) / p(x), with probabilities per token; p(x) is the mean over shadow models.
    online: over all of them, half of which learnt from the text. offline: over those that did not, p_out, of
    which ((1 + a) p_out + 1 - a) / 2 is made; a in [0, 1] says how far learning lifts a text. Scores have as
    many distinct values as there are population texts, and one; ties are left as they are.
    Source: Zarifzadeh et al. 2024 (arXiv 2312.03262), whose likelihood ratio, score and approximation of p(x)
    these are.
    """

    kind: ClassVar = "mia"
    evidence: ClassVar = "shadows"
    heldout: ClassVar = True
    reference: ClassVar = "shadows"
    least_shadows: ClassVar = 2
    gamma: float
    mode: Literal["online", "offline"]
    a: float | None = None  # offline only

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise BadValue("gamma", "a number above 0", f"{self.gamma:g}")
        if self.mode == "online" and self.a is not None:
            raise BadValue("a", "no value with mode online", self.a)
        if self.mode == "offline" and not (self.a is not None and 0 <= self.a <= 1):
            got = "no value" if self.a is None else self.a
            raise BadValue("a", "a number in [0, 1] for mode offline", got)

    def __call__(self, span: ShadowSpan) -> float:
        """Raises ValueError for an empty population, and without shadow models on both sides."""
        _, outside = _sides(span, least=1)
        known = _finite("population", span.population)
        if known.ndim != 2 or len(known) == 0 or known.shape[1] != 1 + len(span.shadow_logprob):
            raise ValueError(f"population must be (texts, 1 + shadows), got {known.shape}")
        x = _mean(span)
        if math.isnan(x):
            return x
        asked = span.shadow_logprob if self.mode == "online" else outside
        ratio = math.exp(x) / self._marginal(np.exp(asked))
        ratios = np.exp(known[:, 0]) / self._marginal(np.exp(known[:, 1:]))  # (texts,)
        return float(np.mean(ratio >= self.gamma * ratios))

    def _marginal(self, probabilities: Floats) -> Any:
        """p(x) of probabilities under shadow models, (..., shadows) to (...)."""
        mean = probabilities.mean(-1)
        return mean if self.a is None else ((1 + self.a) * mean + 1 - self.a) / 2


def _log_ratio(x: float, learnt: Gaussian, unlearnt: Gaussian) -> float:
    if learnt.variance == unlearnt.variance == 0:  # the limit of one small variance: the nearer mean wins
        nearer = abs(x - unlearnt.mean) - abs(x - learnt.mean)
        return math.copysign(math.inf, nearer) if nearer else 0.0
    return learnt.log_density(x) - unlearnt.log_density(x)


def _fitted(values: Floats) -> Gaussian:
    return Gaussian(float(values.mean()), float(values.var(ddof=1)))


def _sides(span: ShadowSpan, least: int) -> tuple[Floats, Floats]:
    """Log-probabilities under the shadow models that learnt from the text, and under the others; `least` of
    either.
    """
    values, learnt = _finite("shadow_logprob", span.shadow_logprob), span.shadow_in
    if values.ndim != 1 or values.shape != learnt.shape:
        raise ValueError(
            f"shadow_logprob and shadow_in must be (shadows,), got {values.shape} and {learnt.shape}"
        )
    inside, outside = values[learnt], values[~learnt]
    if min(len(inside), len(outside)) < least:
        raise ValueError(
            f"expected {least} shadow models on each side, got {len(inside)} that learnt from the text "
            f"and {len(outside)} that did not"
        )
    return inside, outside


def _mean(span: ShadowSpan) -> float:
    return float(np.mean(span.logprob, dtype=np.float64))


def _finite(name: str, values: Floats) -> Floats:
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} of {values.size} that are not")
    return values
