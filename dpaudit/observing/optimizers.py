"""What an optimizer of somebody else says of itself: whether it is private, how it clips and accounts."""

import inspect
from typing import Any

import torch

from dpaudit.errors import UsageError
from dpaudit.observing.record import Accounted

WHERE = "watch.attach"
HOW = "make it private with Opacus' PrivacyEngine, then attach"


def private(optimizer: Any) -> Any:
    """The private optimizer of Opacus, out of what a trainer may have put around it.

    Raises UsageError for one that clips no single rows, or whose clip cannot be watched.
    """
    try:
        from opacus.optimizers import AdaClipDPOptimizer, DPOptimizer
    except ImportError:
        raise UsageError(
            WHERE, "Opacus 1.6 or later", "no Opacus", "install it: pip install opacus"
        ) from None
    seen = optimizer
    while not isinstance(seen, DPOptimizer) and hasattr(seen, "optimizer"):
        seen = seen.optimizer
    if not isinstance(seen, DPOptimizer):
        got = f"{type(optimizer).__name__}, which clips no row's gradient and adds no noise"
        raise UsageError(WHERE, "a private optimizer, as Opacus makes it", got, HOW)
    if "FastGradientClipping" in type(seen).__name__:
        raise UsageError(
            WHERE,
            "gradients of single rows",
            "ghost clipping, which never makes them",
            'make_private(grad_sample_mode="hooks") while observing',
        )
    if isinstance(seen, AdaClipDPOptimizer):
        got = "adaptive clipping, which canaries would change"
        raise UsageError(WHERE, "flat or per-layer clipping", got, 'make_private(clipping="flat")')
    if _processes() > 1:
        got = f"{_processes()} processes"
        raise UsageError(WHERE, "a training in one process", got, "observe a short run in one process")
    if "clip_and_accumulate" in vars(seen):
        raise UsageError(WHERE, "an optimizer that nobody watches yet", "one that is watched", "attach once")
    return seen


def _processes() -> int:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if there else 1


def weight_clips(optimizer: Any) -> list[float] | None:
    """The clip of every weight where each is clipped on its own, else None."""
    clips = getattr(optimizer, "max_grad_norms", None)
    return None if clips is None else [float(clip) for clip in clips]


def divisor(optimizer: Any) -> float:
    """What the noisy sum was divided by, as the optimizer says; 1 of a sum."""
    if optimizer.loss_reduction != "mean":
        return 1.0
    return float(optimizer.expected_batch_size) * int(optimizer.accumulated_iterations)


def accountant_of(optimizer: Any) -> Any:
    """The accountant that Opacus hangs on the optimizer's step; None where none is found."""
    hook = optimizer.step_hook
    found = inspect.getclosurevars(hook).nonlocals if inspect.isfunction(hook) else {}
    return next((value for value in found.values() if hasattr(value, "history")), None)


def accounted(accountant: Any) -> tuple[Accounted, ...]:
    """What it counted so far."""
    return tuple(Accounted(float(s), float(q), int(n)) for s, q, n in getattr(accountant, "history", ()))
