"""An error of ours ends with 70, never with a verdict's code, and leaves a log without a word of anybody's
data.
"""

import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import pytest

from dpaudit import cli
from dpaudit.storage import custody, run_store
from dpaudit.system import faults, parallel
from dpaudit.system.faults import FaultError
from dpaudit.system.parallel import Job
from dpaudit.system.progress import Progress

WORDS = "Ilse Mopana has amber tulip crane"


def main(monkeypatch: pytest.MonkeyPatch, raising: Callable[[], Any]) -> int | str | None:
    """The exit code of a command in whose midst `raising` is called."""
    monkeypatch.setattr(run_store, "existing", lambda runs: raising())
    monkeypatch.setattr(sys, "argv", ["dpaudit", "ls"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


class PanicException(BaseException):
    """As a panic of a library in Rust: no Exception."""


def quotes_data() -> NoReturn:
    try:
        {}[WORDS]
    except KeyError as error:
        raise ValueError(f"{WORDS}: 3") from error


def panics() -> NoReturn:
    raise PanicException(WORDS)


def leaves() -> NoReturn:
    sys.exit(1)


def leaves_with_words() -> NoReturn:
    sys.exit(WORDS)


def recurses() -> None:
    recurses()


def exhausts() -> NoReturn:
    raise MemoryError


def has_no_path() -> NoReturn:
    raise OSError(5, WORDS)


def ends_early() -> NoReturn:
    raise EOFError(WORDS)


def renders() -> None:
    jinja2.Template("{% macro Mopana() %}{{ 1 / 0 }}{% endmacro %}{{ Mopana() }}").render()


@pytest.mark.parametrize(
    ("raising", "kind"),
    [
        (quotes_data, "ValueError"),
        (panics, "PanicException"),
        (leaves, "SystemExit"),
        (leaves_with_words, "SystemExit"),
        (recurses, "RecursionError"),
        (exhausts, "MemoryError"),
        (has_no_path, "EIO"),
        (ends_early, "Abort"),
        (renders, "ZeroDivisionError"),
    ],
)
def test_any_other_error_leaves_a_log_a_line_and_exit_code_70(
    raising: Callable[[], None],
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(monkeypatch, raising) == 70
    out, err = capfd.readouterr()
    (log,) = tmp_path.iterdir()
    assert out == "" and err.strip().count("\n") == 0 and log.name in err and kind in err, err
    kept = log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600 and kind in kept.splitlines()[0]
    assert "dpaudit/commands/runs.py:" in kept and "list_runs" in kept and "Python 3" in kept
    assert len(kept) < 20_000
    for word in ("Mopana", "amber", "Traceback", str(tmp_path)):
        assert word not in kept + err


def test_a_log_names_all_causes_and_places_of_our_code_and_of_libraries() -> None:
    try:
        try:
            renders()
        finally:
            custody.keyed_file_digest(None, b"")  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001
        lines = faults.report(error).splitlines()
    assert lines[0].startswith("AttributeError at dpaudit/storage/custody.py:")
    places = [re.sub(r":\d+:", ":N:", line.strip()) for line in lines]
    assert "ZeroDivisionError (division by zero)" in places and "AttributeError" in places
    assert (
        "jinja2/environment.py:N:render" in places
        and "dpaudit/storage/custody.py:N:keyed_file_digest" in places
    )
    assert "(code from elsewhere)" in places and not any("Mopana" in place for place in places)


def test_where_the_folder_cannot_be_written_the_log_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(faults, "_folders", lambda: (Path(), elsewhere))
    assert main(monkeypatch, panics) == 70
    (log,) = elsewhere.iterdir()
    assert str(log) in capfd.readouterr().err
    elsewhere.joinpath(log.name).unlink()
    elsewhere.rmdir()
    assert main(monkeypatch, panics) == 70
    told = capfd.readouterr().err
    assert told.count("\n") == 1 and "no log could be written" in told


def test_an_interrupt_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupts() -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    assert main(monkeypatch, interrupts) == 130 and not list(tmp_path.iterdir())


def fails(_: int, advance: Callable[[int], None]) -> None:
    panics()


def test_a_fault_in_a_worker_is_a_fault_and_no_partial_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FaultError) as caught:
        parallel.run([Job(f"job {i}", 1, fails, (i,)) for i in range(2)], 2, Progress(quiet=True))
    told = caught.value.report
    assert "PanicException" in told.splitlines()[0] and "dpaudit/system/parallel.py" in told
    assert "Mopana" not in told + capfd.readouterr().err

    def again() -> NoReturn:
        raise caught.value

    monkeypatch.chdir(tmp_path)
    assert main(monkeypatch, again) == 70
    (log,) = tmp_path.iterdir()
    assert log.read_text() == told
