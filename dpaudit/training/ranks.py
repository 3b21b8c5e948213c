"""Several processes that train one arm under `torchrun`: one draw of units and one draw of noise for all of
them.

The first process alone prepares, locks, writes and prints. A failure in the first process, or in all of them,
ends all at the same place, so that none waits without end; one of them reports it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from dpaudit.errors import GuardError, PartialError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
TOLD = (UsageError, PartialError, GuardError, OSError)  # the errors that a process may send to the others
PATIENCE = timedelta(seconds=20)  # for the process that failed first to report why


@dataclass(frozen=True)
class Ranks:
    """This process among `count`. The first one holds the secret generators; with one process nothing is
    sent.
    """

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
            from torch import distributed

            distributed.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[no-any-return]

    def once(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, the only one that runs it; all raise what it raises."""
        if self.count == 1:
            return work()
        value, error = _tried(work) if self.first else (None, None)
        value, failure = self.shared((value, error))
        if failure is not None:
            raise error or failure  # the first process raises its own, with its traceback
        return value  # type: ignore[return-value]

    def together(self, work: Callable[[], T]) -> T:
        """What `work` returns, done by every process; where it fails in one, all raise the lowest one's
        error.
        """
        if self.count == 1:
            return work()
        from torch import distributed

        value, error = _tried(work)
        errors: list[Exception | None] = [None] * self.count
        distributed.all_gather_object(errors, error)
        for rank, failure in enumerate(errors):
            if failure is not None:
                raise error if error is not None and rank == self.rank else failure
        return value  # type: ignore[return-value]

    def most(self, value: float) -> float:
        """The largest of all processes' values."""
        values = [value] * self.count
        if self.count > 1:
            from torch import distributed

            distributed.all_gather_object(values, value)
        return max(values)

    def add_up(self, parts: "Iterable[Tensor]") -> None:
        """Replaces every tensor by its sum over the processes."""
        if self.count > 1:
            from torch import distributed

            for part in parts:
                distributed.all_reduce(part)

    def wait(self) -> None:
        if self.count > 1:
            from torch import distributed

            distributed.barrier()


def count() -> int:
    """How many processes `torchrun` started; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_one_device() -> int:
    """How many of these processes train on one device: on accelerators each has its own."""
    import torch

    return 1 if torch.cuda.is_available() else int(os.environ.get("LOCAL_WORLD_SIZE", count()))


def leads() -> bool:
    """Whether this process is the one that prints: the first, or the only one."""
    return count() == 1 or int(os.environ.get("RANK", "0")) == 0


def of_environment() -> Ranks:
    """The processes that `torchrun` started, joined; one process where it did not."""
    if count() == 1:
        return Ranks()
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            here, devices = int(os.environ.get("LOCAL_WORLD_SIZE", count())), torch.cuda.device_count()
            if here > devices:
                raise UsageError(
                    "torchrun",
                    "at most one process per GPU",
                    f"{here} processes for {devices} GPUs",
                    f"--nproc-per-node {devices}, or CUDA_VISIBLE_DEVICES= to train on the processor",
                )
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def leave() -> None:
    """Leaves what `of_environment` joined; does nothing without it."""
    if count() > 1:
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


def fail(tell: Callable[[], None]) -> None:
    """Calls `tell` in the process that fails first; in the others, waits until it was called.

    When a process ends, `torchrun` ends the others: its report must come first.
    """
    if count() == 1:
        tell()
        return
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(iter(rendezvous("env://")))
    if store.add("dpaudit/failed", 1) == 1:
        tell()
        store.set("dpaudit/told", "yes")
    else:
        store.wait(["dpaudit/told"], PATIENCE)


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What `work` returned or raised, if that error is one of TOLD; any other error is a bug and passes
    through.
    """
    try:
        return work(), None
    except TOLD as error:
        return None, error
