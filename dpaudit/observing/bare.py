"""An optimizer of PyTorch that clips no row: no canary can be planted, and what it misses is told."""

from typing import Any

import torch
from torch import Tensor

from dpaudit.errors import UsageError


class Bare:
    """Stands where Opacus' optimizer would, for the watch.

    That nothing clips or adds noise is seen, not presumed: the gradient of every step has to be what the
    backward pass left, up to a factor (of a clip of the whole batch).
    """

    noise_multiplier = 0.0
    max_grad_norm = 1.0
    loss_reduction = "sum"
    step_hook = None

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.original_optimizer = optimizer
        self.params = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._left: dict[int, Tensor] = {}
        self._slack = max([1e-3, *(torch.finfo(p.dtype).eps for p in self.params)])  # of a factor, rounded
        self._hooks = [p.register_post_accumulate_grad_hook(self._keep) for p in self.params]

    def clip_and_accumulate(self) -> None:
        """Never called: it clips nothing."""

    def check(self) -> None:
        """Raises UsageError where gradients were changed after the backward pass: that may be a clip and
        noise which nobody here can watch.
        """
        pairs = [
            (self._left.pop(id(p), torch.zeros_like(p)), p.grad) for p in self.params if p.grad is not None
        ]
        length = sum(float(left.double().square().sum()) for left, _ in pairs)
        along = sum(float((left.double() * now.double()).sum()) for left, now in pairs)
        factor = along / length if length else 0.0
        off = sum(float((now.double() - factor * left.double()).square().sum()) for left, now in pairs)
        if off > (self._slack * factor) ** 2 * length:
            raise UsageError(
                "watch.attach",
                "a private optimizer, as Opacus makes it, or gradients as the backward pass left them",
                "gradients that something changed after it",
                "another library cannot be watched: plant canaries, and verify what was trained",
            )

    def release(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, weight: Any) -> None:
        self._left[id(weight)] = weight.grad.detach().clone()
