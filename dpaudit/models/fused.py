"""LoRA layers whose one backward pass gives the gradient of every unit, or the plain sum.

PEFT computes x -> base(x) + scaling * B(A(dropout(x))) as a chain of autograd nodes. Here the low-rank part
is one node. It keeps the input and the rank-r product alone, and in its backward pass makes the gradients of
A and B by unit: they are of rank r and cheap to hold, and no second backward pass is needed to learn their
norms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpaudit.errors import GuardError, UsageError
from dpaudit.models.low_rank import add_low_rank, is_plain, takes_the_sum, to_rank

Gradients = dict[str, Tensor]  # parameter name -> float32
Collect = Callable[[str, Tensor], None]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name, in the model's order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def refuse_coupling(model: Any) -> None:
    """Raises UsageError for a model that mixes the rows of a batch: what one row adds could not be bounded.

    Packed rows and losses over a batch have no setting here. A load-balancing loss that a configuration
    merely weighs (`router_aux_loss_coef`) is harmless: our losses come from the logits alone, and it is not
    computed.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise UsageError(
                f"model: {name}",
                "layers that see each row alone, in a private arm",
                "batch normalisation, whose statistics mix the rows of a batch",
                "take a model without it: a row's influence on the others' gradients is not clipped",
            )
    config = getattr(model, "config", None)
    if getattr(config, "output_router_logits", False):
        raise UsageError(
            "model: config.json: output_router_logits",
            "false in a private arm",
            "true",
            "its load-balancing loss is over all rows of a batch, and the part of one row cannot be clipped",
        )
    if getattr(config, "expert_capacity", None) is not None:
        raise UsageError(
            "model: config.json: expert_capacity",
            "experts that take every token, in a private arm",
            "a limit, at which one row crowds out another's tokens",
            "take a model without it",
        )


