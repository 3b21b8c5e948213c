"""What `dpaudit.observe` is given, refused in one line before a file is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from dpaudit.errors import UsageError, kind_of, unread
from dpaudit.storage import whole_files

OBSERVE = "dpaudit.observe"
ORDER = "dpaudit.observe(data, model): the data first"


class Listener:
    """A hook of the model that calls the watch. A copy of the model, and one that is saved, has a hook that
    calls nobody: the watch holds the data and the coins.
    """

    def __init__(self, call: Any = None) -> None:
        self.call = call

    def __call__(self, *given: Any) -> None:
        if self.call is not None:
            self.call(*given)

    def __reduce__(self) -> tuple[type["Listener"], tuple[()]]:
        return Listener, ()


def check_model(model: Any, axes: Any) -> None:
    """Raises UsageError for what is no model, one that is watched, and more axes than it has room for."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"{OBSERVE}: model", "a torch.nn.Module", type(model).__name__, ORDER)
    hooks = model._forward_pre_hooks.values()
    if any(isinstance(hook, Listener) and hook.call is not None for hook in hooks):
        raise UsageError(OBSERVE, "a model that nobody watches yet", "one that is watched", "observe once")
    if isinstance(axes, bool) or not isinstance(axes, int):
        raise UsageError(f"{OBSERVE}: axes", "a whole number", kind_of(axes), "for example axes=300")
    room = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    if axes > room:
        raise UsageError(
            f"{OBSERVE}: axes",
            f"at most {room}, the coordinates of the trainable weights",
            str(axes),
            "ask for fewer" if room else "observe the model that is trained, its weights not frozen",
        )


def check_data(data: Any) -> None:
    """Raises UsageError for what has rows by name and not by number."""
    if isinstance(data, Mapping) or hasattr(data, "iloc"):
        raise UsageError(
            OBSERVE,
            "a data set with a length and rows by number",
            "a table of columns" if hasattr(data, "iloc") else "a mapping",
            "give one of its parts, or a list of rows",
        )


def check_seen(seen: Path) -> None:
    """Raises UsageError where the record cannot be written: now, and not at the end of a training."""
    if seen.exists():
        raise UsageError(
            f"{OBSERVE}: seen {seen}",
            "a file that is not there yet",
            there(seen),
            "name another, or delete it with its key",
        )
    try:
        whole_files.write_text(seen, "")
        seen.unlink()
    except OSError as error:
        raise unread(f"{OBSERVE}: seen {seen}", "a file that can be written", error) from None


def there(path: Path) -> str:
    """What stands at a path."""
    return "a folder" if path.is_dir() else "a file"
