"""Jobs of a stage on other machines. An engine schedules them; here is only which job waits for which."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol

from dpaudit.machines.place import Place
from dpaudit.machines.work import NONCE, Order
from dpaudit.storage.rundir import RunDir
from dpaudit.system import egress
from dpaudit.system.parallel import Job
from dpaudit.system.progress import Advance, Progress

POLL = 0.5  # seconds


class Engine(Protocol):
    """What is asked of Ray and of submitit."""

    @property
    def threads(self) -> int | None: ...  # of a job; None: what the engine gives
    def look(self, order: Order) -> None: ...
    def submit(self, order: Order) -> Any: ...
    def ended(self, order: Order, handle: Any) -> bool: ...
    def cancel(self, handles: Sequence[Any]) -> None: ...
    def close(self) -> None: ...


@dataclass
class _Running:
    job: Job
    order: Order
    handle: Any
    advance: Advance
    stack: ExitStack  # ends its task of the progress
    done: int = 0

    def tell(self) -> None:
        """Shows what the worker has counted; a worker that took over begins again below it."""
        with suppress(OSError, ValueError):
            if (done := int(self.order.told.read_text())) > self.done:
                self.advance(done - self.done)
                self.done = done


def run(
    jobs: Sequence[Job],
    place: Place,
    run_dir: RunDir,
    beside: str,
    progress: Progress,
    light: bool,
) -> None:
    """Does all jobs of a run at `place`. What a job names is in the run directory, which its workers share.

    The files of this call lie beside `beside` in the run while it goes on, and jobs of a call that was killed
    end when a later one has swept them. The first error cancels the other jobs and is raised here; what jobs
    finished before that stays. `light`: a job keeps one core busy and no more.
    """
    with run_dir.work_folder(beside) as folder:
        order = _order(run_dir, folder.absolute())
        with _engine(place, folder.absolute(), light, progress.say) as engine:
            engine.look(order)
            _run(jobs, replace(order, threads=engine.threads), engine, progress)


def _order(run_dir: RunDir, folder: Path) -> Order:
    """What is the same for all jobs of a call; nothing to do but to look."""
    nonce = secrets.token_hex(16)
    (folder / NONCE).write_text(nonce)
    closed = {name: os.environ[name] for name in egress.NAMES if name in os.environ}
    return Order(
        b"",
        "looking for the run",
        0,
        folder,
        run_dir.path.absolute() / "elsewhere",
        nonce,
        Path.cwd(),
        closed,
    )


@contextmanager
def _engine(place: Place, folder: Path, light: bool, say: Callable[[str], None]) -> Iterator[Engine]:
    engine: Engine
    if place.engine == "ray":
        from dpaudit.machines.on_ray import OnRay

        engine = OnRay(place, light, say)
    else:
        from dpaudit.machines import on_slurm

        engine = on_slurm.OnSlurm(on_slurm.executor_of(place, folder / "submitit", light))
    try:
        yield engine
    finally:
        engine.close()


def _run(jobs: Sequence[Job], order: Order, engine: Engine, progress: Progress) -> None:
    waiting, running = list(enumerate(jobs, 1)), list[_Running]()
    try:
        while waiting or running:
            undone = {job.description for _, job in waiting} | {one.job.description for one in running}
            for number, job in [(number, job) for number, job in waiting if job.after not in undone]:
                waiting.remove((number, job))
                running.append(_submitted(job, number, order, engine, progress))
            time.sleep(POLL)
            for one in list(running):
                one.tell()
                if engine.ended(one.order, one.handle):
                    running.remove(one)
                    one.stack.close()  # shows that the job is done
    finally:
        try:
            if running:  # workers that see it gone tidy up and end
                (order.folder / NONCE).unlink(missing_ok=True)
            engine.cancel([one.handle for one in running])
        finally:
            for one in running:
                one.stack.__exit__(InterruptedError, InterruptedError(), None)  # ends the task as not done


def _submitted(job: Job, number: int, order: Order, engine: Engine, progress: Progress) -> _Running:
    packed = bytes(ForkingPickler.dumps(job))
    own = replace(order, packed=packed, title=job.description, number=number)
    handle = engine.submit(own)
    stack = ExitStack()
    return _Running(job, own, handle, stack.enter_context(progress.task(job.description, job.total)), stack)
