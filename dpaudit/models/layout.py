"""All trainable weights in one flat vector, and the gradients of units in that order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby

import torch
from torch import Tensor, nn

PART_BYTES = 2**24  # of the gradients of all units; see `UnitGradients`


@dataclass(frozen=True)
class Layout:
    """The order of the weights' coordinates in a vector (coordinates,)."""

    shapes: dict[str, tuple[int, ...]]  # by weight
    transposed: frozenset[str] = frozenset()  # weights that lie in the vector as their transpose

    @staticmethod
    def of(parameters: Mapping[str, nn.Parameter], transposed: frozenset[str] = frozenset()) -> "Layout":
        return Layout({name: tuple(p.shape) for name, p in parameters.items()}, transposed)

    @cached_property
    def sizes(self) -> list[int]:
        return [torch.Size(shape).numel() for shape in self.shapes.values()]

    @property
    def coordinates(self) -> int:
        return sum(self.sizes)

    def parts(self, length: int) -> list[list[str]]:
        """The weights in parts of about `length` coordinates, none of which is cut."""
        return [
            list(names) for _, names in groupby(self.shapes, key=lambda name: self.starts[name] // length)
        ]

    def views(self, vectors: Tensor) -> dict[str, Tensor]:
        """(..., coordinates) as {weight: (..., *shape)}, without a copy. Raises ValueError for another
        length.
        """
        if vectors.shape[-1] != self.coordinates:
            raise ValueError(f"expected {self.coordinates} coordinates, got {vectors.shape[-1]}")
        found = {}
        for (name, shape), part in zip(
            self.shapes.items(), torch.split(vectors, self.sizes, dim=-1), strict=True
        ):
            turned = name in self.transposed
            view = part.view(*vectors.shape[:-1], *(shape[::-1] if turned else shape))
            found[name] = view.mT if turned else view
        return found

    def vector(self, named: Mapping[str, Tensor]) -> Tensor:
        """One tensor a weight, all in one vector (coordinates,), as a copy in float32."""
        found = torch.empty(self.coordinates, device=next(iter(named.values())).device)
        torch._foreach_copy_(list(self.views(found).values()), [named[name] for name in self.shapes])
        return found

    @cached_property
    def starts(self) -> dict[str, int]:
        return dict(zip(self.shapes, accumulate(self.sizes, initial=0), strict=False))

    def place(self, name: str, index: int) -> int:
        """Where the coordinate `index` of the flattened weight lies in the vector."""
        start = self.starts[name]
        if name not in self.transposed:
            return start + index
        rows, columns = self.shapes[name]
        row, column = divmod(index, columns)
        return start + column * rows + row


class UnitGradients:
    """The gradients of `units` units in float32, summed over each unit's rows.

    They take 4 bytes x units x coordinates, in parts (units, coordinates of the part) of about PART_BYTES, so
    that a few launches do for all. A part is allocated when a layer first writes there. A backward pass
    frees activations as it fills parts, so that the peak of memory hardly moves where activations are larger.
    Row i belongs to unit `unit_of_row[i]`; without it all rows belong to one unit. Rows are summed by matrix
    products, in a fixed order on any device.
    """

    def __init__(
        self, layout: Layout, units: int, unit_of_row: Sequence[int] | None, device: torch.device
    ) -> None:
        self.units, self._layout, self._device = units, layout, device
        self._names = layout.parts(max(1, PART_BYTES // (4 * units)))
        self._part_of = {name: number for number, names in enumerate(self._names) for name in names}
        self._parts: list[Tensor | None] = [None] * len(self._names)
        self._unwritten: dict[str, Tensor] = {}  # weight -> (units, coordinates of the weight)
        self._written: dict[str, Tensor] = {}
        self._rows, self._mixing = units, None
        if unit_of_row is not None and not _even(unit_of_row, units):
            self._rows = len(unit_of_row)
            self._mixing = torch.eye(units)[:, list(unit_of_row)].to(device)  # (units, rows)

    def add(self, name: str, low: Tensor, wide: Tensor, scaling: float = 1.0) -> None:
        """Adds scaling * low wide, (rank, tokens of all rows) and (tokens of all rows, n), to each row's
        unit.
        """
        again = name in self._written
        target = self._target(name)
        left = low.view(len(low), self._rows, -1).transpose(0, 1)  # (rows, rank, tokens)
        right = wide.view(self._rows, -1, wide.shape[1])  # (rows, tokens, n)
        shape = (len(left), left.shape[1], right.shape[2])
        if self._mixing is None:
            multiply(target.view(shape), left, right, scaling, again)
            return
        rows = torch.empty(shape, device=self._device)
        multiply(rows, left, right, scaling, False)
        target.addmm_(self._mixing, rows.flatten(1), beta=float(again))

    def parts(self) -> list[Tensor]:
        """Every part; where no layer wrote, zeros."""
        for number in range(len(self._parts)):
            self._allocate(number)
        for piece in self._unwritten.values():
            piece.zero_()
        self._unwritten.clear()
        return [part for part in self._parts if part is not None]

    def named(self) -> dict[str, Tensor]:
        """{weight: (units, *shape)}"""
        return self._layout.views(torch.cat(self.parts(), dim=1))

    def _target(self, name: str) -> Tensor:
        if name not in self._written:
            self._allocate(self._part_of[name])
            self._written[name] = self._unwritten.pop(name)
        return self._written[name]

    def _allocate(self, number: int) -> None:
        if self._parts[number] is None:
            names = self._names[number]
            sizes = [torch.Size(self._layout.shapes[name]).numel() for name in names]
            made = torch.empty(self.units, sum(sizes), device=self._device)
            self._parts[number] = made
            self._unwritten.update(zip(names, torch.split(made, sizes, dim=1), strict=True))


def _even(unit_of_row: Sequence[int], units: int) -> bool:
    """Whether every unit has as many rows as the others, in order."""
    each = len(unit_of_row) // units
    return list(unit_of_row) == [unit for unit in range(units) for _ in range(each)]


def multiply(target: Tensor, left: Tensor, right: Tensor, scaling: float, add: bool) -> None:
    """Writes scaling * left right into `target`, or adds it; the matrices of a batch, in float32.

    A GPU reads `right` in half precision as it is and adds up in float32; a processor needs a copy.
    """
    if right.is_cuda and right.dtype != torch.float32:
        product = torch.bmm(left.to(right.dtype), right, out_dtype=torch.float32)
        target.add_(product, alpha=scaling) if add else torch.mul(product, scaling, out=target)
    else:
        target.baddbmm_(left.float(), right.float(), beta=float(add), alpha=scaling)
