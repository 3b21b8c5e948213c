"""Somebody's data set with canaries behind its rows, and which rows each batch was made of."""

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset

from dpaudit.errors import UsageError
from dpaudit.observing.given import check_data

SEQUENCES_MOST = 8  # rows of gradients for one row of the data: 2 of a preference pair
WORKERS = "rows that this process fetched from the data of dpaudit.observe"


class RowsByNumber(Protocol):
    """Data with a length and rows by number, as `torch.utils.data.Dataset` and `datasets.Dataset` are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class ObservedRows(Dataset[Any]):
    """The rows of a data set in their places, then copies of one row: the canaries that are in.

    A loader asks for all rows of a batch in one call and in their order. So whatever a collator makes of
    them, their places in the batch are known, as long as batches are trained on in the order in which they
    were fetched.
    """

    def __init__(self, data: Any, canaries: int, row: Any = None) -> None:
        self.data, self.canaries = data, canaries
        self.rows = rows_of(data)
        self._row = row
        self.draws: NDArray[np.int64] = np.zeros(len(self), dtype=np.int64)  # since `taken`
        self.sequences = 0  # rows of gradients for one row of the data; 0 before the first batch
        self._fetched: deque[list[int]] = deque()

    def __len__(self) -> int:
        return self.rows + self.canaries

    def __getitem__(self, index: int) -> Any:
        place = range(len(self))[index]
        if place < self.rows:
            return self.data[place]
        return copy.deepcopy(self.data[0] if self._row is None else self._row)  # a collator may change it

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The rows of one batch, which is remembered."""
        places = [int(index) for index in indices]
        if torch.utils.data.get_worker_info() is None:
            self._fetched.append(places)
        real = [place for place in places if place < self.rows]
        many = getattr(self.data, "__getitems__", None)
        found = iter(many(real) if many and real else [self.data[place] for place in real])
        return [next(found) if place < self.rows else self[place] for place in places]

    def passed(self, count: int) -> None:
        """Forgets the oldest batch where it has so many rows: they were asked in evaluation mode."""
        if self._fetched and len(self._fetched[0]) == count:
            self._fetched.popleft()

    def taken(self) -> NDArray[np.int64]:
        """How often every row was drawn since the last call, (rows,)."""
        now, self.draws = self.draws, np.zeros_like(self.draws)
        return now

    def forget(self) -> None:
        """Forgets all batches: nobody sees whose gradients a step has."""
        self._fetched.clear()

    def trained(self, gradients: int) -> list[int]:
        """The rows of the batch whose gradients came now, in its order.

        Raises UsageError where their number does not fit: then nobody knows whose gradient is whose.
        """
        while self._fetched:
            batch = self._fetched.popleft()
            if not batch and (gradients > 1 or self._is_next(gradients)):
                continue  # an empty batch that the loop left out
            if not batch and gradients <= 1:  # Opacus can put one random row in the place of none
                return batch
            if not self.sequences and gradients and gradients % len(batch) == 0:
                self.sequences = gradients // len(batch)
            if gradients != self.sequences * len(batch) or self.sequences > SEQUENCES_MOST:
                raise _refused(f"{gradients} for a batch of {len(batch)}")
            self.draws += np.bincount(batch, minlength=len(self))
            return batch
        if gradients == 0:
            return []
        raise UsageError(
            "dpaudit.observe",
            WORKERS,
            f"{gradients} rows of another loader",
            "train on the data that dpaudit.observe returned, with num_workers=0, and attach before the loop",
        )

    def _is_next(self, gradients: int) -> bool:
        return bool(gradients and self._fetched and len(self._fetched[0]) == gradients)


def rows_of(data: Any) -> int:
    """How many rows a data set has. Raises UsageError for one without a number of rows."""
    check_data(data)
    if isinstance(data, IterableDataset) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise UsageError(
            "dpaudit.observe",
            "a data set with a length and rows by number",
            "a stream of rows",
            "Poisson sampling needs every row by its number: load the rows into a list",
        )
    if isinstance(data, ObservedRows):
        raise UsageError("dpaudit.observe", "a data set without canaries", "one that is observed already")
    if len(data) < 1:
        raise UsageError("dpaudit.observe", "a data set with rows", "an empty data set")
    return len(data)


def _refused(got: str) -> UsageError:
    return UsageError(
        "dpaudit.observe",
        "a gradient for every row that was fetched",
        got,
        "the collator or the loop dropped rows, or left batches out: train on each batch as it was fetched",
    )
