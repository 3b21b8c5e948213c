"""Canaries in the space of the trainable weights: units whose raw gradient is one coordinate, far longer than
the clip.

An axis takes part in training as any unit does: the sampler draws it, its gradient goes through `fused`,
clip, sum and noise, and what was released along it is read where the optimizer reads. It has no text and
costs no forward pass.
Source: the Dirac canaries of Nasr et al. 2023 (arXiv 2302.07956), many at once as in Steinke et al. 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpaudit.errors import UsageError
from dpaudit.models.fused import FusedLora
from dpaudit.models.layout import Layout

if TYPE_CHECKING:
    from dpaudit.training.examples import Example, UnitExamples

SEQUENCES_MOST = 8  # of a canary: enough to tell units from rows, and small in memory
RAW_NORM = 1000.0  # of one sequence's gradient, in clips: what is not clipped shows


class Axis(Sequence["Example"]):
    """One canary as a unit: no examples, and the number of its coordinate."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 0

    @overload
    def __getitem__(self, index: int) -> "Example": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[Example]": ...
    def __getitem__(self, index: int | slice) -> "Example | Sequence[Example]":
        raise IndexError("an axis has no examples")


@dataclass(frozen=True, eq=False)
class Axes:
    """Coordinates of the trainable weights, one a canary, and the coins: secrets of the auditor."""

    places: tuple[tuple[str, int], ...]  # weight and place in it, flattened
    included: NDArray[np.bool_]  # (canaries,)
    sequences: int = 1  # of every canary, along one axis: 2 in a preference pair, more of a patient

    def units(self, others: "Sequence[UnitExamples]") -> "Sequence[UnitExamples]":
        """All units of a training: the others, then every canary that is in."""
        return _Together(others, [Axis(int(number)) for number in np.flatnonzero(self.included)])

    def gradients(self, axis: Axis, lora: FusedLora, clip: float) -> list[Tensor]:
        """The unclipped gradient of one canary, in parts (1, coordinates of the part), formed by the layers'
        own sum over sequences.
        """
        name, place = self.places[axis.number]
        weight = lora.parameters[name]
        row, column = divmod(place, weight.shape[1])
        of_row, of_column = (torch.zeros(self.sequences, n, device=weight.device) for n in weight.shape)
        of_row[:, row], of_column[:, column] = RAW_NORM * clip, 1.0
        low, wide = (of_column, of_row) if name in lora.layout.transposed else (of_row, of_column)
        with lora.collecting([0] * self.sequences, 1) as kept:
            lora.collect(name, low.T, wide, 1.0)
        return kept.parts()

    def coordinates(self, layout: Layout) -> Tensor:
        """Where all canaries, in or not, lie in a vector of all weights: shape (canaries,)."""
        return torch.tensor([layout.place(*place) for place in self.places])


class _Together(Sequence["UnitExamples"]):
    def __init__(self, others: "Sequence[UnitExamples]", axes: list[Axis]) -> None:
        self._others, self._axes = others, axes

    def __len__(self) -> int:
        return len(self._others) + len(self._axes)

    @overload
    def __getitem__(self, index: int) -> "UnitExamples": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[UnitExamples]": ...
    def __getitem__(self, index: int | slice) -> "UnitExamples | Sequence[UnitExamples]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._others[index] if index < len(self._others) else self._axes[index - len(self._others)]


def spread(
    parameters: dict[str, nn.Parameter], included: NDArray[np.bool_], sequences: int = 1, seed: int = 0
) -> Axes:
    """One coordinate of its own for every canary, as evenly over the weights as can be, drawn by the public
    `seed`.

    Raises UsageError for more canaries than a weight has coordinates for.
    """
    names = list(parameters)
    places: list[tuple[str, int]] = [("", 0)] * included.size
    for position, name in enumerate(names):
        mine = range(position, included.size, len(names))
        size = parameters[name].numel()
        if len(mine) > size:
            raise UsageError(
                "candidates.gradient",
                f"at most {size} canaries per trainable weight, as many as {name} has coordinates",
                f"{len(mine)}",
                "lower it, or raise training.lora.rank",
            )
        chosen = np.random.default_rng([seed, position]).choice(size, len(mine), replace=False)
        for number, place in zip(mine, chosen, strict=True):
            places[number] = (name, int(place))
    return Axes(tuple(places), included, sequences)
