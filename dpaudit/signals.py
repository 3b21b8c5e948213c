"""Membership signals: pure functions of what a model says of the tokens in question. Higher = more likely a member.

A signal is a small frozen class: its fields are the recipe's `parameters`, calling it on a `Span` gives the score.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dpaudit.shadow import LiraOffline, LiraOnline, Rmia

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Span:
    """The tokens that a score looks at: a canary's secret, or the answers of a record. At least one token.

    All arrays have shape (tokens,), in nats. `mean` and `std` are those of the log-probability under the
    model's own distribution; `base_logprob` is the base model's (adapter off).
    """

    logprob: Floats
    mean: Floats
    std: Floats
    base_logprob: Floats
    text: str  # what the tokens spell


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
    reduce: Literal["mean", "sum"] = "mean"

    def __call__(self, span: Span) -> float:
        return _reduced(span.logprob - span.base_logprob, self.reduce)


@dataclass(frozen=True)
class MinKPlusPlus:
    """The mean of the lowest share `k` of standardised log-probabilities, (log p - mean) / std.

    A token whose distribution has no spread counts 0 where it is the certain one and -inf elsewhere.
    Source: Zhang et al. 2024 (arXiv 2404.02936), equation 3; at least one token is taken.
    """

    kind: ClassVar = "mia"
    k: float

    def __post_init__(self) -> None:
        if not 0 < self.k <= 1:
            raise ValueError(f"k must be in (0, 1], got {self.k:g}{' (percent?)' if self.k > 1 else ''}")

    def __call__(self, span: Span) -> float:
        distance = span.logprob.astype(np.float64) - span.mean
        certain = np.where(distance < 0, -np.inf, 0.0)
        standardised = np.divide(distance, span.std, out=certain, where=span.std > 0)
        lowest = np.sort(standardised)[: max(1, math.floor(self.k * standardised.size))]
        return float(lowest.mean())


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


Signal = Callable[[Span], float]

SIGNALS: dict[str, type[Any]] = {
    "loss": Loss,
    "calibrated": Calibrated,
    "min_k_pp": MinKPlusPlus,
    "zlib": Zlib,
    "lira_online": LiraOnline,
    "lira_offline": LiraOffline,
    "rmia": Rmia,
}


def _reduced(values: Floats, reduce: str) -> float:
    total = float(np.sum(values, dtype=np.float64))
    return total / values.size if reduce == "mean" else total
