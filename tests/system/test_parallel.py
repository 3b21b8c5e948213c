"""Jobs side by side: all are done, errors arrive whole, a dead process is told."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import kills
import pytest
from rich.console import Console

from dpaudit.errors import PartialError, UsageError
from dpaudit.system import parallel
from dpaudit.system.parallel import Job
from dpaudit.system.progress import Progress


def write(path: Path, advance: Callable[[int], None]) -> None:
    path.write_text(str(os.getpid()))
    advance(1)


def refuse(_: Path, advance: Callable[[int], None]) -> None:
    raise UsageError("file: key", "a", "b", "do c")


def die(_: Path, advance: Callable[[int], None]) -> None:
    os._exit(9)


def swallow(path: Path, advance: Callable[[int], None]) -> None:
    """Fails as the first job; as another, takes one interrupt for nothing, as a library's bare except
    does.
    """
    if path.name == "0":
        while not (path.parent / "1").exists():
            time.sleep(0.05)
        raise UsageError("file: key", "a", "b")
    with contextlib.suppress(KeyboardInterrupt):
        path.write_text("begun")
        time.sleep(600)
    time.sleep(600)


def jobs(function: Callable[..., None], folder: Path, count: int) -> list[Job]:
    return [Job(f"job {i}", 1, function, (folder / str(i),)) for i in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_all_jobs_are_done(tmp_path: Path, workers: int) -> None:
    screen = StringIO()
    parallel.run(jobs(write, tmp_path, 3), workers, Progress(console=Console(file=screen, width=80)))
    processes = {int((tmp_path / str(i)).read_text()) for i in range(3)}
    assert processes == {os.getpid()} if workers == 1 else os.getpid() not in processes
    assert screen.getvalue().count("done") == 3


def test_a_users_mistake_arrives_as_it_was_raised(tmp_path: Path) -> None:
    """Here; that of another process, below."""
    with pytest.raises(UsageError, match="file: key: expected a, got b; do c"):
        parallel.run(jobs(refuse, tmp_path, 2), 1, Progress(quiet=True))


@pytest.mark.parametrize("apart", [False, True])
def test_a_single_job_is_done_here_or_apart(tmp_path: Path, apart: bool) -> None:
    parallel.run([Job("job", 1, write, (tmp_path / "0",))], 1, Progress(quiet=True), apart)
    assert (int((tmp_path / "0").read_text()) == os.getpid()) is not apart


def test_a_process_that_dies_is_partial_work(tmp_path: Path) -> None:
    with pytest.raises(PartialError, match="type the command again"):
        parallel.run(jobs(die, tmp_path, 2), 2, Progress(quiet=True))


def test_a_job_that_swallows_its_interrupt_is_interrupted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "STOP_AGAIN", 0.5)
    with pytest.raises(UsageError, match="file: key"):
        parallel.run(jobs(swallow, tmp_path, 2), 2, Progress(quiet=True))


def both_refuse(path: Path, advance: Callable[[int], None]) -> None:
    """Both at the same moment, so that one is stopped while it reports."""
    (path.parent / f"there-{path.name}").touch()
    while not all((path.parent / f"there-{i}").exists() for i in range(2)):
        time.sleep(0.01)
    raise UsageError("file: key", "a", "b" * 50, "do c")


def test_two_mistakes_at_once_arrive_as_one_and_nothing_is_called_done(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    screen = StringIO()
    with pytest.raises(UsageError, match=r"file: key: expected a, got b{50}; do c"):
        parallel.run(jobs(both_refuse, tmp_path, 2), 2, Progress(console=Console(file=screen, width=80)))
    assert "Traceback" not in capfd.readouterr().err
    assert "done" not in screen.getvalue()


def interrupt_oneself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)


def interrupted_at_its_end(_: Path, advance: Callable[[int], None]) -> None:
    atexit.register(interrupt_oneself)
    raise UsageError("file: key", "a", "b")


def test_an_interrupt_of_a_process_that_ends_prints_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="file: key"):
        parallel.run(jobs(interrupted_at_its_end, tmp_path, 2), 2, Progress(quiet=True))
    assert "Traceback" not in capfd.readouterr().err


PARENT = """
from pathlib import Path
from dpaudit.system import parallel
from dpaudit.system.progress import Progress
import test_parallel
if __name__ == "__main__":
    parallel.run(test_parallel.jobs(test_parallel.stay, Path({folder!r}), 2), 2, Progress(quiet=True))
"""


def stay(path: Path, advance: Callable[[int], None]) -> None:
    path.write_text(str(os.getpid()))
    with contextlib.suppress(KeyboardInterrupt):  # as a library may
        time.sleep(600)
    time.sleep(600)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Here while they import, for which they need seconds; test_kills does it at any moment."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(folder=str(tmp_path)))
    places = (Path(parallel.__file__).parents[2], Path(kills.__file__).parent, Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)
    while len(list(kills.of_session(parent.pid))) < 4:  # with what tracks resources
        assert parent.poll() is None, "the parent ended before its workers were there"
        time.sleep(0.01)
    time.sleep(0.3)
    assert parent.poll() is None
    parent.kill()
    parent.wait()
    assert kills.still_running(parent.pid) == []


def test_a_job_that_is_stopped_before_it_is_ready_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C reaches workers too, which import for seconds."""
    begun = [parallel._Running(job, 1, Progress(quiet=True)) for job in jobs(stay, tmp_path, 2)]
    for one in begun:
        assert one.process.pid is not None
        os.kill(one.process.pid, signal.SIGINT)
        one.stop()
    assert [one.process.exitcode for one in begun] == [130, 130]
    assert capfd.readouterr().err == "" and list(tmp_path.iterdir()) == []


def keep_a_folder(path: Path, advance: Callable[[int], None]) -> None:
    """A job with a work folder; the first one fails once the other has begun."""
    if path.name == "0":
        while not (path.parent / "1").exists():
            time.sleep(0.05)
        raise UsageError("file: key", "a", "b")
    path.mkdir()
    try:
        time.sleep(600)
    finally:
        os.kill(os.getpid(), signal.SIGINT)  # as when Ctrl-C reached it too: it must not break this off
        time.sleep(0.5)
        path.rmdir()


def test_a_job_that_is_stopped_tidies_up(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file: key"):
        parallel.run(jobs(keep_a_folder, tmp_path, 2), 2, Progress(quiet=True))
    assert list(tmp_path.iterdir()) == []
