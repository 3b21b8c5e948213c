"""A model's scores of counted tokens: its backbone runs on whole sequences, its head on counted positions
only.

The head is by far the widest layer of a small model, and its output the largest array there is. It is applied
to the counted positions alone, a chunk at a time that stays in the processor's caches, and reduced at once.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpaudit.models.encode import Encoded

CHUNK_ELEMENTS = 2**21  # tokens x vocabulary of one chunk of logits
SORTED_FIRST = 1024  # tokens by falling probability that nearly always hold a nucleus
CACHED_ELEMENTS = 2**18  # of them, as many as stay in one core's own cache
NEGLIGIBLE = -80.0  # nats below the most probable token; below -87 exp leaves the fast numbers of float32

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]
Statistic = Callable[[Tensor, Tensor], Tensor]  # logits (n, vocabulary) float32 and tokens (n,) to (n, ...)


@dataclass(frozen=True, eq=False)
class Split:
    """A model as the module that gives hidden states and the one that makes logits of them."""

    backbone: Any
    head: Any


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences padded on the right, and the counted tokens of all of them, row by row.

    `cache` holds keys and values of a prefix of every row, if there is one.
    """

    ids: Tensor  # (rows, tokens)
    mask: Tensor  # (rows, tokens), 1 on tokens and 0 on padding
    row: Tensor  # (counted,)
    before: Tensor  # (counted,), the place whose logits predict the counted token
    token: Tensor  # (counted,)
    cache: Any = None


def places(encoded: Sequence[Encoded], counted: Sequence[Mask] | None) -> list[Places]:
    """Where the counted tokens of each sequence stand; all but the first for None.

    Raises ValueError for masks that are not one a sequence and one flag a token, or that count a first token,
    which nothing predicts.
    """
    if counted is None:
        return [np.arange(1, len(item.input_ids)) for item in encoded]
    if len(counted) != len(encoded):
        raise ValueError(f"expected one mask a sequence, got {len(counted)} for {len(encoded)}")
    for item, flags in zip(encoded, counted, strict=True):
        if len(flags) != len(item.input_ids):
            raise ValueError(f"expected one flag a token, got {len(flags)} for {len(item.input_ids)}")
        if len(flags) and flags[0]:
            raise ValueError("expected a mask without the first token, which nothing predicts (counted_mask)")
    return [np.flatnonzero(flags) for flags in counted]


def split(model: Any) -> Split | None:
    """The backbone and the head of a model, or None where its logits are not the head's output on hidden
    states.

    Tested on two short rows: the head must receive what the backbone returns when it is called alone, with
    padding on the right and no mask, and the head's output, made large, must equal the logits. Models with
    capped or scaled logits (Gemma 2, Cohere, Granite), with virtual tokens, or in which padding on the right
    reaches earlier tokens fail this test, and their own logits are used.
    """
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        return None
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    backbone, head = getattr(base, base.base_model_prefix, None), base.get_output_embeddings()
    if backbone is None or head is None:
        return None
    parts = Split(backbone, head)
    return parts if _is_whole(model, parts) else None


@torch.no_grad()
def _is_whole(model: Any, parts: Split) -> bool:
    vocabulary = int(parts.head.weight.shape[0])
    ids = torch.arange(1, 9, device=model.device).view(2, 4) % vocabulary
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], device=model.device)
    seen: list[Tensor] = []

    def enlarged(_: Any, given: tuple[Tensor], output: Tensor) -> Tensor:
        seen.extend((given[0], output * 64))
        return seen[1]

    hook = parts.head.register_forward_hook(enlarged)
    try:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    finally:
        hook.remove()
    hidden = getattr(parts.backbone(input_ids=ids, use_cache=False), "last_hidden_state", None)
    if hidden is None or len(seen) != 2 or seen[0].shape != hidden.shape or seen[1].shape != logits.shape:
        return False
    real = mask.bool()
    given, alone = seen[0][real].float(), hidden[real].float()  # (tokens, width)
    apart = (given - alone).norm(dim=-1) / given.norm(dim=-1)
    is_same = bool((apart < (1e-4 if hidden.dtype == torch.float32 else 0.05)).all())
    return is_same and torch.equal(seen[1].float(), logits.float())


