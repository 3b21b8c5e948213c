"""Progress on stderr: bars on a terminal, plain lines elsewhere, nothing when quiet. Results never go through
it.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from dpaudit import terminal

LINE_EVERY = 10.0  # seconds between two plain lines of one task, at first
RARER, LINE_AT_LEAST = 0.1, 300.0  # of what has passed, and seconds: long work leaves a log that can be read
PIECES_LEAST = 2  # after the first, before the rest is estimated


_shown = True


def show_tasks(shown: bool) -> None:
    """Whether this process shows how far its tasks are. Lines that are said are shown all the same."""
    global _shown
    _shown = shown


class Advance(Protocol):
    """What a task hands to the code that works: call it once per `n` finished pieces."""

    def __call__(self, n: int = 1) -> None: ...


class Stderr(Console):
    """A console on stderr. Work goes on when nobody reads it any longer; rich itself would exit with 1, which
    is a verdict.
    """

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        if sys.stderr is not None:
            terminal.discard(sys.stderr)


class Progress:
    """Shows how far the work is. `quiet` prints nothing at all; `console` is stderr unless a test gives its
    own.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None, says: bool = True) -> None:
        self.quiet = quiet
        self.console = console or Stderr()
        self._says = says
        self._bars: Bars | None = None  # one live display for all tasks that are open
        self._open = 0

    def tasks_alone(self) -> "Progress":
        """The same without lines: for work inside of other work, whose own lines would mislead."""
        return Progress(self.quiet, self.console, says=False)

    def say(self, line: str) -> None:
        """Prints one line, above any bar."""
        if self._says and not self.quiet:
            self.console.print(terminal.visible(line), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """A piece of work of `total` steps (None: unknown); yields `advance(n=1)`. Tasks may be nested."""
        if self.quiet or not _shown:
            yield _silent
        elif self.console.is_terminal:
            with self._bar(description, total) as advance:
                yield advance
        else:
            with self._lines(description, total) as advance:
                yield advance

    @contextmanager
    def _bar(self, description: str, total: int | None) -> Iterator[Advance]:
        bars = self._bars = self._bars or _bars(self.console)
        task = bars.add_task(terminal.visible(description), total=total)
        self._open += 1
        bars.start()

        def advance(n: int = 1) -> None:
            bars.advance(task, n)

        try:
            yield advance
        finally:
            self._open -= 1
            if self._open:
                bars.remove_task(task)
            else:
                bars.stop()
                self._bars = None

    @contextmanager
    def _lines(self, description: str, total: int | None) -> Iterator[Advance]:
        started = last_line = time.monotonic()
        done, first = 0, None  # of the first pieces: when, and how many they were
        of_total = f"/{total}" if total is not None else ""
        self.say(f"{description} ...")

        def advance(n: int = 1) -> None:
            nonlocal done, last_line, first
            done += n
            now = time.monotonic()
            first = first or (now, done)
            if now - last_line >= max(LINE_EVERY, min(RARER * (now - started), LINE_AT_LEAST)):
                last_line = now
                left = "" if total is None else _left(now - first[0], done - first[1], total - done)
                self.say(f"{description}: {done}{of_total} ({now - started:.0f} s{left})")

        yield advance
        self.say(f"{description}: done ({time.monotonic() - started:.1f} s)")


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _left(seconds: float, done: int, to_do: int) -> str:
    """How long the rest takes at the pace of the pieces after the first, in which models are loaded; nothing
    before there are enough of them.
    """
    if done < PIECES_LEAST or seconds < LINE_EVERY / 2:
        return ""
    rest = seconds / done * max(to_do, 0)
    told = f"{rest / 60:.0f} min" if rest >= 90 else f"{rest:.0f} s"
    return f", about {told} left"


def _silent(n: int = 1) -> None:
    """Counts nothing."""
