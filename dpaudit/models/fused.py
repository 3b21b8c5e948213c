"""LoRA layers whose one backward pass gives the gradient of every unit, or the plain sum.

PEFT computes x -> base(x) + scaling * B(A(dropout(x))) as a chain of autograd nodes. Here a layer is one
node; only its low-rank part is, where the base is no plain linear layer or dropout is on. The node keeps the
input and the rank-r product alone, and in its backward pass makes the gradients of A and B by unit: they are
of rank r and cheap to hold, and no second backward pass is needed to learn their norms. Matrix products do
the scaling and the sums of wide arrays on their way.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpaudit.errors import GuardError, UsageError
from dpaudit.models.layout import Layout, UnitGradients
from dpaudit.models.low_rank import add_low_rank, is_free, is_plain, to_rank

Gradients = dict[str, Tensor]  # parameter name -> float32


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

    Within `collecting`, a backward pass of the SUM of the rows' losses fills unit gradients in float32, also
    where the model computes in bfloat16, and leaves `.grad` alone; outside it, the layers are PEFT's own.
    Works under either kind of gradient checkpointing, and on a quantized base. Raises UsageError on a
    trainable parameter that is no A or B of a plain LoRA layer (rank-stabilised scaling is plain): its units
    could not be told apart. `layout` has B transposed: so a processor writes it without a detour.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = trainable(model)
        self._layers = _lora_layers(model, self.parameters)
        self.layout = Layout.of(self.parameters, frozenset(b for (_, b), _ in self._layers))
        self._kept: UnitGradients | None = None
        self._rows: int | None = None

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
    def collecting(self, unit_of_row: Sequence[int] | None, units: int = 1) -> Iterator[UnitGradients]:
        """The gradients of a pass, kept apart: row i belongs to unit `unit_of_row[i]` of `units`.

        Without `unit_of_row` all of the pass belongs to one unit, whatever its layers do with rows. Raises
        GuardError where a weight got a gradient by another way than its layer: that could not be clipped.
        """
        device = next(iter(self.parameters.values())).device
        self._kept = kept = UnitGradients(self.layout, units, unit_of_row, device)
        self._rows = None if unit_of_row is None else len(unit_of_row)
        try:
            yield kept
        finally:
            self._kept = None
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                raise GuardError(f"gradient of {name}: expected from its LoRA layer only, seen another use")

    def _forward(self, names: tuple[str, str], layer: Any) -> Callable[..., Tensor]:
        adapter = layer.active_adapters[0]
        a, b, scaling = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, layer.scaling[adapter]
        linear, dropout = layer.base_layer, layer.lora_dropout[adapter]
        joined, usual = _is_bare(linear), type(layer).forward

        def forward(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
            if self._kept is None or layer.disable_adapters:
                return usual(layer, x, *arguments, **options)  # type: ignore[no-any-return]
            self._check_rows(names[0], x)
            if joined and _keeps_all(dropout):
                operands: tuple[Any, ...] = (None, x, linear.weight, linear.bias)
            else:
                operands = (linear(x, *arguments, **options), dropout(x), None, None)
            return _LowRank.apply(*operands, a, b, scaling, self, names)  # type: ignore[no-any-return, no-untyped-call]

        return forward

    def _check_rows(self, name: str, x: Tensor) -> None:
        if self._rows is not None and (x.dim() != 3 or len(x) != self._rows):
            raise GuardError(
                f"per-unit gradients: {name}: expected input of shape ({self._rows}, tokens, features), "
                f"seen {tuple(x.shape)}"
            )

    def collect(self, name: str, low: Tensor, wide: Tensor, scaling: float) -> None:
        """See `UnitGradients.add`. Raises GuardError outside of `collecting`."""
        if self._kept is None:
            raise GuardError(f"gradient of {name}: expected within `collecting`, seen outside of it")
        self._kept.add(name, low, wide, scaling)


class _LowRank(torch.autograd.Function):
    """base + scaling * (x A^T) B^T as one node, whose base is given, or made as x weight^T + bias."""

    @staticmethod
    def forward(
        context: Any,
        base: Tensor | None,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scaling: float,
        owner: FusedLora,
        names: tuple[str, str],
    ) -> Tensor:
        wide = x.flatten(0, -2)
        low = to_rank(a, wide)  # (rank, tokens of all rows)
        context.save_for_backward(wide, low, weight, a, b)
        context.scaling, context.owner, context.names, context.shape = scaling, owner, names, x.shape
        if base is None:
            assert weight is not None
            flat = functional.linear(wide, weight, bias)
            add_low_rank(flat, low, b.T, scaling)
            # a view would forbid what follows to work in place
            return torch.ops.aten._unsafe_view(flat, (*x.shape[:-1], len(weight)))  # type: ignore[no-any-return]
        if is_free(base):
            context.mark_dirty(base)
        else:
            base = base.clone(memory_format=torch.contiguous_format)
        add_low_rank(base.view(-1, base.shape[-1]), low, b.T, scaling)
        return base

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:
        wide, low, weight, a, b = context.saved_tensors
        scaling, owner, (name_a, name_b) = context.scaling, context.owner, context.names
        above = gradient.flatten(0, -2)  # (tokens of all rows, m)
        low_gradient = to_rank(b.T, above)  # (rank, tokens of all rows)
        owner.collect(name_b, low, above, scaling)
        owner.collect(name_a, low_gradient, wide, scaling)
        grad_x = None
        if context.needs_input_grad[1]:
            if weight is None:
                flat = (low_gradient.T @ (a * scaling).to(low_gradient.dtype)).to(wide.dtype)
            else:
                flat = add_low_rank(above @ weight, low_gradient, a, scaling)
            grad_x = flat.view(context.shape)
        return gradient if weight is None else None, grad_x, *(None,) * 7


def _is_bare(linear: Any) -> bool:
    """A linear layer that nobody has changed."""
    hooks = (linear._forward_hooks, linear._forward_pre_hooks, linear._backward_hooks)
    return type(linear) is nn.Linear and "forward" not in vars(linear) and not any(hooks)


def _keeps_all(dropout: nn.Module) -> bool:
    return isinstance(dropout, nn.Identity) or (
        type(dropout) is nn.Dropout and not (dropout.training and dropout.p > 0)
    )


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