def chunks(model: Any, parts: Split | None, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """The logits (n, vocabulary), float32, before the counted tokens and those tokens (n,), a chunk at a
    time.

    Without `parts` the model's own logits, which then exist for the whole batch in the model's dtype.
    """
    if parts is None:
        mask = batch.mask
        if batch.cache is not None:
            mask = torch.cat([mask.new_ones(len(mask), batch.cache.get_seq_length()), mask], dim=1)
        source = model(
            input_ids=batch.ids, attention_mask=mask, past_key_values=batch.cache, use_cache=False
        ).logits
        width = source.shape[-1]
    else:  # padding stands after all counted tokens, and causal attention never looks there
        source = parts.backbone(
            input_ids=batch.ids, past_key_values=batch.cache, use_cache=False
        ).last_hidden_state
        width = int(parts.head.weight.shape[0])
    step = max(1, CHUNK_ELEMENTS // width)
    for row, before, token in zip(
        *(torch.split(part, step) for part in (batch.row, batch.before, batch.token)), strict=True
    ):
        picked = source[row, before]
        yield (picked if parts is None else parts.head(picked)).float(), token


def statistics(logits: Tensor, tokens: Tensor) -> Tensor:
    """(n, 4): the fields of `TokenScores`, the last as 0 or 1. Overwrites the logits."""
    step = max(
        1, CACHED_ELEMENTS // logits.shape[-1]
    )  # several passes, each over what the last one left in the cache
    pieces = zip(torch.split(logits, step), torch.split(tokens, step), strict=True)
    return torch.cat([_statistics(part, token) for part, token in pieces])


def _statistics(logits: Tensor, tokens: Tensor) -> Tensor:
    """With d = logit - largest logit and Z = sum of e^d, log p = d - log Z; so mean and variance of log p are
    those of d under p, shifted. A token below NEGLIGIBLE adds less than rounding does, as 0 log 0 = 0.
    """
    largest = logits.amax(-1, keepdim=True)
    greedy = _is_greedy(logits, tokens)
    logits -= largest
    chosen = logits.gather(1, tokens[:, None]).squeeze(1)
    probability = torch.softmax(logits.clamp_(min=NEGLIGIBLE), -1)
    normaliser = -probability.amax(-1).log()  # the largest token's is 1 / Z
    mean = (probability * logits).sum(-1)
    logits -= mean[:, None]
    variance = probability.mul_(logits).mul_(logits).sum(-1)
    return torch.stack([chosen - normaliser, mean - normaliser, variance.sqrt(), greedy.float()], dim=-1)


def _is_greedy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Whether each token is the one that greedy decoding takes, the first among equals.

    On a processor by NumPy, whose argmax is some eight times as fast as PyTorch's.
    """
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.numpy().argmax(-1)) == tokens
    return logits.argmax(-1) == tokens


def check_decoding(temperature: float, top_k: int, top_p: float) -> None:
    """Raises ValueError for a setting that no decoder has, greedy decoding among them."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite, got {temperature} (greedy is a rank)")
    if top_k < 0:
        raise ValueError(f"top_k must be 0 (off) or more, got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")


def decoding_logprob(logits: Tensor, tokens: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """(n,): log p(token) in nats when sampling so, -inf where the token is cut off. Overwrites the logits.

    As Transformers' warpers do it: temperature, then the k largest with all that equal the last of them, then
    the smallest set of the most probable tokens that holds at least `top_p` of what is left. Which of several
    equal tokens at the border of that set are kept is arbitrary there; here the first ones, as greedy
    decoding would.
    """
    logits /= temperature
    if 0 < top_k < logits.shape[-1]:
        logits.masked_fill_(logits < logits.topk(top_k).values[:, -1:], -math.inf)
    chosen = logits.gather(1, tokens[:, None]).squeeze(1)
    normaliser = logits.logsumexp(-1)
    logprob = chosen - normaliser
    if top_p == 1:
        return logprob
    probability = (logits - normaliser[:, None]).exp_()
    above = logits > chosen[:, None]
    number = torch.arange(logits.shape[-1], device=logits.device)
    above |= (logits == chosen[:, None]) & (number < tokens[:, None])
    is_cut = (probability * above).sum(-1) >= top_p
    kept = (logprob - _nucleus(probability, top_p).log()).clamp_(max=0)  # rounding may put it above
    return kept.masked_fill(is_cut, -math.inf)


def _nucleus(probability: Tensor, top_p: float) -> Tensor:
    """(n,): the probability of the smallest set of most probable tokens that holds at least `top_p`."""
    width = probability.shape[-1]
    falling = probability.topk(min(SORTED_FIRST, width)).values
    if falling.shape[-1] < width and bool((falling.sum(-1) < top_p).any()):
        falling = probability.sort(-1, descending=True).values
    before = falling.cumsum(-1) - falling
    return (falling * (before < top_p)).sum(-1)
