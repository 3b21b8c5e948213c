"""Log-probabilities of very many continuations of one prefix: shared beginnings go through the model once."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpaudit.signals.extraction import TokenTrie

CACHE_BYTES = 2**23  # one expanded key-value cache; a larger one only misses the processor's caches,
# unless the weights are far larger, which each pass reads once for all rows: then 1 / CACHE_SHARE of them,
CACHE_SHARE = 4
CACHE_MOST = 2**27  # at most


def logprobs(model: Any, prefix_ids: Sequence[int], trie: TokenTrie) -> NDArray[np.float64]:
    """log p(continuation | prefix) in nats for every sequence of the trie, shape (continuations,)."""
    node_logprobs = [np.zeros(len(tokens)) for tokens in trie.token]
    descent = _Descent(model, trie, node_logprobs, _cache_bytes(model))
    output = model(input_ids=descent.tensor([list(prefix_ids)]), use_cache=True)
    descent.below(0, np.zeros(1, np.int64), output.logits[:, -1], output.past_key_values)
    return trie.totals(node_logprobs)


@dataclass(frozen=True, eq=False)
class _Descent:
    """One walk down a trie. `node_logprobs` takes one array a level; a cache
    takes `most` bytes.
    """

    model: Any
    trie: TokenTrie
    node_logprobs: list[NDArray[np.float64]]
    most: int

    def tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=self.model.device)

    def below(self, level: int, parents: NDArray[np.int64], logits: Tensor, cache: Any) -> None:
        """Finds everything under `parents`, nodes of the level above as `TokenTrie.branching` gives them.

        `logits` (parents, vocabulary) and `cache` are theirs.
        """
        children = self.trie.children(level, parents)
        rows = np.searchsorted(parents, self.trie.parent[level][children])
        tokens = self.trie.token[level][children]
        at = _log_softmax_at(logits, self.tensor(rows), self.tensor(tokens))
        self.node_logprobs[level][children] = at.cpu().numpy()
        for run in self.trie.branching(level, children, _rows_that_fit(cache, self.most)):
            place = run - children[0]
            branch = selected(cache, self.tensor(rows[place]))
            output = self.model(
                input_ids=self.tensor(tokens[place])[:, None], past_key_values=branch, use_cache=True
            )
            self.below(level + 1, run, output.logits[:, -1], output.past_key_values)


def _cache_bytes(model: Any) -> int:
    """Bytes of one key-value cache over many continuations. A few such caches are alive at once."""
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return min(max(CACHE_BYTES, int(weights) // CACHE_SHARE), CACHE_MOST)


def _log_softmax_at(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """log p(token) under the row's distribution, shape (tokens,)."""
    normaliser = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, 256)])
    return logits[rows, tokens].float() - normaliser[rows]


def selected(cache: Any, rows: Tensor) -> Any:
    """A new cache with the given rows; the old cache stays valid, since tensors are replaced and never
    written.
    """
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in branch.layers:  # cache.batch_select_indices is four times slower
        layer.keys, layer.values = (
            part.expand(len(rows), *part.shape[1:]) if len(part) == 1 else part.index_select(0, rows)
            for part in (layer.keys, layer.values)
        )
    return branch


def _rows_that_fit(cache: Any, most: int) -> int:
    """How many rows of this cache, one token longer, fit into `most` bytes."""
    parts = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    row = sum(part[0].numel() * part.element_size() for part in parts)
    return int(max(1, most // (row + row // cache.get_seq_length())))
