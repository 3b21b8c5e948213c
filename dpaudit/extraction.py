"""How well a model has memorised a secret: its exact rank among all secrets that might have been drawn."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpaudit.canary import Canary

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ExactRank:
    """The secret's rank among all secrets of its space, its exposure, and whether greedy decoding writes it."""


MEASURES: dict[str, type[Any]] = {
    "exact_rank": ExactRank
}  # what recipes of kind `extract` name as their signal


def rank(candidate_scores: ArrayLike, secret_index: int) -> int:
    """The secret's rank from 1, where a higher score is more probable; a tie counts against the attacker.

    `candidate_scores` has shape (space,). Raises ValueError for NaN or an index outside the space.
    """
    scores = np.asarray(candidate_scores, dtype=np.float64)
    if scores.ndim != 1 or not 0 <= secret_index < scores.size:
        raise ValueError(f"expected an index into the scores, got {secret_index} of shape {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"expected scores without NaN, got {int(np.isnan(scores).sum())} of {scores.size}")
    return int(np.sum(scores >= scores[secret_index]))


def exposure(candidate_scores: ArrayLike, secret_index: int) -> float:
    """The secret's exposure in bits: log2(space) where it ranks first, 0.0 where it ranks last.

    A secret drawn uniformly and never seen has a uniform rank, whatever the model thinks of the candidates, so
    P[exposure >= x] <= 2^-x. Arguments and errors are those of `rank`.

    Source: Carlini et al. 2019 (arXiv 1802.08232), definition 5: log2 |R| - log2 rank.
    """
    place = rank(candidate_scores, secret_index)
    return float(np.log2(np.size(candidate_scores)) - np.log2(place))


def candidate_secrets(canary: Canary) -> list[str]:
    """Every secret of the canary's space, in the order of its alphabet, the last symbol changing fastest."""
    return list(map(canary.separator.join, itertools.product(canary.alphabet, repeat=canary.length)))


class TokenTrie:
    """The distinct prefixes of token sequences, level by level, so that what begins alike is scored once.

    The nodes of a level are numbered in the order of their parents. Sequences hold at least one token each and
    may be prefixes of one another. The structure never changes; scores live outside of it.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        if not sequences or not all(len(sequence) for sequence in sequences):
            raise ValueError("expected sequences of at least one token each")
        self.lengths = np.array([len(sequence) for sequence in sequences])
        table = np.array(
            list(itertools.zip_longest(*sequences, fillvalue=0)), dtype=np.int64
        )  # (depth, sequences)
        self.parent: list[Ints] = []  # per level: (nodes,), numbers of the level above
        self.token: list[Ints] = []  # per level: (nodes,)
        self.node: list[
            Ints
        ] = []  # per level: (sequences,), the node that a sequence passes, -1 behind its end
        passed, width = np.zeros(len(sequences), np.int64), int(table.max()) + 1
        for level, tokens in enumerate(table):
            alive = self.lengths > level
            keys, inverse = np.unique(passed[alive] * width + tokens[alive], return_inverse=True)
            self.parent.append(keys // width)
            self.token.append(keys % width)
            passed = np.full(len(sequences), -1, np.int64)
            passed[alive] = inverse
            self.node.append(passed)

    @property
    def depth(self) -> int:
        return len(self.token)

    def children(self, level: int, parents: Ints) -> Ints:
        """The nodes of `level` under a run of consecutive nodes of the level above."""
        start, stop = np.searchsorted(self.parent[level], [parents[0], parents[-1] + 1])
        return np.arange(start, stop)

    def branching(self, level: int, nodes: Ints, size: int) -> Iterator[Ints]:
        """The `nodes` of a level that have children, in runs of consecutive numbers of at most `size`."""
        if level + 1 >= self.depth or not len(nodes):
            return
        inner = nodes[np.isin(nodes, self.parent[level + 1])]
        for run in np.split(inner, np.flatnonzero(np.diff(inner) != 1) + 1):
            for start in range(0, len(run), size):
                yield run[start : start + size]

    def totals(self, node_logprobs: Sequence[Floats]) -> Floats:
        """The sum of log-probabilities along each sequence, shape (sequences,), from those of each level's nodes."""
        total, above = np.zeros(len(self.lengths)), np.zeros(1)
        for level, nodes in enumerate(self.node):
            above = above[self.parent[level]] + node_logprobs[level]
            ends = self.lengths == level + 1
            total[ends] = above[nodes[ends]]
        return total
