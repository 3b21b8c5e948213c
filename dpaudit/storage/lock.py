"""A lock beside what it guards, on the same file system: it holds between processes, containers and hosts.

    runs/.NAME.train.lock/TOKEN    who holds it, as JSON; its time of change is renewed every few seconds

The folder comes into place by one rename, which succeeds only where there is no lock, or an empty folder. A
stale lock is broken by removing TOKEN, a name that no other holder has. So of two processes that find it
stale at most one gets it, and nobody loses a new lock.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dpaudit.errors import PartialError, UsageError
from dpaudit.storage import disk

BEAT = 5.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without a sign of life until a holder elsewhere counts as dead
TRIES = 20  # while the lock changes hands


@dataclass(frozen=True)
class Holder:
    """A process. Its number means the same process only on its `machine`, and only while `started` is the
    same.
    """

    host: str
    machine: str
    pid: int
    started: str


@dataclass(frozen=True)
class Lease:
    """A holder as its file names it (None: the file names none), and the seconds since its last sign of
    life.
    """

    token: str
    holder: Holder | None
    silent: float


@contextmanager
def held(path: Path, work: str = "") -> Iterator[None]:
    """Keeps other processes from the same `work` on `path`, which need not be there yet.

    The lock of a holder that died on this machine is taken at once; that of a holder elsewhere (another host,
    another container), after PATIENCE seconds without a sign of life. If another process takes this one for
    dead, the block is interrupted. Raises UsageError where another is at work, and where the folder of `path`
    takes no lock.
    """
    folder = path.absolute().parent
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            str(path.parent),
            "a folder",
            "a file",
            "name another place, or move the file away",
        )
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = _place(path, work)
    token = secrets.token_hex(8)  # known before the lock is: a signal may come as soon as it is taken
    beat = _Beat(lock / token)
    try:
        try:
            try:
                with disk.room(path.parent):
                    folder.mkdir(parents=True, exist_ok=True)
                    _take(lock, path, token)
            except UsageError:
                made.clear()  # the process at work there may need them
                raise
            beat.start()
            yield
        finally:
            _let_go(lock, token, beat, made)
    except KeyboardInterrupt:
        _let_go(lock, token, beat, made)  # once more: it may be what was broken off
        if not beat.lost:
            raise
        raise PartialError(
            f"{path}: expected this process to keep its lock, got a lock that was lost: it gave no sign "
            f"of life for {PATIENCE:.0f} s, and another process may be at work; once that ends, the same "
            f"command continues"
        ) from None


def is_held(path: Path, work: str = "") -> bool:
    """Whether a process is at this `work` on `path` now. Takes and writes nothing."""
    lease = _lease(_place(path, work), time.time())
    return lease is not None and not is_dead(lease)


def _place(path: Path, work: str) -> Path:
    """The lock's own folder."""
    return path.absolute().with_name(f".{path.name}.{work}.lock" if work else f".{path.name}.lock")


def _let_go(lock: Path, token: str, beat: "_Beat", made: Sequence[Path]) -> None:
    """Removes what `held` put there, however much of it there is; may be called again."""
    beat.stop()
    shutil.rmtree(_prepared(lock, token), ignore_errors=True)
    _remove(lock, token)
    with contextlib.suppress(OSError):  # something is in it
        for place in made:
            place.rmdir()


def _prepared(lock: Path, token: str) -> Path:
    """Where a lock's folder is made before it gets its name."""
    return lock.with_name(f"{lock.name}.{token}.tmp")


def _take(lock: Path, path: Path, token: str) -> None:
    """Puts `token` into `lock`, which shows that this process holds it. A failure leaves nothing behind."""
    for _ in range(TRIES):
        if lock.is_symlink() or (lock.exists() and not lock.is_dir()):
            raise UsageError(
                str(lock), "nothing, or a lock of dpaudit, which is a folder", "a link or a file", "remove it"
            )
        prepared = _prepared(lock, token)
        now = _prepare(prepared, token)
        with contextlib.suppress(OSError):
            prepared.rename(lock)
        if (lock / token).exists():  # NFS may report a failure of a rename that worked
            for left in lock.parent.glob(f"{lock.name}.*.tmp"):
                shutil.rmtree(left, ignore_errors=True)
            return
        shutil.rmtree(prepared, ignore_errors=True)
        lease = _lease(lock, now)
        if lease is not None and not is_dead(lease):
            raise _refused(path, lease)
        _remove(lock, lease.token if lease else None)
    raise UsageError(
        str(path), "nobody else at work on it", "a lock that changes hands", "type the command again"
    )


