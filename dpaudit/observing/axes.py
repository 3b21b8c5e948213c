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
    """One coordinate for every axis in one of the weights, as evenly as they have room; where each weight is
    clipped on its own (`clips`), one in every weight that has room for all axes.

    Raises UsageError for more axes than there is room for.
    """
    generator = np.random.default_rng(int(seed, 16))
    sizes = [weight.numel() for weight in weights]
    if clips is None:
        shares, lengths = _shares(sizes, count), [1.0] * len(sizes)
    else:
        shares = [np.arange(count if size >= count else 0) for size in sizes]
        whole = float(np.linalg.norm(clips))
        lengths = [clip / whole for clip in clips]
    room = sum(sizes) if clips is None else max(sizes, default=0)
    if count > room:
        raise UsageError(
            "dpaudit.observe: axes", f"at most {room}, the room in the weights", str(count), "ask for fewer"
        )
    parts = []
    for weight, share, length in zip(weights, shares, lengths, strict=True):
        chosen = (
            generator.choice(weight.numel(), len(share), replace=False)
            if len(share)
            else np.zeros(0, np.int64)
        )
        where = np.unravel_index(chosen.astype(np.int64), tuple(weight.shape))
        parts.append(Part(share, tuple(np.asarray(w) for w in where), length))
    return Axes(count, tuple(parts))


def _shares(sizes: Sequence[int], count: int) -> list[NDArray[np.int64]]:
    """The numbers of the axes in each weight: one after the other, in those with room."""
    given: list[list[int]] = [[] for _ in sizes]
    number = 0
    while number < count and any(len(mine) < size for mine, size in zip(given, sizes, strict=True)):
        for mine, size in zip(given, sizes, strict=True):
            if number < count and len(mine) < size:
                mine.append(number)
                number += 1
    return [np.array(mine, dtype=np.int64) for mine in given]


def _tensor(places: NDArray[np.int64], beside: Tensor) -> Tensor:
    return torch.as_tensor(places, device=beside.device)
