"""How well a model has memorised a secret: its rank among all secrets of its space, and how often sampling
writes it.
"""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpaudit.data import pii
from dpaudit.data.canary import Canary
from dpaudit.errors import BadValue

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


LEAST_MASS = -1022.0  # log2 of the smallest mass that a figure may rest on, where the space has no size


@dataclass(frozen=True)
class ExactRank:
    """The secret's rank among all secrets of its space, its exposure, and whether greedy decoding writes it.

    The space is ranked whole up to `exact_up_to` secrets; of a larger one `samples` others are drawn and the
    exposure is extrapolated.
    """

    exact_up_to: int = 100_000
    samples: int = 2_000

    def __post_init__(self) -> None:
        if self.exact_up_to < 1:
            raise BadValue("exact_up_to", "at least 1", self.exact_up_to)
        if not 100 <= self.samples <= 10**6:
            raise BadValue(
                "samples",
                "a whole number from 100 to 1,000,000",
                self.samples if self.samples < 10**9 else "a larger number",
            )


@dataclass(frozen=True)
class Discoverable:
    """The probability that sampling once writes the secret, and the chances over `queries` attempts.

    A secret is (n, p)-discoverable where n attempts write it at least once with probability p or more (Hayes
    et al. 2024, arXiv 2410.19482, definition 2). `top_k` 0 and `top_p` 1 leave all tokens in.
    """

    access: ClassVar = "distribution"  # needed for top_k, top_p and temperature
    temperature: float
    top_k: int
    top_p: float
    queries: tuple[int, ...]
    p: float

    def __post_init__(self) -> None:
        if not 1e-3 <= self.temperature < math.inf:
            raise BadValue(
                "temperature",
                "a number of 0.001 or more",
                f"{self.temperature:g}",
                "0 is greedy decoding: attacks/extraction.yaml",
            )
        if self.top_k < 0:
            raise BadValue("top_k", "at least 0 (0: all tokens)", self.top_k)
        if not 0 < self.top_p <= 1:
            raise BadValue("top_p", "a number in (0, 1]", f"{self.top_p:g}")
        if not self.queries or min(self.queries) < 1 or list(self.queries) != sorted(set(self.queries)):
            raise BadValue("queries", "increasing numbers from 1", f"{list(self.queries)!s:.40}")
        if max(self.queries) > 10**18:
            raise BadValue("queries", "numbers up to 10**18", "a larger number")
        if not 0 < self.p < 1:
            raise BadValue("p", "a number between 0 and 1", f"{self.p:g}")


@dataclass(frozen=True)
class PiiFields:
    """Personal fields of real records: whether greedy decoding completes a field from the text before it."""

    fields: tuple[str, ...]  # keys of pii.PATTERNS

    def __post_init__(self) -> None:
        unknown = [name for name in self.fields if name not in pii.PATTERNS]
        if unknown or not self.fields:
            raise BadValue(
                "fields",
                f"some of {', '.join(pii.PATTERNS)}",
                f"{', '.join(unknown) or 'an empty list':.60}",
            )


