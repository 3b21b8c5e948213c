"""What other people's libraries say on stderr that would break into our lines and helps nobody; their errors still come."""

import logging
import os
import warnings

# A notice that hides a fault is not here: each says why it tells a user nothing.
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
    ("transformers.tokenization_utils_base", "Token indices sequence length is longer", "we cut or refuse, and count, by model.max_length"),
    ("absl", "Excluding this order from the epsilon", "a Renyi order that is left out can only make that epsilon larger"),
)  # fmt: skip


def hush() -> None:
    """Silences notices by name. Called before any library is loaded, in every process."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # stages show their own
    os.environ.setdefault(
        "TRANSFORMERS_VERBOSITY", "error"
    )  # what loading left out is asked for, and told by us
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # and no advice on it after a fork
    warnings.filterwarnings("ignore", category=FutureWarning)  # to those who call the library
    for text, _ in NOTICES:
        warnings.filterwarnings("ignore", message=text)
    logging.getLogger("transformers.tokenization_utils_base").addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line that a library logs is none of `LOGGED`."""
    return not any(text in str(record.msg) for name, text, _ in LOGGED if name == record.name)
