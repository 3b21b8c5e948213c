"""The processes of one training: what the first one draws all know, and what each counts is added up."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from dpaudit.errors import UsageError

T = TypeVar("T")


class Ranks:
    """The processes as they are when this is made: one, where torch.distributed was not begun."""

    def __init__(self) -> None:
        begun = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.count = torch.distributed.get_world_size() if begun else 1
        self.first = not begun or torch.distributed.get_rank() == 0

    def of_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them; its UsageError is raised in all of them too."""
        made: list[T | UsageError | None] = [None]
        if self.first:
            try:
                made[0] = make()
            except UsageError as error:
                made[0] = error
        if self.count > 1:
            torch.distributed.broadcast_object_list(made, src=0)
        if isinstance(made[0], UsageError):
            raise made[0]
        return made[0]  # type: ignore[return-value]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            values = values.clone()
            torch.distributed.all_reduce(values)
        return values
