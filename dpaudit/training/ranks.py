"""Several processes that train one arm under `torchrun`: one draw of units and one draw of noise for all of them."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `count`. The first one holds the secret generators; with one process nothing is sent."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mine(self, drawn: Sequence[T]) -> Sequence[T]:
        """This process's part of the units of a step, which may be empty."""
        return drawn[self.rank :: self.count]

    def shared(self, value: T | None) -> T:
        """The first process's `value`, on every process."""
        box: list[Any] = [value]
        if self.count > 1:
            distributed.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[no-any-return]

    def add_up(self, parts: Iterable[Tensor]) -> None:
        """Replaces every tensor by its sum over the processes."""
        if self.count > 1:
            for part in parts:
                distributed.all_reduce(part)

    def from_first(self, parts: Iterable[Tensor]) -> None:
        """Replaces every tensor by the first process's."""
        if self.count > 1:
            for part in parts:
                distributed.broadcast(part, src=0)

    def wait(self) -> None:
        if self.count > 1:
            distributed.barrier()


def of_environment() -> Ranks:
    """The processes that `torchrun` started, joined; one process where it did not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    if not distributed.is_initialized():
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if on_gpu else "gloo")
    return Ranks(distributed.get_rank(), count)
