"""lm-eval's view of a model that asks only what was not answered before the command was killed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from dpaudit.storage.answer_log import NEW, AnswerLog

ROLLING = "loglikelihood_rolling"
KINDS = ("loglikelihood", ROLLING, "generate_until")  # of requests
Ask = Callable[[Sequence[Any]], Sequence[Any]]


class _Hook:
    """What lm-eval calls with every answer as it comes."""

    def __init__(self, log: AnswerLog) -> None:
        self.log = log

    def add_partial(self, kind: str, request: Any, answer: Any) -> None:
        self.log.keep([kind, *request], answer)


@contextmanager
def answers(lm: Any, log: AnswerLog | None) -> Iterator[None]:
    """Inside the block `lm` takes from `log` what it holds and keeps there what it is asked; None changes
    nothing.

    The first time all is asked at once: batches are those of plain lm-eval.
    """
    if log is None:
        yield
        return
    usual, hook = {kind: getattr(lm, kind) for kind in KINDS}, lm.cache_hook
    lm.set_cache_hook(_Hook(log))
    for kind, ask in usual.items():
        setattr(lm, kind, partial(_rest, lm, log, kind, ask))
    try:
        yield
    finally:
        lm.set_cache_hook(hook)
        for kind, ask in usual.items():
            setattr(lm, kind, ask)


def _rest(lm: Any, log: AnswerLog, kind: str, ask: Ask, requests: Sequence[Any]) -> list[Any]:
    """The answers to all requests, of which those that the log lacks are asked."""
    known = log.answers([[kind, *request.args] for request in requests])
    new = [request for request, answer in zip(requests, known, strict=True) if answer is NEW]
    # lm-eval tells the answers of this kind at the end of a call alone
    size = int(lm.batch_size) if kind == ROLLING else max(1, len(new))
    parts = (ask(new[at : at + size]) for at in range(0, len(new), size))
    fresh = iter([answer for part in parts for answer in part])
    return [next(fresh) if answer is NEW else _as_given(answer) for answer in known]


def _as_given(answer: Any) -> Any:
    """A kept answer as lm-eval gave it: JSON makes a list of a pair."""
    return tuple(answer) if isinstance(answer, list) else answer
