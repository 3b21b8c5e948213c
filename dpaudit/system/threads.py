"""Questions that mostly wait for an answer, several at once, in threads that nobody has to wait for."""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def ordered(
    function: Callable[[Item], Answer],
    items: Sequence[Item],
    at_once: int,
    advance: Callable[[int], None] | None = None,
) -> list[Answer]:
    """What `function` says of every item, in the order of the items; at most `at_once` calls run at a time.

    The first error, and an interrupt, is raised at once and ends the work: no further call begins, and calls
    that are under way are left to themselves in daemon threads, which do not keep the program.
    """
    waiting, ended = iter(enumerate(items)), threading.Event()
    taking, given = threading.Lock(), SimpleQueue[tuple[int, Answer] | Exception]()

    def work() -> None:
        while not ended.is_set():
            with taking:
                taken = next(waiting, None)
            if taken is None:
                return
            place, item = taken
            try:
                given.put((place, function(item)))
            except Exception as error:  # noqa: BLE001 (raised below, in the thread that asked)
                given.put(error)

    answers: dict[int, Answer] = {}
    try:
        for _ in range(min(at_once, len(items))):
            threading.Thread(target=work, daemon=True).start()
        while len(answers) < len(items):
            come = given.get()
            if isinstance(come, Exception):
                raise come
            answers[come[0]] = come[1]
            if advance:
                advance(1)
    finally:
        ended.set()
    return [answers[place] for place in range(len(items))]
