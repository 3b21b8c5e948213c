"""Two hundred arms of one step on the embedded model, while workers are killed by chance: none is lost."""

import importlib.util
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from typed import MINI

from dpaudit.errors import PartialError
from dpaudit.machines import elsewhere, work
from dpaudit.machines.place import Place
from dpaudit.machines.work import Order
from dpaudit.pipeline import plans, sequence
from dpaudit.stages.integrity.trained import TrainedArm, inputs_of
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

ARMS, AT_ONCE, RETRIES = 200, 2, 3
KILLED_LEAST, KILLED_MOST = 20, 60  # each costs another start of a worker
EVERY = (0.2, 1.5)  # seconds between two kills, by chance
TWICE = 2  # an arm is killed at most: the fourth worker that dies would end the call


class _Waiting:
    """A job that was submitted, and its process while it has one."""

    def __init__(self, order: Order) -> None:
        self.order, self.deaths = order, 0
        self.process: Any = None
        self.connection: Connection | None = None
        self.is_done = False


class Forked:
    """An engine of processes that are copies of this one, and so begin at once; lost ones are started again
    as Ray does.
    """

    threads = 1

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("fork")
        self._jobs: list[_Waiting] = []

    def look(self, order: Order) -> None:
        assert work.perform(order) is None

    def submit(self, order: Order) -> _Waiting:
        self._jobs.append(_Waiting(order))
        return self._jobs[-1]

    def ended(self, order: Order, handle: _Waiting) -> bool:
        if handle.process is not None and not handle.process.is_alive():
            self._take(handle)
        self._jobs = [job for job in self._jobs if not job.is_done]
        for job in self._jobs[:AT_ONCE]:
            if job.process is None:
                self._begin(job)
        return handle.is_done

    def _begin(self, job: _Waiting) -> None:
        job.connection, theirs = self._context.Pipe(duplex=False)
        job.process = self._context.Process(target=_perform, args=(job.order, theirs))
        job.process.start()
        theirs.close()

    def _take(self, job: _Waiting) -> None:
        """The end of a process: its job is done, or failed, or begins again."""
        assert job.connection is not None
        job.process.join()
        job.process = None
        try:
            error = job.connection.recv()
        except EOFError:
            job.deaths += 1
            if job.deaths > RETRIES:
                raise PartialError(f"{job.order.title}: {job.deaths} workers died") from None
            return
        if error is not None:
            raise error
        job.is_done = True

    def cancel(self, handles: Sequence[_Waiting]) -> None:
        for job in handles:
            if job.process is not None:
                job.process.kill()
                job.process.join()

    def close(self) -> None:
        pass


def _perform(order: Order, connection: Connection) -> None:
    connection.send(work.perform(order))


class Killer(threading.Thread):
    """Kills the worker at one of the arms at hand, by chance, until it is stopped."""

    def __init__(self, runs: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._runs, self._draws = runs, random.Random(seed)
        self.killed: dict[str, int] = {}
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(self._draws.uniform(*EVERY)):
            if sum(self.killed.values()) >= KILLED_MOST:
                return
            try:
                held = sorted(self._runs.glob("*/.elsewhere.training-*.lock/*"))
            except OSError:  # a lock went away while it was looked at
                continue
            fair = [file for file in held if self.killed.get(file.parent.name, 0) < TWICE]
            if not fair:
                continue
            file = self._draws.choice(fair)
            with suppress(OSError, ValueError, KeyError):  # it is done meanwhile
                os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)
                self.killed[file.parent.name] = self.killed.get(file.parent.name, 0) + 1


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Place:
    @contextmanager
    def engine(*_: object) -> Iterator[Forked]:
        yield Forked()

    monkeypatch.setattr(elsewhere, "_engine", engine)
    return Place("ray")


@pytest.fixture
def by_ray(monkeypatch: pytest.MonkeyPatch) -> Place:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the package ray is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return Place("ray")


def planned(folder: Path) -> Plan:
    """A hundred seeds with noise and a hundred without, on the embedded model."""
    once = {"batch": 8, "steps": 1, "learning_rate": 0.01}
    changed = {
        "attacks": [],
        "grid": {"epsilons": [8], "baseline": True, "seeds": ARMS // 2},
        "candidates": MINI["candidates"] | {"gradient": 0},
        "training": MINI["training"] | {"private": once, "nonprivate": once},
    }
    file = folder / "many.yaml"
    file.write_text(json.dumps(MINI | changed))
    return plans.resolve(str(file), {}, 0, 5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["forked", "by_ray"])
def test_no_arm_is_lost_while_workers_are_killed(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = request.getfixturevalue(engine)
    plan, runs = planned(tmp_path), tmp_path / "runs"
    killer = Killer(runs, seed=7)
    killer.start()
    try:
        run_dir = sequence.train(plan, runs, Progress(quiet=True), on=place)
    finally:
        killer.stopped.set()
        killer.join()
    arms = plan.suite.grid.arms
    assert len(arms) == ARMS and sum(killer.killed.values()) >= KILLED_LEAST
    trained = {arm: TrainedArm(run_dir, arm.name) for arm in arms}
    assert [arm.name for arm in arms if not trained[arm].is_current(inputs_of(plan.of_training, arm))] == []
    assert {there.ledger().steps_done for there in trained.values()} == {1}
    for left in ("train/.*", ".elsewhere*", ".training*", "secret/states/*"):
        assert list(run_dir.path.glob(left)) == []