MEASURES: dict[str, type[Any]] = {
    "exact_rank": ExactRank,
    "discoverable": Discoverable,
    "pii_fields": PiiFields,
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

    A secret drawn uniformly and never seen has a uniform rank, whatever the model thinks of the candidates,
    so P[exposure >= x] <= 2^-x. Arguments and errors are those of `rank`.

    Source: Carlini et al. 2019 (arXiv 1802.08232), definition 5: log2 |R| - log2 rank.
    """
    place = rank(candidate_scores, secret_index)
    return float(np.log2(np.size(candidate_scores)) - np.log2(place))


@dataclass(frozen=True)
class Extrapolated:
    """An exposure that rests on a fitted distribution and not on a rank."""

    exposure: float  # bits
    sample_rank: int  # the secret's rank from 1 among itself and the sample
    capped: bool  # the fit gave more bits than the space has

    @property
    def beyond_samples(self) -> bool:
        """Whether the secret is more probable than every sample: the figure then rests on the fit's tail
        alone.
        """
        return self.sample_rank == 1


def exposure_extrapolated(
    sample_logprobs: ArrayLike, secret_logprob: float, space: int | None
) -> Extrapolated:
    """The exposure of a secret whose space is too large to rank, from a sample of the other secrets.

    `sample_logprobs` has shape (samples,), in nats. The mass of secrets at least as probable is that of a
    skew-normal distribution fitted to their negative log-probabilities; it is taken to be no less than one in
    `space`, or 2^-1022 for None. Where the fit holds, P[exposure >= x] is about 2^-x for a secret that was
    never seen. Raises ValueError where a value is not finite or there are fewer than ten.

    Source: Carlini et al. 2019 (arXiv 1802.08232), section 4.3.
    """
    from dpaudit.stats import skewed

    losses = -np.asarray(sample_logprobs, dtype=np.float64)
    if not np.isfinite(secret_logprob):
        raise ValueError(f"expected a finite log-probability, got {secret_logprob}")
    place = 1 + int(np.sum(losses <= -secret_logprob))  # a tie counts against the attacker
    if losses.size and np.ptp(losses) == 0:
        mass = 0.0 if place > 1 else -math.inf
    else:
        mass = skewed.fit(losses).log2_mass_at_most(-secret_logprob)
    least = LEAST_MASS if space is None else -math.log2(space)
    return Extrapolated(-max(mass, least), place, mass < least)


def np_extraction_probability(sequence_probability: float, queries: float) -> float:
    """The probability in [0, 1] that at least one of `queries` independent attempts writes the sequence.

    `sequence_probability` is that of one attempt. Raises ValueError unless it is in [0, 1] and `queries` at
    least 0.

    Source: Hayes et al. 2024 (arXiv 2410.19482), equation 1: 1 - (1 - p)^n.
    """
    _check_probability("sequence_probability", sequence_probability)
    if not queries >= 0:
        raise ValueError(f"queries must be at least 0, got {queries}")
    if queries == 0 or sequence_probability in (0, 1):
        return float(sequence_probability) if queries else 0.0
    return -math.expm1(queries * math.log1p(-sequence_probability))


def queries_needed(sequence_probability: float, p: float) -> float:
    """The fewest attempts that write the sequence at least once with probability `p`: a whole number, or inf.

    The inverse of `np_extraction_probability` in its second argument. Raises ValueError for a number outside
    [0, 1].
    """
    _check_probability("sequence_probability", sequence_probability)
    _check_probability("p", p)
    if p <= sequence_probability:
        return 0.0 if p == 0 else 1.0
    if sequence_probability == 0 or p == 1:
        return math.inf
    attempts = math.ceil(math.log1p(-p) / math.log1p(-sequence_probability))
    # the quotient is rounded: one attempt more or fewer may be right
    return float(
        next(
            n
            for n in (attempts - 1, attempts, attempts + 1)
            if np_extraction_probability(sequence_probability, n) >= p or n > attempts
        )
    )


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def candidate_secrets(canary: Canary) -> list[str]:
    """Every secret of the canary's space, in the order of its alphabet, the last symbol changing fastest."""
    groups = [canary.group] * (canary.length // canary.group) + [canary.length % canary.group]
    words = [list(map("".join, itertools.product(canary.alphabet, repeat=size))) for size in groups if size]
    return list(map(canary.separator.join, itertools.product(*words)))


def other_secrets(canary: Canary, count: int, rng: random.Random) -> list[str]:
    """`count` secrets drawn as the canary's own was, with repetition, none of them its own."""
    drawn = (canary.sample(rng) for _ in itertools.count())
    return list(itertools.islice((secret for secret in drawn if secret != canary.secret), count))


class TokenTrie:
    """The distinct prefixes of token sequences, level by level, so that shared beginnings are scored once.

    The nodes of a level are numbered in the order of their parents. Sequences hold at least one token each
    and may be prefixes of one another. The structure never changes; scores live outside of it.
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
        """The nodes of `level` under some of the level above, in rising order, between which are none with
        children.
        """
        start, stop = np.searchsorted(self.parent[level], [parents[0], parents[-1] + 1])
        return np.arange(start, stop)

    def branching(self, level: int, nodes: Ints, size: int) -> Iterator[Ints]:
        """The `nodes` of a level that have children, in order, at most `size` at a time."""
        if level + 1 >= self.depth or not len(nodes):
            return
        inner = nodes[np.isin(nodes, self.parent[level + 1])]
        for start in range(0, len(inner), size):
            yield inner[start : start + size]

    def totals(self, node_logprobs: Sequence[Floats]) -> Floats:
        """The sum of log-probabilities along each sequence, shape (sequences,), from those of each level's
        nodes.
        """
        total, above = np.zeros(len(self.lengths)), np.zeros(1)
        for level, nodes in enumerate(self.node):
            above = above[self.parent[level]] + node_logprobs[level]
            ends = self.lengths == level + 1
            total[ends] = above[nodes[ends]]
        return total
