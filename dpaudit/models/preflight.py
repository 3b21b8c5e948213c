"""Checks that a base, and an adapter on it, would load whole, before a command writes anything."""

from pathlib import Path

from dpaudit.models import adapters, folder, hf
from dpaudit.models.tokenizers import check_tokens, load_tokenizer


def check(base: str, quantization: str | None = None, adapter: Path | None = None) -> folder.Checked:
    """The checked folder of a base. Raises UsageError for a base, or an adapter on it, that would not load
    whole. No weight is read.

    For commands that write: a fault in a model's folder is reported before anything is written.
    """
    where = f"--model {base}"
    checked = hf.check(base)
    hf.check_quantization(checked.method, quantization, where)
    check_tokens(load_tokenizer(base), checked.rows, where)
    if adapter is not None:
        adapters.check(adapter, folder.empty_model(checked.config, where), str(adapter), hf.TRAIN_AGAIN)
    return checked
