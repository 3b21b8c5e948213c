"""Each signal that ends a command is a KeyboardInterrupt, and the next one within a moment is not heard."""

import os
import signal
import time

import pytest

from dpaudit import cli
from dpaudit.errors import PartialError, UsageError
from dpaudit.models import border
from dpaudit.system import interrupts


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_signal_is_an_interrupt_and_handlers_come_back(number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:  # as nohup leaves it
        signal.signal(number, signal.SIG_DFL)
    before = [signal.getsignal(one) for one in interrupts.SIGNALS]
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert [signal.getsignal(one) for one in interrupts.SIGNALS] == before


def test_a_second_signal_does_not_break_off_the_tidying_up() -> None:
    tidied = False
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            tidied = True
    assert tidied


def test_a_later_signal_is_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may have swallowed the first."""
    monkeypatch.setattr(interrupts, "DEAF", 0.05)
    with interrupts.heard():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
            time.sleep(0.1)


def test_what_the_shell_has_ignored_stays_ignored() -> None:
    """`nohup dpaudit train &` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.heard():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
            assert not interrupts.came()
    finally:
        signal.signal(signal.SIGHUP, before)


def interrupted_under_another_name(error: Exception) -> None:
    """As a library does that turns whatever it meets into an error of its own."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        raise error from None


def test_an_interrupt_that_a_library_renamed_is_no_fault_of_the_files_it_read() -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        interrupts.heard(),
        border.told("model", expected="one that loads"),
    ):
        interrupted_under_another_name(RuntimeError("could not import a module"))
    with pytest.raises(UsageError), interrupts.heard(), border.told("model", expected="one that loads"):
        raise RuntimeError


@pytest.mark.parametrize(
    ("raised", "code"), [(RuntimeError(), 130), (UsageError("a", "b", "c"), 130), (PartialError("left"), 3)]
)
def test_a_command_that_was_told_to_end_ends_interrupted(
    raised: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["dpaudit", "ls"])
    monkeypatch.setattr(cli, "app", lambda *_, **__: interrupted_under_another_name(raised))
    with interrupts.heard():
        assert cli._ended() == code
    monkeypatch.setattr(cli, "app", lambda *_, **__: 0)
    assert cli._ended() == 0 and not interrupts.came()
