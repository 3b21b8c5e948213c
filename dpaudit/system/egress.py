"""What may leave this machine for a hub: a question about a name that somebody typed, and nothing else.

A hub id inside a file (a suite, a recipe, an adapter's configuration, a data folder) asks nobody. Models that
were fetched before are found without a question.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from dpaudit.errors import UsageError

TYPED = "DPAUDIT_HUB"  # hub ids that were typed, in the environment for the processes of a command
_OFFLINE = "HF_HUB_OFFLINE"
NAMES = (_OFFLINE, TYPED)  # what a process on another machine must be told
_TRUE = ("1", "ON", "YES", "TRUE")


@contextmanager
def closed() -> Iterator[None]:
    """Inside the block the hub's libraries, here and in processes that are started, connect only where
    `asking` lets them.

    A user who has set HF_HUB_OFFLINE has closed them for `asking` too.
    """
    if os.environ.get(_OFFLINE, "").upper() in _TRUE:
        yield
        return
    before = {name: os.environ.get(name) for name in (_OFFLINE, TYPED)}
    os.environ |= {_OFFLINE: "1", TYPED: ""}
    try:
        with _libraries(offline=True):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def allow(*names: str | None) -> None:
    """Notes names that were typed: `asking` may ask a hub about them."""
    if TYPED in os.environ:
        os.environ[TYPED] = " ".join([os.environ[TYPED], *(name for name in names if name)])


def is_allowed(name: str) -> bool:
    """Whether `asking` lets a hub be asked about a name: it was typed, or no command line is at work."""
    return TYPED not in os.environ or name in os.environ[TYPED].split(" ")


@contextmanager
def asking(name: str, option: str) -> Iterator[None]:
    """Inside the block a hub may be asked about `name`. Raises UsageError where nobody typed it, with the
    option to do so.
    """
    if TYPED not in os.environ:  # no command line, or a user's own HF_HUB_OFFLINE: the libraries keep to it
        yield
        return
    if not is_allowed(name):
        raise UsageError(
            name,
            "a file or folder on this machine, or a typed hub id",
            "a hub id from a file",
            f"to ask the hub for it, type {option} {name}",
        )
    with _libraries(offline=False):
        yield


@contextmanager
def _libraries(offline: bool) -> Iterator[None]:
    """Tells the libraries that have read their environment already."""
    before = {module: getattr(module, _OFFLINE) for module in _loaded()}
    for module in before:
        setattr(module, _OFFLINE, offline)
    try:
        yield
    finally:
        for module in _loaded():  # one that was loaded inside of the block took what the block says
            setattr(module, _OFFLINE, before.get(module, not offline))


def _loaded() -> list[ModuleType]:
    """The modules that keep what they read of the environment."""
    names = ("huggingface_hub.constants", "datasets.config")
    return [sys.modules[name] for name in names if name in sys.modules]
