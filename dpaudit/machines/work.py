"""What a worker on another machine does: it checks that it sees the run, then does one job."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from dpaudit import __version__
from dpaudit.errors import PartialError, UsageError
from dpaudit.storage import lock
from dpaudit.system import interrupts, libraries, parallel

NONCE = "nonce"  # file in the folder of a call
TELL = 1.0  # seconds between two notes of progress
LOOK = 2.0  # seconds between two looks whether the call that sent the job goes on
GRACE = 30.0  # seconds for a job to tidy up once it was interrupted
PASSING = (KeyboardInterrupt, SystemExit)  # a cancelled job; one that submitit puts back into the queue


@dataclass(frozen=True)
class Order:
    """A job as it is sent. All paths are absolute.

    `folder` is the call's own, in the run directory, and holds `nonce` in NONCE while the call goes on;
    `number` names the job in it. `packed` is the pickled Job; nothing to do but to look, where it is empty.
    `threads`: None for as many as Slurm gives cores.
    """

    packed: bytes
    title: str
    number: int
    folder: Path
    lock: Path
    nonce: str
    here: Path
    environment: dict[str, str]
    threads: int | None = None
    version: str = __version__

    @property
    def told(self) -> Path:
        """The file in which the worker counts finished pieces."""
        return self.folder / f"done-{self.number}"


def perform(order: Order) -> Exception | None:
    """Does the job; the error that ended it, or None.

    A worker that does not see the run directory, or has another dpaudit, does nothing. While another worker
    is at the same job (one that was taken for dead, or that a killed command left), this one waits for it.
    """
    try:
        _check(order)
        os.chdir(order.here)
    except UsageError as error:
        return error
    if not order.packed:
        return None
    os.environ.update(order.environment)
    libraries.hush()
    interrupts.listen()  # Ray starts its workers deaf
    try:
        with _while_wanted(order), ExitStack() as stack:
            _take(order, stack)
            return _done(order)
    except (UsageError, PartialError) as error:
        return error


def _done(order: Order) -> Exception | None:
    import torch

    if threads := order.threads or int(os.environ.get("SLURM_CPUS_PER_TASK", 0)):
        torch.set_num_threads(threads)
    done, told = 0, 0.0
    order.told.write_text("0")

    def advance(n: int = 1) -> None:
        nonlocal done, told
        done += n
        if time.monotonic() - told >= TELL:
            told = time.monotonic()
            with suppress(OSError):  # a file server that is away for a moment
                order.told.write_text(str(done))

    return parallel.outcome(ForkingPickler.loads(order.packed), advance, PASSING)


def _check(order: Order) -> None:
    """Raises UsageError where this machine does not see what the command sees, or has another dpaudit."""
    where = f"a worker on {socket.gethostname()}"
    if order.version != __version__:
        raise UsageError(
            where, f"dpaudit {order.version}", f"dpaudit {__version__}", "install the same version everywhere"
        )
    shared = "a folder that all workers share"
    if _nonce(order) != order.nonce:
        raise UsageError(
            where,
            f"{order.lock.parent}, {shared}",
            "another folder or none",
            "name a folder on a shared file system with --runs DIR",
        )
    if not order.here.is_dir():
        raise UsageError(
            where,
            f"{order.here}, {shared}",
            "no such folder",
            "type the command in a folder on a shared file system",
        )


def _nonce(order: Order) -> str | None:
    try:
        return (order.folder / NONCE).read_text()
    except OSError:
        return None


def _take(order: Order, stack: ExitStack) -> None:
    """Holds the job's lock until `stack` ends. A worker that died elsewhere loses it after lock.PATIENCE."""
    until = time.monotonic() + 2 * lock.PATIENCE
    while True:
        try:
            stack.enter_context(
                lock.held(order.lock, "".join(c if c.isalnum() else "-" for c in order.title))
            )
            return
        except UsageError:
            if time.monotonic() > until:
                raise
            time.sleep(1)


@contextmanager
def _while_wanted(order: Order) -> Iterator[None]:
    """Interrupts the block once the call that sent the job is gone: a later call sends it again."""
    ended, main = threading.Event(), threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while not ended.wait(LOOK):
            if not (order.folder / NONCE).exists() and order.lock.parent.exists():
                for _ in range(2):  # an interrupt that falls into a finalizer is ignored
                    signal.pthread_kill(main, signal.SIGINT)
                    if ended.wait(GRACE / 2):
                        return
                os._exit(1)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as under nohup, or where a shell started the worker in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=watch, name="dpaudit call", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
