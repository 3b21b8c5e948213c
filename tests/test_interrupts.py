"""Each signal that ends a command is a KeyboardInterrupt, and the next one within a moment is not heard."""

import os
import signal
import time

import pytest

from dpaudit import interrupts


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
    finally:
        signal.signal(signal.SIGHUP, before)
