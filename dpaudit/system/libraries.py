"""Other people's libraries: their useless notices are left out of stderr, their errors are not, and a slow
import is announced.
"""

import importlib.abc
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

# A notice that may hide a fault is not here: each entry says why it is useless to a user.
NOTICES = (
    ("`is_gradient_checkpointing`", "PEFT asks Transformers by a name that is being replaced"),
    ("Could not find a config file in", "PEFT asks whether the vocabulary was resized, which we never do"),
    (
        "Already found a `peft_config` attribute",
        "PEFT counts adapters on one base, of which a run has several",
    ),
    ("You are trying to modify a model with PEFT for a second time", "the same"),
)
LOGGED = (
    (
        "transformers.tokenization_utils_base",
        "Token indices sequence length is longer",
        "we cut or refuse, and count, by model.max_length",
    ),
    (
        "absl",
        "Excluding this order from the epsilon",
        "a Renyi order that is left out can only make that epsilon larger",
    ),
)

SLOW = {
    "torch": "loading PyTorch and Transformers ...",
    "dp_accounting": "loading the accountant ...",
}  # seconds of silence


def hush() -> None:
    """Silences notices by name. Called before any library is loaded, in every process."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # stages show their own
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # we report what loading left out
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # and no advice on it after a fork
    warnings.filterwarnings("ignore", category=FutureWarning)  # to those who call the library
    for text, _ in NOTICES:
        warnings.filterwarnings("ignore", message=text)
    logging.getLogger("transformers.tokenization_utils_base").addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line that a library logs is none of `LOGGED`."""
    return not any(text in str(record.msg) for name, text, _ in LOGGED if name == record.name)


class _FirstImport(importlib.abc.MetaPathFinder):
    """Finds nothing; announces the first library of `SLOW` that is imported, then removes itself."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname in SLOW:
            sys.meta_path.remove(self)
            self._say(SLOW[fullname])


def announce(say: Callable[[str], None]) -> None:
    """Calls `say` once, before a slow library is loaded; never where one is loaded already."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _FirstImport)]
    if not SLOW.keys() & sys.modules.keys():
        sys.meta_path.insert(0, _FirstImport(say))
