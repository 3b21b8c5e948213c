"""The lock beside what it guards: one holder at a time, a dead one is followed, nothing is written through a
link.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dpaudit.errors import PartialError, UsageError
from dpaudit.storage import lock
from dpaudit.storage.lock import Holder

ROOT = str(Path(lock.__file__).parents[2])


def leave(path: Path, holder: Holder | None, silent: float = 0.0) -> Path:
    """A lock of `path` that another process holds, or held."""
    place = path.with_name(f".{path.name}.lock")
    place.mkdir(parents=True)
    file = place / "0123456789abcdef"
    file.write_text(json.dumps(asdict(holder)) if holder else "no holder's")
    os.utime(file, (time.time() - silent,) * 2)
    return file


def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def taken(path: Path) -> bool:
    try:
        with lock.held(path):
            return True
    except UsageError:
        return False


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    told = (
        rf"process {os.getpid()} on {socket.gethostname()}; wait for it to end, or end it there: kill "
        rf"{os.getpid()}"
    )
    with lock.held(path):
        with pytest.raises(UsageError, match=told), lock.held(path):
            pass
        assert taken(tmp_path / "runs" / "two")
        with lock.held(path, "other work"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_who_died_on_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    me = lock.here()
    for dead in (replace(me, pid=ended()), replace(me, started="1")):  # gone, or its number given to another
        leave(tmp_path / "run", dead)
        assert taken(tmp_path / "run")


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    """In a container whose first process collects nobody, it stays for ever."""
    process = subprocess.Popen(["sleep", "60"])
    started = lock._started(process.pid)
    assert started
    leave(tmp_path / "run", replace(lock.here(), pid=process.pid, started=started))
    assert not taken(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert taken(tmp_path / "run")
    process.wait()


def test_who_runs_where_the_system_tells_no_more_is_alive_while_there_are_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's process where those are hidden, and any where there is no /proc."""
    hidden = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, **options: hidden(path if path.name != "stat" else path / "no", **options),
    )
    assert (lock._started(os.getpid()), lock._started(ended())) == ("", None)
    file = leave(tmp_path / "run", replace(lock.here(), started="1"))
    assert not taken(tmp_path / "run")
    os.utime(file, (time.time() - lock.PATIENCE - 1,) * 2)
    assert taken(tmp_path / "run")


@pytest.mark.parametrize("is_known", [True, False])
def test_who_cannot_be_looked_at_is_dead_after_some_missed_beats(is_known: bool, tmp_path: Path) -> None:
    """Another host, another container, or a file that tells nothing; its number means nothing here."""
    other = Holder("elsewhere", "another boot", ended(), "1") if is_known else None
    file = leave(tmp_path / "run", other, silent=lock.PATIENCE - 10)
    with (
        pytest.raises(UsageError, match="the lock of a dead holder is free after 60 s"),
        lock.held(tmp_path / "run"),
    ):
        pass
    os.utime(file, (time.time() - lock.PATIENCE - 1,) * 2)
    assert taken(tmp_path / "run")


def test_another_space_of_process_numbers_is_another_machine(tmp_path: Path) -> None:
    """Two containers of one host have one boot id, and each a process 7."""
    show = (
        "import json; from dataclasses import asdict; from dpaudit.storage import lock; "
        "print(json.dumps(asdict(lock.here())))"
    )
    inside = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            sys.executable,
            "-c",
            show,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ROOT},
    )
    if inside.returncode:
        pytest.skip(f"no namespaces here: {inside.stderr.strip()}")
    found, me = Holder(**json.loads(inside.stdout)), lock.here()
    assert found.host == me.host and found.machine.split()[0] == me.machine.split()[0]
    leave(tmp_path / "run", found)
    assert found.machine != me.machine and not taken(tmp_path / "run")


def test_a_beat_renews_the_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with lock.held(tmp_path / "run"):
        [file] = (tmp_path / ".run.lock").iterdir()
        os.utime(file, (1, 1))
        deadline = time.monotonic() + 5
        while file.stat().st_mtime == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > 1


def test_who_was_given_up_for_dead_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background work ignores it
    try:
        with (
            pytest.raises(PartialError, match="expected this process to keep its lock"),
            lock.held(tmp_path / "run"),
        ):
            [file] = (tmp_path / ".run.lock").iterdir()
            file.unlink()
            theirs = leave(tmp_path / "later", lock.here())  # who broke it
            (tmp_path / ".run.lock").rmdir()
            theirs.parent.rename(tmp_path / ".run.lock")
            time.sleep(10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / ".run.lock" / theirs.name).is_file()  # theirs stays


def test_of_many_that_find_a_dead_holder_one_at_a_time_gets_in(tmp_path: Path) -> None:
    """Twelve processes, each of which tries until it was in; whoever is in finds nobody else's mark."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom dpaudit.storage import lock\nfrom dpaudit.errors "
        "import UsageError\n"
        "mark, run = Path(sys.argv[1]) / 'mark', Path(sys.argv[1]) / 'run'\n"
        "for _ in range(100000):\n"
        "    try:\n"
        "        with lock.held(run):\n"
        "            mark.open('x').close()\n            time.sleep(.002)\n            mark.unlink()\n"
        "            import os; os._exit(0)\n"  # and is dead, with its lock
        "    except UsageError:\n        pass\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    many = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ROOT}) for _ in range(12)]
    assert [process.wait(timeout=60) for process in many] == [0] * 12


def test_a_link_is_refused_and_what_it_points_to_stays(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    for made in (target, tmp_path / "nothing"):
        link = tmp_path / ".run.lock"
        link.symlink_to(made)
        with pytest.raises(UsageError, match="got a link or a file; remove it"), lock.held(tmp_path / "run"):
            pass
        link.unlink()
    assert target.read_text() == "precious" and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("again", range(20))
def test_threads_of_one_process_keep_each_other_out(tmp_path: Path, again: int) -> None:
    """Twenty times: the race that this found once ended about one of six."""
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(2000):
            try:
                with lock.held(tmp_path / "run"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    return
            except UsageError:
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


@pytest.mark.parametrize("step", ["_take", "_remove", "_let_go", "_prepare"])
def test_a_signal_at_any_step_leaves_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One interrupt, before or after each step of taking the lock and of letting it go."""
    work = getattr(lock, step)
    for is_after in (False, True):
        told = False

        def broken_off(*words: object, after: bool = is_after) -> object:
            nonlocal told
            first, told = not told, True
            if first and not after:
                raise KeyboardInterrupt
            found = work(*words)
            if first:
                raise KeyboardInterrupt
            return found

        monkeypatch.setattr(lock, step, broken_off)
        with pytest.raises(KeyboardInterrupt), lock.held(tmp_path / "runs" / "one"):
            pass
        assert list(tmp_path.iterdir()) == []
        assert taken(tmp_path / "runs" / "one")
