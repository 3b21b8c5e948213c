"""How a command is ended from outside: Ctrl-C, a job queue's SIGTERM, a terminal that closes; and a parent
that dies.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CODE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEAF = 2.0  # seconds
LOOK = 0.5  # seconds between two looks at the parent
_came = False
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def heard() -> Iterator[None]:
    """Inside the block each of SIGNALS raises KeyboardInterrupt; what a shell ignores stays so (`nohup`).

    A signal within DEAF seconds of another is dropped: Ctrl-C reaches parent and workers, the parent signals
    its workers again, and the second signal would stop the cleanup after the first.
    """
    global _came
    last = -DEAF

    def interrupt(*_: object) -> None:
        nonlocal last
        global _came
        if time.monotonic() - last >= DEAF:
            last, _came = time.monotonic(), True
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        _came = False
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:
                signal.signal(number, handler)


def came() -> bool:
    """Whether this process was asked to end. The error that follows may be the interrupt under another name.

    Python up to 3.11 makes a RuntimeError of one that comes while a class is made, and Transformers a
    ModuleNotFoundError of that; other libraries lose it on the way through compiled code.
    """
    return _came


@contextmanager
def deaf() -> Iterator[None]:
    """A process started inside the block gets no signal before it listens: it would end with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen() -> None:
    """For a process that was started within `deaf`: signals that came since arrive now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def hear_no_more() -> None:
    """For a process that only has to clean up, which no signal may stop."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_with_parent(parent: int) -> None:
    """Ends this process when `parent`, which started it, ends in any way: on Linux by the system, elsewhere
    by a look now and then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # before the line above
        os._exit(CODE)
    threading.Thread(target=_watch, args=(parent,), name="dpaudit parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(CODE)
