"""Jobs on other machines: what a worker checks, what comes back, and what Ray and submitit do with jobs whose
workers die.
"""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typed import MINI

from dpaudit.errors import GuardError, PartialError, UsageError
from dpaudit.machines import elsewhere, on_slurm, work
from dpaudit.machines.place import Place, limit
from dpaudit.machines.work import Order
from dpaudit.pipeline import plans, sequence
from dpaudit.stages.attack import shadows
from dpaudit.storage import lock
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.faults import FaultError
from dpaudit.system.parallel import Job
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
Advance = Callable[[int], None]


def write(path: Path, advance: Advance) -> None:
    path.write_text(str(os.getpid()))
    advance(1)


def refuse(_: Path, advance: Advance) -> None:
    raise UsageError("file: key", "a", "b", "do c")


def guard(_: Path, advance: Advance) -> None:
    raise GuardError("noise of another size")


def fail(path: Path, advance: Advance) -> None:
    raise ValueError(f"a patient's words in {path}")


def die_once(path: Path, advance: Advance) -> None:
    """As a worker whose machine stops: the second one goes on where the first one was."""
    if not path.exists():
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text("whole")
    advance(1)


def die(path: Path, advance: Advance) -> None:
    with path.open("a") as stream:
        stream.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def stay(path: Path, advance: Advance) -> None:
    path.write_text("begun")
    try:
        time.sleep(600)
    finally:
        path.unlink()


def stay_deaf(path: Path, advance: Advance) -> None:
    """As `stay`, for a first interrupt that is lost, as in a finalizer."""
    with suppress(KeyboardInterrupt):
        stay(path, advance)
    stay(path, advance)


def await_other(path: Path, advance: Advance) -> None:
    while not path.exists():
        time.sleep(0.05)
    raise UsageError("file: key", "a", "b")


def jobs(function: Callable[..., None], folder: Path, count: int) -> list[Job]:
    return [Job(f"job {i}", 1, function, (folder / str(i),)) for i in range(count)]


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


@pytest.fixture
def order(run_dir: RunDir) -> Order:
    """An order as a call sends it, with nothing to do."""
    (run_dir.path / "call").mkdir()
    return elsewhere._order(run_dir, run_dir.path / "call")


class Here:
    """An engine that does every job at once, in this process."""

    threads = None

    def __init__(self) -> None:
        self.cancelled = 0

    def look(self, order: Order) -> None:
        assert work.perform(order) is None

    def submit(self, order: Order) -> Any:
        return work.perform(order)

    def ended(self, order: Order, handle: Any) -> bool:
        if handle is not None:
            raise handle
        return True

    def cancel(self, handles: Sequence[Any]) -> None:
        self.cancelled = len(handles)

    def close(self) -> None:
        pass


def done_here(wanted: list[Job], order: Order, progress: Progress = QUIET) -> Here:
    engine = Here()
    elsewhere._run(wanted, replace(order, threads=1), engine, progress)
    return engine


def test_a_job_waits_for_the_one_that_it_begins_from(order: Order, tmp_path: Path) -> None:
    screen = StringIO()
    first, second = jobs(write, tmp_path, 2)
    wanted = [replace(first, after=second.description), second]
    done_here(wanted, order, Progress(console=Console(file=screen, width=80)))
    lines = [line.partition(" (")[0] for line in screen.getvalue().splitlines()]
    assert lines == ["job 1 ...", "job 1: done", "job 0 ...", "job 0: done"]


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (refuse, UsageError, "file: key: expected a, got b; do c"),
        (guard, GuardError, "noise of another size"),
        (fail, FaultError, "ValueError at "),
    ],
)
def test_errors_come_back_as_from_processes_here(
    function: Callable[..., None], kind: type[Exception], words: str, order: Order, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words) as raised:
        done_here(jobs(function, tmp_path, 1), order)
    assert "patient" not in str(raised.value)


