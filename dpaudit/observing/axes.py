"""Where canaries lie in somebody's weights: single coordinates, read and written without a dense vector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpaudit.errors import UsageError

RAW_NORM = 10.0  # of a canary's gradient before the clip, in clips: what is not clipped shows


@dataclass(frozen=True)
class Part:
    """The axes that have a coordinate in one weight."""

    axes: NDArray[np.int64]  # their numbers
    coordinates: tuple[NDArray[np.int64], ...]  # their places, one array a dimension of the weight
    length: float  # of a canary's clipped gradient in this weight, over the clip


@dataclass(frozen=True)
class Axes:
    """One part for every weight of the optimizer, in its order."""

    count: int
    parts: tuple[Part, ...]

    @property
    def shown(self) -> float:
        """How much of a canary's clip lies along its axis, in (0, 1]: less than all where a weight that is
        clipped on its own has no room for the axes. 1 without axes.
        """
        return sum(part.length**2 for part in self.parts if 0 in part.axes) if self.count else 1.0

    def put(
        self, gradients: Sequence[Tensor], rows: NDArray[np.int64], axes: NDArray[np.int64], clip: float
    ) -> None:
        """Replaces the gradients of `rows` by those of `axes`, one each: `gradients` has (rows, *shape) for
        every weight.
        """
        for part, gradient in zip(self.parts, gradients, strict=True):
            gradient[_tensor(rows, gradient)] = 0
            at = np.searchsorted(part.axes, axes)
            here = at < part.axes.size
            here[here] = part.axes[at[here]] == axes[here]
            if here.any():
                of_weight = (coordinates[at[here]] for coordinates in part.coordinates)
                where = tuple(_tensor(w, gradient) for w in (rows[here], *of_weight))
                gradient[where] = RAW_NORM * clip * part.length

    def along(self, gradients: Sequence[Tensor | None]) -> NDArray[np.float64]:
        """The component of a gradient along every axis, (axes,)."""
        found = np.zeros(self.count)
        for part, gradient in zip(self.parts, gradients, strict=True):
            if gradient is not None and part.axes.size:
                where = tuple(_tensor(c, gradient) for c in part.coordinates)
                found[part.axes] += part.length * gradient[where].double().cpu().numpy()
        return found


def spread(weights: Sequence[nn.Parameter], count: int, seed: str, clips: Sequence[float] | None) -> Axes:
    """One coordinate for every axis, drawn from those of all weights, so that most lie where the sum of the
    rows is thin; where each weight is clipped on its own (`clips`), one in every weight that has room for all
    axes.

    Raises UsageError for more axes than there is room for.
    """
    generator = np.random.default_rng(int(seed, 16))
    sizes = [weight.numel() for weight in weights]
    room = sum(sizes) if clips is None else max(sizes, default=0)
    if count > room:
        raise UsageError(
            "dpaudit.observe: axes", f"at most {room}, the room in the weights", str(count), "ask for fewer"
        )
    if clips is None:
        ends = np.cumsum(sizes)
        chosen = generator.choice(room, count, replace=False)
        at = np.searchsorted(ends, chosen, side="right")
        mine = [np.flatnonzero(at == number) for number in range(len(sizes))]
        places = [chosen[axes] - (end - size) for axes, end, size in zip(mine, ends, sizes, strict=True)]
        lengths = [1.0] * len(sizes)
    else:
        fit = [count if size >= count else 0 for size in sizes]
        mine = [np.arange(number) for number in fit]
        places = [generator.choice(size, n, replace=False) for size, n in zip(sizes, fit, strict=True)]
        lengths = [clip / float(np.linalg.norm(clips)) for clip in clips]
    parts = zip(mine, places, weights, lengths, strict=True)
    return Axes(count, tuple(_part(*part) for part in parts))


def _part(axes: NDArray[np.int64], places: NDArray[np.int64], weight: nn.Parameter, length: float) -> Part:
    coordinates = np.unravel_index(places.astype(np.int64), tuple(weight.shape))
    return Part(axes, tuple(np.asarray(c) for c in coordinates), length)


def _tensor(places: NDArray[np.int64], beside: Tensor) -> Tensor:
    return torch.as_tensor(places, device=beside.device)
