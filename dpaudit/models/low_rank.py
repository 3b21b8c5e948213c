"""The low-rank part of a LoRA layer, base + scaling * (x A^T) B^T, without the passes over wide arrays that
PEFT makes.

PEFT scales and adds in two passes over arrays as wide as the layer's output; one matrix product does both.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


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


def to_rank(matrix: Tensor, wide: Tensor) -> Tensor:
    """matrix (rank, n) times the transpose of wide (tokens, n): (rank, tokens).

    Of two products that are each other's transpose, the one whose narrow factor comes first is up to four
    times as fast on a CPU: its kernels run along the wide rows. A GPU reads `wide` in half precision as it
    is and adds up in float32; a processor needs a copy in the dtype of `matrix`.
    """
    if wide.is_cuda and wide.dtype != torch.float32:
        return torch.mm(matrix.to(wide.dtype), wide.T, out_dtype=torch.float32)
    return matrix @ wide.to(matrix.dtype).T


def add_low_rank(wide: Tensor, low: Tensor, matrix: Tensor, scaling: float) -> Tensor:
    """wide + scaling * low^T matrix, of shapes (tokens, n), (rank, tokens) and (rank, n); written into
    `wide`.
    """
    if wide.is_cuda and wide.dtype != torch.float32:
        low, matrix = low.to(wide.dtype), matrix.to(wide.dtype)
    if wide.dtype == low.dtype:
        return wide.addmm_(low.T, matrix, alpha=scaling)
    return wide.add_(low.T @ matrix, alpha=scaling)


def cosine(one: Path, other: Path) -> float | None:
    """The cosine between two adapters' changes of the base, B A of every layer as one long vector: 1 for the
    same change at any scale. None where one of the weight files holds no LoRA pair that can be multiplied.

    No product as wide as a layer is made: the inner product of B A and B' A' is the sum over B^T B' times
    A A'^T, entry by entry.
    """
    pairs = _pairs(one), _pairs(other)
    squares = [sum(_inner(pair, pair) for pair in of.values()) for of in pairs]
    if min(squares) <= 0:
        return None
    shared = [name for name in pairs[0] if name in pairs[1] and _is_like(pairs[0][name], pairs[1][name])]
    return sum(_inner(pairs[0][name], pairs[1][name]) for name in shared) / math.sqrt(squares[0] * squares[1])


Pair = tuple[Tensor, Tensor]  # A (rank, n) and B (m, rank)


def _pairs(weights: Path) -> dict[str, Pair]:
    """The two matrices of every layer of a weight file, by the layer's name."""
    from safetensors.torch import load_file

    named = {name: tensor.double() for name, tensor in load_file(weights).items() if tensor.dim() == 2}
    found = {name: name.replace("lora_A", "lora_B") for name in named if "lora_A" in name}
    return {name: (named[name], named[b]) for name, b in found.items() if b in named}


def _inner(one: Pair, other: Pair) -> float:
    return float(((one[1].T @ other[1]) * (one[0] @ other[0].T)).sum())


def _is_like(one: Pair, other: Pair) -> bool:
    return one[0].shape[1] == other[0].shape[1] and one[1].shape[0] == other[1].shape[0]


def is_free(made: Tensor) -> bool:
    """Whether another may write into `made`, which a linear layer has just made and does not keep."""
    return made.is_contiguous() and not made._is_view()


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
        base: Tensor = layer.base_layer(x, *arguments, **options)
        made = base if is_free(base) else base.clone(memory_format=torch.contiguous_format)
        add_low_rank(made.view(-1, made.shape[-1]), to_rank(a, x.flatten(0, -2)), b.T, scaling)
        return made

    return forward
