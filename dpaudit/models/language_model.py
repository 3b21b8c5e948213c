"""Language models behind one small protocol: what an attack, a benchmark or a judge may ask of a model."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dpaudit.data.corpus import Turn
from dpaudit.models.encode import Encoded
from dpaudit.signals.extraction import TokenTrie

Advance = Callable[[int], None]  # called with the number of sequences done; drives a progress bar


@dataclass(frozen=True, eq=False)
class TokenScores:
    """A model's scores of one sequence, in nats, one entry a token; NaN (False) at the first, which nothing
    predicts, and wherever a token was not counted.

    Greedy decoding of what stands before a run of tokens gives that run exactly where `greedy` is true for
    all of it. `mean` and `std` are those of the log-probability under the model's own distribution at that
    position: E_p[log p] and sqrt(Var_p[log p]) (Zhang et al. 2024, arXiv 2404.02936, eq. 3).
    """

    logprob: NDArray[np.float32]  # (tokens,), of the token that stands there
    mean: NDArray[np.float32]  # (tokens,)
    std: NDArray[np.float32]  # (tokens,)
    greedy: NDArray[np.bool_]  # (tokens,), whether the token that stands there is the most probable one


class LanguageModel(Protocol):
    """A causal language model with named adapters on one loaded base."""

    def token_scores(
        self,
        encoded: Sequence[Encoded],
        advance: Advance | None = None,
        counted: Sequence[NDArray[np.bool_]] | None = None,
    ) -> list[TokenScores]: ...

    def sequence_logprobs(
        self, prefix_ids: Sequence[int], continuations: TokenTrie | Sequence[Sequence[int]]
    ) -> NDArray[np.float64]: ...

    def generate(
        self, prompts: Sequence[tuple[Turn, ...]], max_new_tokens: int, advance: Advance | None = None
    ) -> list[str]: ...

    def active(self, adapter: str | None) -> AbstractContextManager[None]: ...
