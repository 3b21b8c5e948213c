"""A command that is broken off at any moment, by a kill or by a full disk, ends, typed again, as an unbroken
one, and leaves nothing.

The worlds are in kills.py. DPAUDIT_KILLS says how many kills the slow check makes, DPAUDIT_KILLS_STAGE of
which stage alone.
"""

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kills
import pytest
from kills import BY_NAME, STAGES, Stage, World

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS = int(os.environ.get("DPAUDIT_KILLS", "200"))
SPARE = (0, 8, 40, 120, 400)  # KiB that are left


@contextmanager
def collected(wrong: list[str]) -> Iterator[None]:
    """Goes on after what did not hold, which is put into `wrong`."""
    try:
        yield
    except AssertionError as error:
        wrong.append(str(error))
        print(error, flush=True)


def mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return not subprocess.run(command, capture_output=True).returncode


@contextmanager
def small_disk(world: World, stage: Stage) -> Iterator[Path]:
    """The stage's folder on a disk of its own, with room."""
    folder = world.place / "small"
    folder.mkdir(exist_ok=True)
    if not mount(folder, "size=256m"):
        pytest.skip("mounting is not permitted here")
    try:
        shutil.copytree(world.states[stage.state], folder, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def the_line(folder: Path) -> str:
    """The one line that a command failed with, which names a place on the disk."""
    [line] = [line for line in kills.told(folder).splitlines() if line.startswith("dpaudit: ")]
    assert kills.told(folder).endswith(line + "\n") and "Traceback" not in kills.told(folder)
    assert str(folder) in line or "expected nobody" in line, line
    return line


def filled(world: World, stage: Stage, spare: int) -> bool:
    """Runs the stage with so little room, then with enough; whether the first time was too little."""
    _, wanted = world.expected(stage)
    with small_disk(world, stage) as folder:
        used = shutil.disk_usage(folder).used // 1024
        assert mount(folder, f"remount,size={used + spare}k")
        code = world.server.run(stage.words, folder)
        where = f"{stage.name} with {spare} KiB: "
        if code != stage.code:
            known = code == 2 and "dpaudit: runs: expected room for at least" in kills.told(
                folder
            )  # told beforehand
            assert known or code == 3, where + kills.told(folder)
            assert known or "expected room for what is written there, got a full disk" in the_line(folder), (
                where
            )
            assert kills.left(folder, interrupted=True) == [], where
            kills.ledgers_cover_weights(folder, where)
            assert mount(folder, "remount,size=256m")
            assert world.server.run(stage.words, folder) == stage.code, where + kills.told(folder)
        assert kills.left(folder) == [], where
        kills.check_results(folder, stage, wanted, where)
    return code != stage.code


def closed(world: World, stage: Stage) -> None:
    """Runs the stage in a folder that takes no writing, then in one that does."""
    with small_disk(world, stage) as folder:
        assert mount(folder, "remount,ro")
        assert world.server.run(stage.words, folder) == 2, f"{stage.name}: {kills.told(folder)}"
        assert "Read-only file system" in the_line(folder) or "without write permission" in the_line(folder)
        assert mount(folder, "remount,rw")
        assert world.server.run(stage.words, folder) == stage.code, f"{stage.name}: {kills.told(folder)}"


@pytest.fixture(scope="module")
def small(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with one arm."""
    with kills.served(kills.TRAINING) as server:
        world = kills.begun(server, tmp_path_factory.mktemp("small"), toy_model_dir)
        kills.trained(world, "--arm", "sft-inf")
        yield world


@pytest.fixture(scope="module")
def whole(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with kills.served() as server:
        yield kills.whole(server, tmp_path_factory.mktemp("whole"), toy_model_dir)


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_arm_that_is_killed_while_it_trains(small: World, sent: signal.Signals) -> None:
    assert kills.killed(small, BY_NAME["train one"], sent, random.Random(3))


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_full_disk_and_one_that_takes_no_writing(whole: World, stage: Stage) -> None:
    closed(whole, stage)
    assert [spare for spare in SPARE if filled(whole, stage, spare)]


@pytest.mark.slow
def test_kills_at_any_moment_of_every_stage(whole: World) -> None:
    """Every stage and signal in turn."""
    pick = random.Random(int(os.environ.get("DPAUDIT_KILLS_SEED", "8")))
    chosen = [stage for stage in STAGES if os.environ.get("DPAUDIT_KILLS_STAGE", stage.name) == stage.name]
    hits, wrong = dict[str, int](), list[str]()
    for number in range(KILLS):
        stage, sent = chosen[number % len(chosen)], SIGNALS[number // len(chosen) % 3]
        hit = False
        with collected(wrong):
            hit = kills.killed(whole, stage, sent, pick)
        hits[stage.name] = hits.get(stage.name, 0) + hit
        print(number, stage.name, sent.name, "hit" if hit else "had ended, or is wrong", flush=True)
    print(sum(hits.values()), "of", KILLS, "came while a command was at work:", hits)
    assert wrong == []
    assert sum(hits.values()) > KILLS / 2
