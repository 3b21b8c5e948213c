"""Independent jobs, one after another or side by side in fresh processes, with their progress in one
place.
"""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from dpaudit.errors import GuardError, PartialError, UsageError
from dpaudit.system import faults, interrupts, libraries
from dpaudit.system.faults import FaultError
from dpaudit.system.progress import Advance, Progress

STOP_AGAIN = 5.0  # seconds
STOPS = 3  # before a job is killed
EXPECTED = (UsageError, PartialError, GuardError)  # the parent raises them as they are


@dataclass(frozen=True)
class Job:
    """A call `function(*arguments, advance)`; `function` is a module's own, so that another process can find
    it.
    """

    description: str
    total: int
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    after: str | None = None  # the description of a job that must be done first, if it is among them


def run(jobs: Sequence[Job], workers: int, progress: Progress, apart: bool = False) -> None:
    """Does all jobs, at most `workers` at once; with one worker, or one job, in this process unless `apart`.

    The first error ends the other jobs and is raised here; what jobs finished before that stays.
    """
    if not apart and (workers <= 1 or len(jobs) <= 1):
        for job in jobs:
            with progress.task(job.description, job.total) as advance:
                job.function(*job.arguments, advance)
        return
    waiting = list(jobs)
    running: dict[Connection, _Running] = {}
    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None  # PyTorch's own choice
    try:
        while waiting or running:
            while len(running) < max(1, workers) and (ready := _next(waiting, running.values())):
                waiting.remove(ready)
                started = _Running(ready, threads, progress)
                running[started.connection] = started
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                if running[connection].hear():
                    running.pop(connection).close()
    finally:
        for left in running.values():
            left.stop()


def _next(waiting: "Sequence[Job]", running: "Iterable[_Running]") -> "Job | None":
    """The first job that waits for no other; in the given order they could run one by one."""
    undone = {job.description for job in (*waiting, *(process.job for process in running))}
    return next((job for job in waiting if job.after not in undone), None)


class _Running:
    """One job in a process of its own; `connection` carries numbers of finished pieces, then how it ended."""

    def __init__(self, job: Job, threads: int | None, progress: Progress) -> None:
        context = multiprocessing.get_context("spawn")
        # the process unpacks it while it watches its parent, since unpacking imports for seconds
        packed = bytes(ForkingPickler.dumps(job))
        self.job = job
        self.connection, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(packed, threads, os.getpid(), theirs), daemon=True)
        self._stack = contextlib.ExitStack()
        self._advance: Advance = self._stack.enter_context(progress.task(job.description, job.total))
        resource_tracker.ensure_running()  # started below, it would let signals through
        with interrupts.deaf():
            self.process.start()
        theirs.close()

    def hear(self) -> bool:
        """Takes one message; True once the job is done. Raises what the job raised."""
        try:
            message = self.connection.recv()
        except EOFError:
            self.process.join()
            raise PartialError(
                f"{self.job.description}: expected the work to end, got a process that stopped with "
                f"{self.process.exitcode}; type the command again to continue"
            ) from None
        if isinstance(message, int):
            self._advance(message)
            return False
        if isinstance(message, Exception):
            raise message
        return True

    def close(self) -> None:
        self.process.join()
        self.connection.close()
        self._stack.close()  # shows that the job is done

    def stop(self) -> None:
        for _ in range(STOPS):
            self.process.terminate()  # SIGTERM interrupts the job: nothing half-made stays
            self.process.join(STOP_AGAIN)  # a library may have swallowed the signal
            if not self.process.is_alive():
                break
        else:
            self.process.kill()
            self.process.join()
        self.connection.close()
        self._stack.__exit__(InterruptedError, InterruptedError(), None)  # ends the task as not done


def _work(packed: bytes, threads: int | None, parent: int, connection: Connection) -> None:
    interrupts.end_with_parent(parent)
    code = 0
    with interrupts.heard():
        try:
            interrupts.listen()
            import torch

            libraries.hush()
            if threads is not None:
                torch.set_num_threads(threads)
            connection.send(outcome(ForkingPickler.loads(packed), connection.send))
        except KeyboardInterrupt:
            code = interrupts.CODE  # the parent says so; no traceback here
        interrupts.hear_no_more()
    sys.exit(code)


def outcome(
    job: Job, advance: Callable[[int], None], passing: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
) -> Exception | None:
    """The error that ended the job (a user's mistake, a guard, work left over, a fault of ours), or None.
    `passing` are raised.
    """
    try:
        job.function(*job.arguments, advance)
    except EXPECTED as error:
        return error
    except passing:
        raise
    except BaseException as error:  # noqa: BLE001 (the parent reports it: exit code 70)
        return FaultError(faults.report(error))
    return None
