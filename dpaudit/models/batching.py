"""Rows of tokens in batches that fit into memory, padded."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH_TOKENS = 8192  # tokens in one forward pass, padding included
LOGIT_ELEMENTS = 2**26  # tokens x vocabulary of one forward pass: 256 MB in float32
HIDDEN_ELEMENTS = 2**18  # tokens x width of the hidden states of one forward pass on a processor


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices by falling length (the largest batch comes first), at most `tokens` in a batch with its
    padding.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def batch_tokens(model: Any) -> int:
    """Tokens of a batch whose logits are all kept."""
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    return max(1, min(BATCH_TOKENS, LOGIT_ELEMENTS // vocabulary))


def hidden_tokens(model: Any) -> int:
    """Tokens of a batch whose hidden states alone are kept. A processor is fastest while they stay in its
    caches.
    """
    if model.device.type != "cpu":
        return BATCH_TOKENS
    width = int(model.get_output_embeddings().weight.shape[1])
    return min(BATCH_TOKENS, max(256, HIDDEN_ELEMENTS // width))


def padded(
    rows: Sequence[Sequence[int] | NDArray[np.int64]], pad: int | None, device: Any, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of rows, padded to the longest; both (rows, tokens)."""
    lengths = np.array([len(row) for row in rows])[:, None]
    column = np.arange(lengths.max())[None, :]
    is_token = column >= lengths.max() - lengths if left else column < lengths
    ids = np.full(is_token.shape, pad or 0, np.int64)
    ids[is_token] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    mask = is_token.astype(np.int64)
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
