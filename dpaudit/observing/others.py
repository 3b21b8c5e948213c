"""What a clip leaves of all rows but the canaries, along every axis: taken out, only canary and noise remain.

Gradients of one data set point the same way for many steps. Along an axis they add up, look like more noise
than there is, and hide what is missing of it. Their part is not reckoned from anything that was claimed: the
trainer's own clip works once more on the same rows in short, a few numbers a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpaudit.observing.axes import Axes

TOLERANCE = 1e-3  # clips: between what the clip left of other rows and what is found of them in short


def clipped(clip: Callable[[], None], weights: Sequence[Any], rows: Sequence[Tensor]) -> list[Tensor]:
    """What a clip makes of other rows of gradients, (rows, ...) for every weight, whose own are kept."""
    kept = [(weight.grad_sample, weight.summed_grad) for weight in weights]
    try:
        for weight, gradient in zip(weights, rows, strict=True):
            weight.grad_sample, weight.summed_grad = gradient, None
        clip()
        return [weight.summed_grad for weight in weights]
    finally:
        for weight, (gradient, total) in zip(weights, kept, strict=True):
            weight.grad_sample, weight.summed_grad = gradient, total


@dataclass(frozen=True, eq=False)
class Planted:
    """The gradients of one backward pass, once canaries stand in them."""

    gradients: Sequence[Tensor]  # (rows, ...) for every weight
    places: NDArray[np.int64]  # of canaries among the rows
    axes: NDArray[np.int64]  # along which these lie, one each


class Others:
    """The other rows of one step, over all backward passes of which it is made."""

    def __init__(self, axes: Axes, weights: Sequence[Any], clip: Callable[[], None]) -> None:
        """`clip` is the trainer's own, of the gradients that `weights` have."""
        self._axes, self._weights, self._clip = axes, weights, clip
        self._sum, self._is_mixed = np.zeros(axes.count), False

    def taken(self) -> tuple[NDArray[np.float64], bool]:
        """Their sum since the last call, (axes,), and whether it is not to be told from that of canaries:
        of a clip that does not treat each row by its norm alone.
        """
        found = self._sum, self._is_mixed
        self._sum, self._is_mixed = np.zeros(self._axes.count), False
        return found

    def clip(self, passes: Sequence[Planted], most: float) -> None:
        """Their clip, which leaves `most` of a row; `passes` are the gradients that the weights have."""
        others, before = self._in_short(passes), self._along()
        self._clip()
        # along the axis of a canary that is not in the batch, all that came is of other rows
        absent = np.delete(np.arange(self._axes.count), np.concatenate([p.axes for p in passes]))
        off = np.abs(self._along() - before - others)[absent]
        self._is_mixed |= not (off <= TOLERANCE * most).all()
        self._sum += others

    def _in_short(self, passes: Sequence[Planted]) -> NDArray[np.float64]:
        short = [self._axes.short(one.gradients, one.places) for one in passes]
        rows = [torch.cat(of_weight) for of_weight in zip(*short, strict=True)]
        try:
            return self._axes.along_short(clipped(self._clip, self._weights, rows))
        except (RuntimeError, IndexError):  # of a clip that needs the shape of the weight
            return np.full(self._axes.count, np.nan)

    def _along(self) -> NDArray[np.float64]:
        return self._axes.along([weight.summed_grad for weight in self._weights])
