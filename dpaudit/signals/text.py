"""Membership signals: pure functions of a model's scores of the counted tokens. Higher = more likely a
member.

A signal is a small frozen class: its fields are the recipe's `parameters`, calling it on a `Span` gives the
score.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpaudit.errors import BadValue
from dpaudit.signals.shadow import LiraOffline, LiraOnline, Rmia

T = TypeVar("T")
Floats = NDArray[np.float32]
TINY = 1e-9  # nats a token: a text that the model is certain of


@dataclass(frozen=True, eq=False)
class Span:
    """The tokens that a score looks at: a canary's secret, or the answers of a record. At least one token.

    Arrays of shape (tokens,) are in nats. `mean` and `std` are those of the log-probability under the model's
    own distribution; `base_logprob` is the reference model's (of most recipes the base, adapter off). The
    fields below them are set only for signals that name them as their `evidence`.
    """

    logprob: Floats
    mean: Floats
    std: Floats
    base_logprob: Floats
    text: str  # what the tokens spell
    greedy: NDArray[np.bool_] | None = None  # (tokens,), whether the token is the most probable one
    lowercase: float | None = None  # mean log-probability of the same text in lower case, nats a token
    prefixed: float | None = None  # of the same tokens behind other people's records
    neighbours: NDArray[np.float64] | None = None  # (neighbours,), of perturbed copies of the text
    gradient_norm: float | None = None  # of the mean loss with respect to the adapter's weights
    shadow_logprob: NDArray[np.float64] | None = None  # (shadows,), of the same tokens
    shadow_in: NDArray[np.bool_] | None = None  # (shadows,), whether the shadow was trained on it
    population: NDArray[np.float64] | None = (
        None  # (texts, 1 + shadows), of held-out records; the arm's own first
    )


@dataclass(frozen=True)
class Loss:
    """The log-probability of the tokens (Yeom et al. 2018, arXiv 1709.01604, section 3)."""

    kind: ClassVar = "mia"
    reduce: Literal["mean", "sum"] = "mean"

    def __call__(self, span: Span) -> float:
        return _reduced(span.logprob, self.reduce)


@dataclass(frozen=True)
class Calibrated:
    """The log-probability less the base model's: what fine-tuning changed.

    Source: Watson et al. 2022 (arXiv 2111.08440), equation 2, with the base model as reference.
    """

    kind: ClassVar = "mia"
    reference: ClassVar = "model"
    reduce: Literal["mean", "sum"] = "mean"

    def __call__(self, span: Span) -> float:
        return _reduced(span.logprob - span.base_logprob, self.reduce)


@dataclass(frozen=True)
class MinKPlusPlus:
    """The mean of the lowest share `k` of standardised log-probabilities, (log p - mean) / std.

    Where a distribution has no spread, its certain token counts 0 and every other -inf. Source: Zhang et al.
    2024 (arXiv 2404.02936), equation 3; at least one token is taken.
    """

    kind: ClassVar = "mia"
    access: ClassVar = "distribution"  # its mean and deviation
    k: float

    def __post_init__(self) -> None:
        _check_share("k", self.k)

    def __call__(self, span: Span) -> float:
        distance = span.logprob.astype(np.float64) - span.mean
        certain = np.where(distance < 0, -np.inf, 0.0)
        standardised = np.divide(distance, span.std, out=certain, where=span.std > 0)
        lowest = np.sort(standardised)[: max(1, math.floor(self.k * standardised.size))]
        return float(lowest.mean())


@dataclass(frozen=True)
class MinK:
    """The mean of the lowest share `k` of log-probabilities; at least one token is taken.

    Source: Shi et al. 2023 (arXiv 2310.16789), equation 1, with the sign that makes members higher.
    """

    kind: ClassVar = "mia"
    k: float

    def __post_init__(self) -> None:
        _check_share("k", self.k)

    def __call__(self, span: Span) -> float:
        lowest = np.sort(span.logprob)[: max(1, math.floor(self.k * span.logprob.size))]
        return float(lowest.mean(dtype=np.float64))


@dataclass(frozen=True)
class Zlib:
    """The log-probability over the bits that zlib needs for the same text.

    Source: Carlini et al. 2021 (arXiv 2012.07805), section 5.2: log-perplexity against zlib entropy.
    """

    kind: ClassVar = "mia"
    reduce: Literal["mean", "sum"] = "mean"

    def __call__(self, span: Span) -> float:
        bits = 8 * len(zlib.compress(span.text.encode()))
        return _reduced(span.logprob, self.reduce) / bits


@dataclass(frozen=True)
class Lowercase:
    """The mean log-probability over that of the same text in lower case, as a difference: log of the ratio.

    Source: Carlini et al. 2021 (arXiv 2012.07805), section 5.2.
    """

    kind: ClassVar = "mia"
    evidence: ClassVar = "lowercase"

    def __call__(self, span: Span) -> float:
        return _mean(span) - _given(span.lowercase)


@dataclass(frozen=True)
class Recall:
    """How much `shots` of other people's records before it lower the text's probability: LL(x | prefix) /
    LL(x).

    Both are mean log-probabilities below 0, so a member, which a prefix can only disturb, has the higher
    ratio.
    Source: Xie et al. 2024, ReCaLL (arXiv 2406.15968), equation 1.
    """

    kind: ClassVar = "mia"
    evidence: ClassVar = "prefixed"
    heldout: ClassVar = True  # without such records every text gets the same score
    shots: int

    def __post_init__(self) -> None:
        _check_count("shots", self.shots, 64)

    def __call__(self, span: Span) -> float:
        return _given(span.prefixed) / min(_mean(span), -TINY)


@dataclass(frozen=True)
class Neighbourhood:
    """The mean log-probability less that of `neighbours` copies with a `share` of their words exchanged.

    Words are drawn from the candidates' own, or from the secret's alphabet: no other model is asked.
    Source: Mattern et al. 2023 (arXiv 2305.18462), equation 3, with the sign that makes members higher.
    """

    kind: ClassVar = "mia"
    evidence: ClassVar = "neighbours"
    neighbours: int
    share: float

    def __post_init__(self) -> None:
        _check_count("neighbours", self.neighbours, 1000)
        _check_share("share", self.share)

    def __call__(self, span: Span) -> float:
        return _mean(span) - float(np.mean(_given(span.neighbours)))


@dataclass(frozen=True)
class GradientNorm:
    """Minus the length of the loss's gradient over the adapter's weights: a learnt text has a small gradient.

    Source: Nasr, Shokri, Houmansadr 2019 (arXiv 1812.00910), section III, by the norm alone.
    """

    kind: ClassVar = "mia"
    access: ClassVar = "weights"
    evidence: ClassVar = "gradient_norm"

    def __call__(self, span: Span) -> float:
        return -_given(span.gradient_norm)


@dataclass(frozen=True)
class ErrorZone:
    """Where the model's first choice is another token: the share of the shifts from the reference that go up,
    in [0, 1].

    P / (P + N), which ranks as the paper's P / N; 1 where no token is wrong or none went down (its appendix
    E.5, E.6).
    Source: Ilić, Stanojević, Cvejoski 2026, EZ-MIA (arXiv 2601.12104).
    """

    kind: ClassVar = "mia"
    access: ClassVar = "distribution"  # its likeliest token
    reference: ClassVar = "model"

    def __call__(self, span: Span) -> float:
        wrong = ~_given(span.greedy)
        shift = (span.logprob.astype(np.float64) - span.base_logprob)[wrong]
        up, down = float(shift[shift > 0].sum()), float(-shift[shift < 0].sum())
        return up / (up + down) if down > 0 else 1.0


@dataclass(frozen=True)
class WindowComparison:
    """The share of sliding windows in which the model finds the text more probable than the reference, in [0,
    1].

    Windows of `sizes` geometric steps from `least` to `most` tokens, none longer than the span; the mean over
    sizes.
    Source: Chen et al. 2026, WBC (arXiv 2601.02751), section 4.1, equations 12 and 13.
    """

    kind: ClassVar = "mia"
    reference: ClassVar = "model"
    least: int = 2
    most: int = 40
    sizes: int = 10

    def __post_init__(self) -> None:
        _check_count("least", self.least, 10_000)
        _check_count("sizes", self.sizes, 1000)
        if self.most > 10**6:
            raise BadValue("most", "at most 1,000,000 tokens", "a larger number")
        if self.most < self.least:
            raise BadValue("most", f"at least the value of least ({self.least})", self.most)

    def __call__(self, span: Span) -> float:
        total = np.concatenate([[0.0], np.cumsum(span.logprob.astype(np.float64) - span.base_logprob)])
        widths = [min(width, span.logprob.size) for width in self.widths]
        votes = [np.count_nonzero(total[w:] - total[:-w] > 0) / (total.size - w) for w in widths]
        return float(np.mean(votes))

    @cached_property
    def widths(self) -> tuple[int, ...]:
        steps = np.linspace(0, 1, self.sizes) if self.sizes > 1 else np.zeros(1)
        return tuple(np.round(self.least * (self.most / self.least) ** steps).astype(int).tolist())


@dataclass(frozen=True, eq=False)
class PairSpan:
    """A preference pair's two answers. The `base_logprob` of either is the reference's: the model that
    training started from.
    """

    chosen: Span
    rejected: Span


@dataclass(frozen=True)
class PairChosen:
    """How much more probable than the reference the model finds the chosen answer; nats.

    Source: Feng et al. 2024, PREMIA (arXiv 2407.06443): the ratio of policy to reference for one answer.
    """

    kind: ClassVar = "preference"
    reference: ClassVar = "model"
    reduce: Literal["mean", "sum"] = "sum"

    def __call__(self, pair: PairSpan) -> float:
        return _shift(pair.chosen, self.reduce)


@dataclass(frozen=True)
class PairRejected:
    """How much less probable than the reference the model finds the rejected answer; nats.

    Preference training pushes it down, so a member's is lower and this is higher. Source: as PairChosen.
    """

    kind: ClassVar = "preference"
    reference: ClassVar = "model"
    reduce: Literal["mean", "sum"] = "sum"

    def __call__(self, pair: PairSpan) -> float:
        return -_shift(pair.rejected, self.reduce)


@dataclass(frozen=True)
class PairMargin:
    """The chosen answer's shift from the reference less the rejected one's: what the loss widens; nats.

    Over beta it is the implicit reward margin of Rafailov et al. 2023 (arXiv 2305.18290), section 5.
    Source: Feng et al. 2024, PREMIA (arXiv 2407.06443): the contrast of both answers of a pair.
    """

    kind: ClassVar = "preference"
    reference: ClassVar = "model"
    reduce: Literal["mean", "sum"] = "sum"

    def __call__(self, pair: PairSpan) -> float:
        return _shift(pair.chosen, self.reduce) - _shift(pair.rejected, self.reduce)


@dataclass(frozen=True)
class Combination:
    """A logistic regression over the scores of other `recipes`, fitted on a `share` of the examples and their
    coins.

    It is fitted in stage audit, and those examples leave every count. `penalty` is that of the squared
    weights of standardised scores, each clipped to its middle 98 %.
    """

    kind: ClassVar = "mia"
    recipes: tuple[str, ...]
    share: float = 0.5
    penalty: float = 100.0

    def __post_init__(self) -> None:
        if len(set(self.recipes)) != len(self.recipes) or len(self.recipes) < 2:
            got = ", ".join(self.recipes) or "an empty list"
            raise BadValue("recipes", "two or more different recipes", got)
        if not 0.1 <= self.share <= 0.9:
            raise BadValue("share", "a number in [0.1, 0.9]", f"{self.share:g}")
        if not 1e-6 <= self.penalty <= 1e6:
            raise BadValue("penalty", "a number in [1e-6, 1e6]", f"{self.penalty:g}")


Signal = Callable[[Span], float]

SIGNALS: dict[str, type[Any]] = {
    "loss": Loss,
    "calibrated": Calibrated,
    "min_k_pp": MinKPlusPlus,
    "zlib": Zlib,
    "min_k": MinK,
    "lowercase": Lowercase,
    "recall": Recall,
    "neighbourhood": Neighbourhood,
    "gradient_norm": GradientNorm,
    "error_zone": ErrorZone,
    "window_comparison": WindowComparison,
    "combination": Combination,
    "pair_chosen": PairChosen,
    "pair_rejected": PairRejected,
    "pair_margin": PairMargin,
    "lira_online": LiraOnline,
    "lira_offline": LiraOffline,
    "rmia": Rmia,
}


def _reduced(values: Floats, reduce: str) -> float:
    total = float(values.sum(dtype=np.float64))
    return total / values.size if reduce == "mean" else total


def _shift(span: Span, reduce: str) -> float:
    return _reduced(span.logprob - span.base_logprob, reduce)


def _mean(span: Span) -> float:
    return float(span.logprob.sum(dtype=np.float64)) / span.logprob.size


def _given(value: T | None) -> T:
    if value is None:
        raise ValueError("expected the evidence that the signal names, got no evidence")
    return value


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise BadValue(
            name,
            "a number in (0, 1]",
            f"{value:g}",
            "a share, not percent?" if value > 1 else "",
        )


def _check_count(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        got = value if value < 10**9 else "a larger number"
        raise BadValue(name, f"a whole number from 1 to {most}", got)
