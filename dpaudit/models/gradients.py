"""Norms of single sequences' gradients with respect to a loaded LoRA adapter, many in one backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dpaudit.models.fused import FusedLora
from dpaudit.models.scoring import Batch, Split

GRADIENT_BYTES = 2**28  # the gradients of all sequences of one backward pass


@contextmanager
def of_adapter(model: Any) -> Iterator[FusedLora]:
    """The active adapter's layers with gradients kept apart; which parameters train, and their `.grad`, are
    restored after the block.

    Raises ValueError where no LoRA adapter is active, and UsageError as `FusedLora` does.
    """
    wanted = {id(weight) for weight in _active_weights(model)}
    if not wanted:
        raise ValueError("gradients of a LoRA adapter: expected an active adapter (use `active(name)`)")
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
            parameter.grad = None
        lora = FusedLora(model)
        with torch.inference_mode(False), torch.enable_grad(), lora.attached():
            yield lora
    finally:
        for parameter, trains, gradient in before:
            parameter.requires_grad_(trains)
            parameter.grad = gradient


def rows_that_fit(lora: FusedLora) -> int:
    """How many sequences' float32 gradients fit into GRADIENT_BYTES."""
    return max(1, GRADIENT_BYTES // (4 * sum(parameter.numel() for parameter in lora.parameters.values())))


def norms(model: Any, parts: Split | None, lora: FusedLora, batch: Batch) -> NDArray[np.float64]:
    """The norm of each row's gradient of its mean negative log-likelihood over counted tokens, shape
    (rows,).
    """
    rows = len(batch.ids)
    counts = torch.bincount(batch.row, minlength=rows)
    with lora.collecting(range(rows), rows) as kept:
        logits = _logits(model, parts, batch, counts)
        nll = functional.cross_entropy(logits.float(), batch.token, reduction="none")
        (nll / counts[batch.row]).sum().backward()  # type: ignore[no-untyped-call]
    squared = torch.stack([part.norm(dim=1).double().square() for part in kept.parts()])
    return squared.sum(0).sqrt().cpu().numpy()


def _logits(model: Any, parts: Split | None, batch: Batch, counts: Tensor) -> Tensor:
    """(counted, vocabulary), with the rows apart as far as the head, which may be a LoRA layer itself."""
    if parts is None:
        whole = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
        return whole[batch.row, batch.before]  # type: ignore[no-any-return]
    number = torch.arange(len(batch.row), device=counts.device) - (counts.cumsum(0) - counts)[batch.row]
    at = counts.new_zeros(len(counts), int(counts.max()))  # (rows, most counted), 0 behind a row's last
    at[batch.row, number] = batch.before
    hidden = parts.backbone(input_ids=batch.ids, use_cache=False).last_hidden_state
    picked = hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[-1]))
    return parts.head(picked)[batch.row, number]  # type: ignore[no-any-return]


def _active_weights(model: nn.Module) -> Iterator[Tensor]:
    """Every A and B of the active adapter, those on embeddings included; none while adapters are switched
    off.
    """
    from peft.tuners import lora

    for layer in model.modules():
        if isinstance(layer, lora.LoraLayer) and not layer.disable_adapters:
            for name in layer.active_adapters:
                for pair in (layer.lora_A, layer.lora_B):
                    if name in pair:
                        yield pair[name].weight
                for pair in (layer.lora_embedding_A, layer.lora_embedding_B):
                    if name in pair:
                        yield pair[name]