def test_a_worker_that_does_not_see_the_run_does_nothing(order: Order, tmp_path: Path) -> None:
    sent = replace(order, packed=b"not read")
    (order.folder / work.NONCE).write_text("of another run under the same name")
    assert "another folder or none; name a folder on a shared file system" in str(work.perform(sent))
    (order.folder / work.NONCE).unlink()
    assert "all workers share" in str(work.perform(sent))
    (order.folder / work.NONCE).write_text(order.nonce)
    assert "type the command in a folder on a shared" in str(work.perform(replace(sent, here=tmp_path / "x")))
    assert "install the same version" in str(work.perform(replace(sent, version="0.0")))
    assert work.perform(order) is None


def test_a_worker_waits_for_another_at_the_same_job(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that was taken for dead: two at once would write one arm's checkpoints."""
    ended: list[float] = []

    def hold() -> None:
        with lock.held(order.lock, "job-0"):
            held.set()
            time.sleep(1.5)
            ended.append(time.monotonic())

    held = threading.Event()
    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    done_here(jobs(write, tmp_path, 1), order)
    assert ended and (tmp_path / "0").exists()
    other.join()
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    with lock.held(order.lock, "job-0"), pytest.raises(UsageError, match="nobody else at work"):
        done_here(jobs(write, tmp_path, 1), order)


@pytest.mark.parametrize(
    ("job", "handler"),
    [(stay, signal.default_int_handler), (stay, signal.SIG_IGN), (stay_deaf, signal.default_int_handler)],
)
def test_a_job_ends_with_the_call_that_sent_it(
    job: Callable[..., None], handler: Any, order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed command leaves its folder, which the next command sweeps before it sends the job again."""
    monkeypatch.setattr(work, "LOOK", 0.1)
    monkeypatch.setattr(work, "GRACE", 4.0)
    monkeypatch.setattr(work.os, "_exit", lambda _: signal.pthread_kill(main, signal.SIGALRM))
    main = threading.get_ident()
    before = signal.signal(signal.SIGINT, handler)
    alarmed = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the job had to be killed"))

    def sweep() -> None:
        while not (tmp_path / "0").exists():
            time.sleep(0.05)
        (order.folder / work.NONCE).unlink()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            done_here(jobs(job, tmp_path, 1), order)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGALRM, alarmed)
    sweeper.join()
    assert not (tmp_path / "0").exists()
    assert not list(order.lock.parent.glob(".elsewhere.*"))


# ---- the engines


@pytest.fixture
def by_submitit(monkeypatch: pytest.MonkeyPatch) -> Place:
    """Slurm's place, whose jobs submitit does in processes of this machine."""
    submitit = pytest.importorskip("submitit", reason="the package submitit is not installed")

    def executor_of(place: Place, folder: Path, light: bool) -> Any:
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(timeout_min=30)
        return executor

    monkeypatch.setattr(on_slurm, "executor_of", executor_of)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return Place("slurm")


@pytest.fixture
def by_slurm(monkeypatch: pytest.MonkeyPatch) -> Place:
    pytest.importorskip("submitit", reason="the package submitit is not installed")
    place = Place("slurm")
    try:
        limit(place)
    except PartialError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return place


@pytest.fixture
def by_ray(monkeypatch: pytest.MonkeyPatch) -> Place:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the package ray is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return Place("ray")


ENGINES = ["by_submitit", "by_ray"]  # submitit: its local executor, in processes of this machine


@pytest.mark.slow
@pytest.mark.parametrize("engine", [*ENGINES, "by_slurm"])
def test_engines(
    engine: str, request: pytest.FixtureRequest, run_dir: RunDir, tmp_path: Path, capfd: Any
) -> None:
    """One start of each engine for all that it must do: dead workers, errors, cancelled jobs."""
    place = request.getfixturevalue(engine)
    screen = StringIO()
    wanted = [*jobs(die_once, tmp_path, 1), Job("last", 1, write, (tmp_path / "last",), after="job 0")]
    elsewhere.run(wanted, place, run_dir, "call", Progress(console=Console(file=screen, width=80)), True)
    assert (tmp_path / "0").read_text() == "whole"
    assert int((tmp_path / "last").read_text()) != os.getpid()
    assert screen.getvalue().count("done") == 2
    with pytest.raises(UsageError, match="file: key: expected a, got b"):
        both = [
            Job("stays", 1, stay, (tmp_path / "stays",)),
            Job("fails", 1, await_other, (tmp_path / "stays",)),
        ]
        elsewhere.run(both, place, run_dir, "call", QUIET, True)
    until = time.monotonic() + 30
    while (tmp_path / "stays").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not (tmp_path / "stays").exists(), "the other job was not cancelled"
    with pytest.raises(PartialError, match=r"expected the work to end, got 4 .*type the command again"):
        elsewhere.run([Job("dies", 1, die, (tmp_path / "dies",))], place, run_dir, "call", QUIET, True)
    assert (tmp_path / "dies").read_text() == "xxxx"
    assert not list(run_dir.path.glob(".call*"))
    if engine != "by_submitit":  # the local executor prints one of its own where it is cancelled
        told = capfd.readouterr()
        assert told.out == "" and "Traceback" not in told.err


# ---- trainings


class Killing(Progress):
    """Kills the worker of an arm once its first checkpoint is there."""

    def __init__(self, runs: Path, arm: str) -> None:
        super().__init__(quiet=True)
        self.killed = 0
        threading.Thread(target=self._kill, args=(runs, arm), daemon=True).start()

    def _kill(self, runs: Path, arm: str) -> None:
        while not (holders := list(runs.glob(f"*/.elsewhere.training-{arm}.lock/*"))) or not list(
            runs.glob(f"*/train/.{arm}.partial/[0-9]*")
        ):
            time.sleep(0.02)
        os.kill(json.loads(holders[0].read_text())["pid"], signal.SIGKILL)
        self.killed += 1


def made(runs: Path) -> dict[str, bytes]:
    """What arms are made of: weights, units of each step, what was released along axes, spent privacy."""
    [run] = runs.iterdir()
    names = ("adapter_model.safetensors", "axes.npy")
    kept = {str(f.relative_to(run)): f.read_bytes() for name in names for f in run.glob(f"train/*/**/{name}")}
    for file in run.glob("train/*/steps.jsonl"):
        rows = [json.loads(line) for line in file.open()]
        kept[str(file.relative_to(run))] = json.dumps([row["units"] for row in rows]).encode()
    for file in run.glob("train/*/privacy.json"):
        told = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("inputs", "custody")}
        kept[str(file.relative_to(run))] = json.dumps(told, sort_keys=True).encode()
    shadows = run.glob("attack/*/shadows/*/adapter/*.safetensors")
    return kept | {str(file.relative_to(run)): file.read_bytes() for file in shadows}


def planned(folder: Path, model: Path) -> Plan:
    many = {"batch": 8, "steps": 30, "learning_rate": 0.01}
    changed: dict[str, Any] = {
        "attacks": [],
        "model": MINI["model"] | {"base": str(model)},
        "candidates": MINI["candidates"] | {"canaries": 20, "records": 8},
        "training": MINI["training"] | {"private": many, "nonprivate": many, "checkpoint_every": 3},
    }
    file = folder / "mini.yaml"
    file.write_text(json.dumps(MINI | changed))  # JSON is YAML too
    return plans.resolve(str(file), {}, 0, 5)


@pytest.fixture(scope="module")
def here(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same arms and shadows, made in this process."""
    folder = tmp_path_factory.mktemp("here")
    plan = planned(folder, toy_model_dir)
    run_dir = sequence.train(plan, folder / "runs", QUIET, workers=1)
    shadows.ensure(run_dir, plan, QUIET, plan.suite.grid.arms[0], 2, workers=1)
    return made(folder / "runs")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_changes_no_byte(
    engine: str,
    here: dict[str, bytes],
    request: pytest.FixtureRequest,
    toy_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = request.getfixturevalue(engine)
    monkeypatch.chdir(tmp_path)  # and the runs by a relative path: workers begin elsewhere
    plan, runs = planned(tmp_path, toy_model_dir), Path("runs")
    killing = Killing(tmp_path / runs, "sft-eps8")
    run_dir = sequence.train(plan, runs, killing, on=place)
    assert killing.killed == 1
    shadows.ensure(run_dir, plan, QUIET, plan.suite.grid.arms[0], 2, on=place)
    assert len(here) >= 8
    assert made(runs) == here
    assert not list(run_dir.path.glob(".elsewhere*")) and not list(run_dir.path.glob(".training*"))
