"""Where canaries lie in somebody's weights: single coordinates, read and written without a dense vector."""

import math
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
    places: NDArray[np.int64]  # theirs in the weight laid flat
    coordinates: tuple[NDArray[np.int64], ...]  # the same, one array a dimension of the weight
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

    def short(self, gradients: Sequence[Tensor], canaries: NDArray[np.int64]) -> list[Tensor]:
        """Every row in short, with the same norm in every weight, (rows, axes of the weight + 1): its
        gradient along each axis, then the norm of the rest. The rows of `canaries` have all in the rest.
        """
        return [
            _short(part, gradient, canaries) for part, gradient in zip(self.parts, gradients, strict=True)
        ]

    def along_short(self, sums: Sequence[Tensor]) -> NDArray[np.float64]:
        """The component along every axis, (axes,), of a sum of rows in short."""
        found = np.zeros(self.count)
        for part, total in zip(self.parts, sums, strict=True):
            found[part.axes] += part.length * total[: part.axes.size].double().cpu().numpy()
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
    flat = places.astype(np.int64)
    coordinates = np.unravel_index(flat, tuple(weight.shape))
    return Part(axes, flat, tuple(np.asarray(c) for c in coordinates), length)


def _short(part: Part, gradient: Tensor, canaries: NDArray[np.int64]) -> Tensor:
    flat = gradient.reshape(len(gradient), math.prod(gradient.shape[1:]))
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    whole: Tensor = torch.linalg.vector_norm(flat, dim=1).to(dtype).unsqueeze(1)
    if not part.axes.size:
        return whole
    values = flat.index_select(1, _tensor(part.places, gradient)).to(dtype)
    values.index_fill_(0, _tensor(canaries, gradient), 0)
    rest = (whole.square() - values.square().sum(1, keepdim=True)).clamp_(min=0).sqrt_()
    return torch.cat([values, rest], dim=1)


def _tensor(places: NDArray[np.int64], beside: Tensor) -> Tensor:
    return torch.as_tensor(places, device=beside.device)
