"""The low-rank part of a LoRA layer, base + scaling * (x A^T) B^T, without the passes over wide arrays that
PEFT makes.

PEFT scales and adds in two passes over arrays as wide as the layer's output; one matrix product does both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def is_plain(layer: Any) -> bool:
    """One active adapter over a linear layer, without a variant (DoRA and others change the product).

    Attention modules and bare parameters have A and B of linear layers too, and another product.
    """
    from peft.tuners import lora

    active, is_4_or_8_bit = layer.active_adapters, type(layer).__module__ == "peft.tuners.lora.bnb"
    return (
        (isinstance(layer, lora.Linear) or is_4_or_8_bit)
        and len(active) == 1
        and not layer.merged
        and active[0] in layer.lora_A
        and isinstance(layer.lora_A[active[0]], nn.Linear)
        and active[0] not in layer.lora_variant
        and layer.lora_B[active[0]].bias is None
    )


def to_rank(wide: Tensor, matrix: Tensor) -> Tensor:
    """wide (rows, tokens, n) times the transpose of matrix (rank, n).

    Of two products that are each other's transpose, the one whose narrow factor comes first is up to four
    times as fast on a CPU: its kernels run along the wide rows.
    """
    return (matrix @ wide.flatten(0, -2).T).T.contiguous().view(*wide.shape[:-1], len(matrix))


def takes_the_sum(base: Tensor, b: Tensor) -> bool:
    """Whether the sum may be written into `base`, which a linear layer has just made and does not keep."""
    return base.dtype == b.dtype and base.is_contiguous() and not base._is_view()


def add_low_rank(base: Tensor, low: Tensor, b: Tensor, scaling: float) -> Tensor:
    """base + scaling * low b^T, of shape (rows, tokens, m), in the dtype of `base`; overwrites it where it
    may.
    """
    if takes_the_sum(base, b):
        base.view(-1, base.shape[-1]).addmm_(low.flatten(0, -2), b.T, alpha=scaling)
        return base
    return torch.add(base, functional.linear(low, b), alpha=scaling).to(base.dtype)


@contextmanager
def attached(model: nn.Module) -> Iterator[None]:
    """Inside the block the plain LoRA layers of `model` are computed in this way, without gradients; all
    others as PEFT does.
    """
    from peft.tuners import lora

    layers = [layer for layer in model.modules() if isinstance(layer, lora.LoraLayer) and _is_free(layer)]
    for layer in layers:
        layer.forward = _forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_free(layer: Any) -> bool:
    """Nobody else has replaced its forward, and its one adapter is on."""
    return "forward" not in vars(layer) and not layer.disable_adapters and is_plain(layer)


def _forward(layer: Any) -> Any:
    adapter = layer.active_adapters[0]
    a, b, scaling = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, layer.scaling[adapter]

    def forward(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return add_low_rank(layer.base_layer(x, *arguments, **options), to_rank(x.to(a.dtype), a), b, scaling)

    return forward
