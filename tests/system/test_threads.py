"""Calls side by side: their order, their number, and how they end."""

import threading
import time

import pytest

from dpaudit.system import threads


def test_answers_stand_in_the_order_of_the_items_and_few_are_asked_at_once() -> None:
    lock, at_once, most, steps = threading.Lock(), 0, 0, []

    def slow_at_first(number: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002 * (20 - number % 20))
        with lock:
            at_once -= 1
        return number**2

    found = threads.ordered(slow_at_first, range(60), 8, lambda n=1: steps.append(n))
    assert found == [number**2 for number in range(60)]
    assert most == 8 and sum(steps) == 60
    assert threads.ordered(slow_at_first, [], 8) == []


def test_the_first_error_ends_the_work_without_waiting() -> None:
    begun = []

    def fails(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise ValueError("no")
        time.sleep(5 if number == 0 else 0.01)

    started = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        threads.ordered(fails, range(1000), 4)
    assert time.monotonic() - started < 3
    before = len(begun)
    time.sleep(0.1)
    assert len(begun) <= before + 4 < 100