class FusedLora:
    """The LoRA layers of a PEFT model, computed by one autograd node each while `attached`.

    Within `collecting`, a backward pass of the SUM of the rows' losses fills `units` with {name: (units,
    *shape)} in float32, also where the model computes in bfloat16, and leaves `.grad` alone; outside it, the
    pass fills `.grad` as plain autograd does. Works under either kind of gradient checkpointing, and on a
    quantized base. Raises UsageError on a trainable parameter that is no A or B of a plain LoRA layer
    (rank-stabilised scaling is plain): its units could not be told apart.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = trainable(model)
        self.units: Gradients = {}
        self._layers = _lora_layers(model, self.parameters)
        self._unit_of_row: Tensor | None = None
        self._count, self._one_row_each = 0, False

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Computes the layers by the fused node; PEFT's own forward comes back when the block ends."""
        for names, layer in self._layers:
            layer.forward = self._forward(names, layer)
        try:
            yield
        finally:
            for _, layer in self._layers:
                del layer.forward

    @contextmanager
    def collecting(self, unit_of_row: Tensor, units: int) -> Iterator[None]:
        """Keeps gradients apart: row i of the pass belongs to unit `unit_of_row[i]` of `units`.

        Raises GuardError where a weight got a gradient by another way than its layer: that could not be
        clipped.
        """
        self.units, self._unit_of_row, self._count = {}, unit_of_row, units
        in_order = torch.arange(units, device=unit_of_row.device)
        self._one_row_each = torch.equal(unit_of_row, in_order)
        try:
            yield
        finally:
            self._unit_of_row = None
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                raise GuardError(f"gradient of {name}: expected from its LoRA layer only, seen another use")

    def _forward(self, names: tuple[str, str], layer: Any) -> Callable[..., Tensor]:
        adapter = layer.active_adapters[0]
        a, b, scaling = layer.lora_A[adapter], layer.lora_B[adapter], layer.scaling[adapter]
        dropout = layer.lora_dropout[adapter]

        def forward(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
            base = layer.base_layer(x, *arguments, **options)
            if layer.disable_adapters:
                return base  # type: ignore[no-any-return]
            if self._unit_of_row is not None:
                self._check_rows(names[0], x)
            operands = (base, dropout(x), a.weight, b.weight, scaling, self, names)
            return _LowRank.apply(*operands)  # type: ignore[no-any-return, no-untyped-call]

        return forward

    def _check_rows(self, name: str, x: Tensor) -> None:
        rows = len(self._unit_of_row) if self._unit_of_row is not None else 0
        if x.dim() != 3 or len(x) != rows:
            raise GuardError(
                f"per-unit gradients: {name}: expected input of shape ({rows}, tokens, features), "
                f"seen {tuple(x.shape)}"
            )

    @property
    def apart(self) -> bool:
        return self._unit_of_row is not None

    def collect(self, name: str, left: Tensor, right: Tensor) -> None:
        """Adds sum over tokens of left x right, (rows, tokens, m) and (rows, tokens, n), to each row's
        unit.
        """
        rows = _products(left.float(), right.float())  # (rows, m, n)
        index = self._unit_of_row
        assert index is not None
        if name in self.units or not self._one_row_each:
            total = self.units.setdefault(name, rows.new_zeros((self._count, *rows.shape[1:])))
            total.index_add_(0, index, rows)
        else:
            self.units[name] = rows


class _LowRank(torch.autograd.Function):
    """base + scaling * (x A^T) B^T as one node; see FusedLora."""

    @staticmethod
    def forward(
        context: Any,
        base: Tensor,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        scaling: float,
        owner: FusedLora,
        names: tuple[str, str],
    ) -> Tensor:
        low = to_rank(x.to(a.dtype), a)  # (rows, tokens, rank)
        context.save_for_backward(x, low, a, b)
        context.scaling, context.owner, context.names = scaling, owner, names
        if takes_the_sum(base, b):
            context.mark_dirty(base)
        return add_low_rank(base, low, b, scaling)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, low, a, b = context.saved_tensors
        owner, (name_a, name_b) = context.owner, context.names
        wide = gradient.to(b.dtype)
        low_gradient = to_rank(wide, b.T * context.scaling)  # (rows, tokens, rank)
        grad_a = grad_b = None
        if owner.apart:
            owner.collect(name_b, wide, low * context.scaling)
            owner.collect(name_a, low_gradient, x)
        else:
            grad_b = ((low.flatten(0, -2) * context.scaling).T @ wide.flatten(0, -2)).T
            grad_a = low_gradient.flatten(0, -2).T @ x.flatten(0, -2).to(a.dtype)
        grad_x = functional.linear(low_gradient, a.T).to(x.dtype) if context.needs_input_grad[1] else None
        return gradient, grad_x, grad_a, grad_b, None, None, None


def _products(left: Tensor, right: Tensor) -> Tensor:
    """left^T right of every row: (rows, tokens, m) and (rows, tokens, n) to (rows, m, n).

    The narrow factor comes first, as in `to_rank`.
    """
    if left.shape[-1] <= right.shape[-1]:
        return torch.bmm(left.transpose(1, 2), right)
    return torch.bmm(right.transpose(1, 2), left).transpose(1, 2).contiguous()


def _lora_layers(model: nn.Module, parameters: dict[str, nn.Parameter]) -> list[tuple[tuple[str, str], Any]]:
    """The layers with their A's and B's parameter names; raises UsageError on anything else that trains."""
    from peft.tuners import lora

    if not parameters:
        raise UsageError("model", "a trainable LoRA weight", "no such weight")
    names = {id(parameter): name for name, parameter in parameters.items()}
    layers, covered = [], set()
    for layer in model.modules():
        if not isinstance(layer, lora.LoraLayer) or not is_plain(layer):
            continue
        adapter = layer.active_adapters[0]
        pair = (id(layer.lora_A[adapter].weight), id(layer.lora_B[adapter].weight))
        if pair[0] in names and pair[1] in names:
            layers.append(((names[pair[0]], names[pair[1]]), layer))
            covered |= set(pair)
    for name in (name for key, name in names.items() if key not in covered):
        raise UsageError(
            f"model: {name}",
            "only the A and B of plain LoRA layers to train",
            "another trainable parameter",
            "freeze it (no DoRA, bias or modules_to_save): its gradient cannot be clipped by unit",
        )
    return layers