def _prepare(folder: Path, token: str) -> float:
    """Makes the lock's folder under a name of its own; the time by the clock of the file system."""
    for left in reversed(range(TRIES)):
        try:
            folder.mkdir(mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(folder / token, flags, 0o600), "w", encoding="utf-8") as stream:
                json.dump(asdict(here()), stream)
            return (folder / token).stat().st_mtime
        except FileNotFoundError:  # the new holder of the lock sweeps this folder
            shutil.rmtree(folder, ignore_errors=True)
            if not left or not folder.parent.is_dir():  # or a file system that takes no folder, such as /proc
                raise
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    raise AssertionError("the last try raises")


def _lease(lock: Path, now: float) -> Lease | None:
    """Who holds `lock`; None where nobody does."""
    with contextlib.suppress(FileNotFoundError):
        for token in sorted(os.listdir(lock)):
            if token.startswith(".nfs"):  # what NFS keeps of a removed file while somebody reads it
                continue
            with (lock / token).open(encoding="utf-8") as stream:  # opening it makes NFS ask the server
                return Lease(token, _holder(stream.read()), now - os.fstat(stream.fileno()).st_mtime)
    return None


def _holder(text: str) -> Holder | None:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def is_dead(lease: Lease) -> bool:
    """Whether the holder has ended: by looking, on its own machine; else by its silence."""
    holder = lease.holder
    if holder is None or holder.machine != here().machine:
        return lease.silent > PATIENCE
    started = _started(holder.pid)
    if started is None:
        return True
    if holder.started and started:
        return started != holder.started  # the number was given to another process
    return lease.silent > PATIENCE


def _remove(lock: Path, token: str | None) -> None:
    """Removes the holder of this token, and the folder if nobody else has taken the lock."""
    with contextlib.suppress(OSError):
        if token is not None:
            (lock / token).unlink()
    with contextlib.suppress(OSError):
        lock.rmdir()


def _refused(path: Path, lease: Lease) -> UsageError:
    holder = lease.holder
    if holder is None:
        who, how = "another dpaudit", f"its last sign of life came {max(0, lease.silent):.0f} s ago"
    else:
        who, how = (
            f"another dpaudit, process {holder.pid} on {holder.host}",
            f"or end it there: kill {holder.pid}",
        )
    if holder is None or holder.machine != here().machine:
        how += f"; the lock of a dead holder is free after {PATIENCE:.0f} s"
    return UsageError(str(path), "nobody else at work on it", who, f"wait for it to end, {how}")


def here() -> Holder:
    """This process. Its machine is named by the boot of the system and the namespace of process numbers."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        machine = f"{boot.read_text(encoding='ascii').strip()} {space.readlink()}"
    except OSError:  # not Linux
        machine = socket.gethostname()
    return Holder(socket.gethostname(), machine, os.getpid(), _started(os.getpid()) or "")


def _started(pid: int) -> str | None:
    """When a process of this machine began, as the system counts; "" where that is unknown; None where no
    process runs.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not there, not Linux, or another user's where those are hidden
        return "" if _exists(pid) else None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]  # a zombie has ended, even before its parent waits


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


class _Beat(threading.Thread):
    """Renews the lock's time of change until `stop`; where the lock is gone, another process took it,
    and this one is interrupted.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(name="dpaudit lock", daemon=True)
        self.file, self.lost = file, False
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                os.utime(self.file)
            except FileNotFoundError:
                self.lost = True
                _interrupt()
                return
            except OSError:  # a file server that is away for a moment
                continue

    def stop(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join()


def _interrupt() -> None:
    """Interrupts the main thread by a signal that it handles."""
    heeded = next(
        (number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))), None
    )
    if heeded is not None and (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, heeded)
