"""What `--on` takes: every mistake is one line, before anything is written."""

import importlib.util
import re
import socket

import pytest
from typed import Call, one_line

from dpaudit.errors import PartialError, UsageError
from dpaudit.machines import place
from dpaudit.machines.place import Place
from dpaudit.pipeline import plans
from dpaudit.stages.train import train


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of both engines count as installed: nothing here gets as far as to import them."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: found("json" if name in place.PACKAGES.values() else name, *more),
    )


@pytest.mark.parametrize("on", [None, "local"])
def test_this_machine_is_the_default(on: str | None) -> None:
    assert place.typed(on, 3) is None


@pytest.mark.parametrize("on", ["", "cloud", "ray=", "slurm=", "local=2", "Ray"])
def test_another_word_is_refused(on: str) -> None:
    with pytest.raises(UsageError, match=r"--on: expected local, ray\[=ADDRESS\] or slurm\[=PARTITION\]"):
        place.typed(on, None)


def test_a_number_of_processes_beside_an_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="both --workers 2 and --on ray; leave one out"):
        place.typed("ray", 2)


@pytest.mark.parametrize(("on", "extra"), [("ray", "ray"), ("slurm=gpu", "slurm")])
def test_a_missing_package_is_named(on: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(UsageError, match=rf"pip install 'dpaudit\[{extra}\]'"):
        place.typed(on, None)


@pytest.mark.usefixtures("installed")
def test_an_address_where_nothing_listens_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert place.typed(f"ray={address}", None) == Place("ray", address)
        assert place.typed(f"ray=ray://{address}", None) == Place("ray", f"ray://{address}")
    with pytest.raises(PartialError, match="expected a Ray that answers, got none"):
        place.typed(f"ray={address}", None)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(PartialError, match=f"--on ray={address}: expected a Ray that answers"):
        place.typed("ray", None)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:70000", "head:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        place.typed(f"ray={address}", None)


@pytest.mark.usefixtures("installed")
def test_a_machine_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PartialError, match="got no sbatch and sinfo on this machine"):
        place.typed("slurm", None)


LISTED = "cpu*|1-00:00:00\ngpu|infinite\nshort|30:00\n"


@pytest.mark.parametrize(
    ("name", "wanted"), [(None, 24 * 60), ("cpu", 24 * 60), ("gpu", None), ("short", 30)]
)
def test_a_partition_has_a_longest_time(name: str | None, wanted: int | None) -> None:
    assert place.longest(Place("slurm", name), LISTED) == wanted


@pytest.mark.parametrize(
    ("name", "listed", "wanted"),
    [
        ("big", LISTED, "an unknown one; name one: cpu, gpu, short"),
        (None, "gpu|infinite\n", "without a default one; name one: gpu"),
        (None, "", "it lists none"),
    ],
)
def test_a_partition_that_is_not_there_is_refused(name: str | None, listed: str, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        place.longest(Place("slurm", name), listed)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("2:00:00", 120), ("3-01:30:00", 4410), ("05:00", 5), ("0:30", 1), ("infinite", None), ("n/a", None)],
)
def test_times_of_slurm(text: str, wanted: int | None) -> None:
    assert place.minutes(text) == wanted


def test_a_mistake_leaves_no_run(call: Call) -> None:
    one_line(call("train", "--suite", "mini.yaml", "--on", "cloud"), "--on: expected local")
    one_line(call("run", "mini.yaml", "--on", "ray", "--workers", "1"), "leave one out")
    one_line(call("demo", "--on", "cloud"), "got cloud")
    one_line(call("attack", "mia", "--on", "cloud", "--shadows", "2"), "got cloud")


@pytest.mark.usefixtures("installed")
def test_a_forecast_says_where_arms_train(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = call("train", "--suite", "mini.yaml", "--dry-run", "--no-measure", "--on", f"ray={address}")
        one_line(call("attack", "mia", "--on", f"ray={address}"), "--shadows beside it")
    assert done.code == 0 and f"on the Ray at {address}" in done.out
    here = call("train", "--suite", "mini.yaml", "--dry-run", "--no-measure", "--workers", "3")
    assert re.search(r"on this machine, 3 at once: .+, [\d.,]+ GiB free", here.out)


def test_torchrun_and_an_engine_exclude_each_other() -> None:
    plan = plans.resolve("demo", {}, 0, None)
    train._check_joint(plan, [], None)
    with pytest.raises(UsageError, match="--on ray: expected one process that hands out arms"):
        train._check_joint(plan, [], Place("ray"))
