"""Curves of a training for TensorBoard: the numbers of steps.jsonl, under fixed names. No text is written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.errors import UsageError

if TYPE_CHECKING:
    from dpaudit.training.state import Step  # it loads torch

PACKAGE = "tensorboard"
SHOWN = ("loss", "learning_rate", "units", "clipped_share", "seconds")  # fields of a step


def check(is_asked: bool) -> None:
    """Raises UsageError where curves are asked for and the package that writes them is not here."""
    if is_asked and find_spec(PACKAGE) is None:
        raise UsageError(
            "training.tensorboard",
            f"the package {PACKAGE}",
            "no such package",
            "pip install 'dpaudit[tensorboard]', or leave the key out",
        )


@contextmanager
def to(folder: Path | None) -> "Iterator[Callable[[Step], None]]":
    """Takes each step when it is done, and writes it into an event file in `folder`; None: nowhere. What an
    earlier process wrote of a step that is done again is taken back.
    """
    if folder is None:
        yield lambda step: None
        return
    writers: list[Any] = []

    def write(step: "Step") -> None:
        from torch.utils.tensorboard import SummaryWriter

        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=step.step or None))
        for name in SHOWN:
            if (value := getattr(step, name)) is not None:
                writers[0].add_scalar(name, value, step.step)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
