"""Progress: plain lines where there is no terminal, bars where there is one, nothing when quiet."""

from io import StringIO
from itertools import pairwise

import pytest
from rich.console import Console

from dpaudit.system import progress as module
from dpaudit.system.progress import Progress


def work(progress: Progress) -> None:
    with progress.task("training [sft]", total=3) as advance:
        advance()
        with progress.task("inner") as inner:
            inner(2)
        progress.say("a [note]")
        advance(2)


def test_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    monkeypatch.setattr(module, "RARER", 0.0)
    stream = StringIO()
    work(Progress(console=Console(file=stream, width=80)))
    lines = [line.split(" (")[0] for line in stream.getvalue().splitlines()]
    assert lines == [
        "training [sft] ...",
        "training [sft]: 1/3",
        "inner ...",
        "inner: 2",
        "inner: done",
        "a [note]",
        "training [sft]: 3/3",
        "training [sft]: done",
    ]
    assert "\x1b" not in stream.getvalue()


def test_lines_are_at_least_seconds_apart() -> None:
    stream = StringIO()
    with Progress(console=Console(file=stream)).task("t", total=1000) as advance:
        for _ in range(1000):
            advance()
    assert len(stream.getvalue().splitlines()) == 2


def test_lines_grow_rarer_and_never_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hours of a second a piece: each line says what is left, and five minutes have one at least."""
    clock = iter(range(100_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    stream = StringIO()
    with Progress(console=Console(file=stream, width=80)).task("t", total=10_800) as advance:
        for _ in range(10_800):
            advance()
    times = [int(line.split("(")[1].split(" s")[0]) for line in stream.getvalue().splitlines()[1:-1]]
    assert times[:5] == [10, 20, 30, 40, 50] and len(times) < 70
    assert max(after - before for before, after in pairwise(times)) <= 300
    assert stream.getvalue().count("left)") >= len(times) - 1


def test_bars_on_a_terminal() -> None:
    stream = StringIO()
    progress = Progress(console=Console(file=stream, width=80, force_terminal=True))
    work(progress)
    work(progress)
    shown = stream.getvalue()
    assert "training [sft]" in shown and "3/3" in shown and "a [note]" in shown


def test_no_colour_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = StringIO()
    work(Progress(console=Console(file=stream, width=80, force_terminal=True)))
    assert "\x1b[3" not in stream.getvalue()


def test_quiet_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    work(Progress(quiet=True))
    assert capfd.readouterr() == ("", "")


def test_without_tasks_what_is_said_stays() -> None:
    stream = StringIO()
    try:
        module.show_tasks(False)
        work(Progress(console=Console(file=stream, width=80)))
    finally:
        module.show_tasks(True)
    assert stream.getvalue().splitlines() == ["a [note]"]


def test_only_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    work(Progress())
    out, err = capfd.readouterr()
    assert out == "" and "training [sft]" in err


def test_a_failure_passes_and_ends_the_display() -> None:
    progress = Progress(console=Console(file=StringIO(), force_terminal=True))
    with pytest.raises(ZeroDivisionError), progress.task("t", 1):
        raise ZeroDivisionError
    work(progress)


def test_the_first_slow_piece_makes_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is loaded in it: 60 seconds, then one a piece."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    stream = StringIO()
    with Progress(console=Console(file=stream, width=80)).task("t", total=100) as advance:
        for seconds in (60, *[1] * 30):
            clock[0] += seconds
            advance()
    told = [line for line in stream.getvalue().splitlines() if "/100" in line]
    assert told[0] == "t: 1/100 (60 s)"
    assert told[1] == "t: 11/100 (70 s, about 89 s left)"
