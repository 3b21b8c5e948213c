"""What an optimizer of somebody else says of itself: whether it is private, how it clips and accounts."""

import inspect
from typing import Any

import torch

from dpaudit.errors import UsageError
from dpaudit.observing.bare import Bare
from dpaudit.observing.ranks import Ranks
from dpaudit.observing.record import Accounted

WHERE = "watch.attach"
HOW = "make it private with Opacus' PrivacyEngine, then attach"


def private(optimizer: Any, ranks: Ranks) -> Any:
    """The private optimizer of Opacus, out of what a trainer may have put around it; `Bare` of one of PyTorch
    that is not private.

    Raises UsageError for what is no optimizer, and for one whose clip cannot be watched.
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
    if not isinstance(seen, torch.optim.Optimizer):
        raise UsageError(WHERE, "an optimizer of PyTorch or Opacus", type(optimizer).__name__, HOW)
    _check_processes(seen, ranks)
    if not isinstance(seen, DPOptimizer):
        return Bare(seen)
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
    if "clip_and_accumulate" in vars(seen):
        raise UsageError(WHERE, "an optimizer that nobody watches yet", "one that is watched", "attach once")
    return seen


def _check_processes(optimizer: Any, ranks: Ranks) -> None:
    """Raises UsageError where what one process watches is not what all of them release."""
    from opacus.optimizers import DistributedDPOptimizer

    if Ranks().count != ranks.count:
        raise UsageError(
            "dpaudit.observe",
            f"{Ranks().count} processes, as at watch.attach",
            f"{ranks.count}",
            "call init_process_group before dpaudit.observe",
        )
    if ranks.count > 1 and not isinstance(optimizer, DistributedDPOptimizer):
        got = f"{type(optimizer).__name__} in {ranks.count} processes"
        raise UsageError(
            WHERE,
            "DistributedDPOptimizer, which adds the gradients of all processes up",
            got,
            "wrap the model in DPDDP before make_private, with flat clipping; or observe in one process",
        )


def weight_clips(optimizer: Any) -> list[float] | None:
    """The clip of every weight where each is clipped on its own, else None."""
    clips = getattr(optimizer, "max_grad_norms", None)
    return None if clips is None else [float(clip) for clip in clips]


def clipping(optimizer: Any) -> str:
    if isinstance(optimizer, Bare):
        return "none"
    return "flat" if weight_clips(optimizer) is None else "per layer"


def program(optimizer: Any) -> str:
    import opacus

    bare = isinstance(optimizer, Bare)
    return f"PyTorch {torch.__version__}" if bare else f"Opacus {opacus.__version__}"


def divisor(optimizer: Any, ranks: Ranks) -> float:
    """What the noisy sum of all processes was divided by, as the optimizer says; 1 of a sum."""
    if optimizer.loss_reduction != "mean":
        return 1.0
    return float(optimizer.expected_batch_size) * int(optimizer.accumulated_iterations) * ranks.count


def accountant_of(optimizer: Any) -> Any:
    """The accountant that Opacus hangs on the optimizer's step; None where none is found."""
    hook = optimizer.step_hook
    found = inspect.getclosurevars(hook).nonlocals if inspect.isfunction(hook) else {}
    return next((value for value in found.values() if hasattr(value, "history")), None)


def accounted(accountant: Any) -> tuple[Accounted, ...]:
    """What it counted so far."""
    return tuple(Accounted(float(s), float(q), int(n)) for s, q, n in getattr(accountant, "history", ()))
