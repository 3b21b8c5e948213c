"""An adapter merged into its base: a model of its own in sharded safetensors, compared with what it came
from.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import hf, tokenizers
from dpaudit.models.encode import prompt_ids

# Of `Reloaded.difference`: weights are rounded once more (by up to 2**-9 relative in bfloat16), and
# activations differ by as much, which adds up to 0.04 over 30 layers. A larger difference is not rounding.
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1}
_SIZE = re.compile(r"[1-9]\d*(KB|MB|GB)")


# Of `Reloaded.adapter_kept`: 0 where the adapter was lost, 1 where it was kept, and about a half where its
# effect is no larger than rounding.
_KEPT_LEAST = 0.25


@dataclass(frozen=True)
class Reloaded:
    """How far the logits of the merged model, read back from disk, are from those of base and adapter.

    `adapter_kept` is the share of the adapter's effect that they show, along its direction.
    """

    difference: float  # root mean square, over that of the logits
    tolerance: float
    adapter_effect: float  # the same of base and adapter against the base alone
    adapter_kept: float


def base_of(adapter: Path) -> str:
    """The base that an adapter's configuration names. Raises UsageError where it names none."""
    file = adapter / "adapter_config.json"
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        base = None
    if not isinstance(base, str) or not base:
        raise UsageError(
            str(file),
            "an adapter's configuration that names its base",
            "no base",
            "name the base with --model",
        )
    return base


def folder_of(base: str) -> Path | None:
    """The folder that a base is in; None for a hub id."""
    place = Path(hf.resolve(base))
    return place if place.is_dir() else None


def own_dtype(base: str) -> str:
    """The dtype of a base's weights as its config.json says, among those that we load; else float32."""
    config = hf.configuration(base)
    name = str(config.dtype).removeprefix("torch.")
    return name if name in TOLERANCE else "float32"


def check(shard_size: str, dtype: str) -> None:
    """Raises UsageError for a size or dtype that could not be written."""
    if not _SIZE.fullmatch(shard_size):
        raise UsageError("--shard-size", "a size such as 2GB or 500MB", shard_size)
    if dtype not in TOLERANCE:
        raise UsageError("--dtype", f"one of {', '.join(TOLERANCE)}", dtype)


def merge(
    base: str,
    adapter: Path,
    folder: Path,
    *,
    dtype: str,
    quantization: str | None = None,
    shard_size: str,
    without: Sequence[str],
    prompts: Sequence[tuple[Turn, ...]],
) -> Reloaded:
    """Writes base plus adapter into `folder` (shards, tokenizer, generation config), reads it back and
    compares.

    A base that the adapter was trained on in packed form (`quantization`, or its own) is unpacked into
    `dtype` first: the adapter corrects what packing changed. The keys `without` of the base's config.json are
    left out. Raises UsageError where base or adapter cannot be loaded, where the adapter has no effect, and
    where the merged model's logits are not those of base and adapter.
    """
    hf.place_of(base)  # refuses random weights, which nobody could tell from a model's own afterwards
    tokenizer = tokenizers.adapters_tokenizer(adapter, tokenizers.load_tokenizer(base), base, str(adapter))
    rows = [prompt_ids(turns, tokenizer) for turns in prompts]
    model = hf.load_model(base, dtype, quantization)
    if hf.is_quantized(model):
        model = unpacked(model, dtype)
    alone = _logits(model, rows)
    model = hf.with_adapter(model, adapter)
    expected = _logits(model, rows)
    if not expected.isfinite().all():
        raise UsageError(str(adapter), f"finite logits in {dtype}", "NaN or infinity")
    _check_effect(expected, alone, adapter, dtype)
    merged = model.merge_and_unload()
    for key in without:
        vars(merged.config).pop(key, None)
    merged.save_pretrained(str(folder), max_shard_size=shard_size)
    tokenizer.save_pretrained(str(folder))
    del model, merged  # two models of this size need not fit at once
    reloaded_logits = _logits(hf.load_model(str(folder), dtype), rows)
    reloaded = _compared(reloaded_logits, expected, alone, TOLERANCE[dtype])
    _check(reloaded, adapter)
    return reloaded


def unpacked(model: Any, dtype: str) -> Any:
    """The model with its packed weights as floats; it is no quantised checkpoint any more."""
    model = model.dequantize(getattr(torch, dtype)).to(getattr(torch, dtype))
    for name in ("hf_quantizer", "_weight_conversions"):  # by which `save_pretrained` would pack them again
        vars(model).pop(name, None)
    return model


def _compared(logits: Tensor, expected: Tensor, alone: Tensor, tolerance: float) -> Reloaded:
    size, effect = float(expected.norm()), expected - alone
    changed = float(effect.norm())
    kept = float((logits - alone) @ effect) / changed**2
    return Reloaded(float((logits - expected).norm()) / size, tolerance, changed / size, kept)


def _check_effect(expected: Tensor, alone: Tensor, adapter: Path, dtype: str) -> None:
    """Raises UsageError for an adapter that changes no logit: a ledger would stand beside a model that is the
    base.
    """
    if float((expected - alone).norm()) == 0:
        remedy = (
            "or merge in float32 (--dtype float32), where weak effects show" if dtype != "float32" else ""
        )
        raise UsageError(
            str(adapter),
            "an adapter that changes the answers of its base",
            "an adapter without any effect",
            f"restore its weights and adapter_config.json (lora_alpha) from one "
            f"copy{remedy and ', ' + remedy}",
        )


def _check(reloaded: Reloaded, adapter: Path) -> None:
    """Raises UsageError where the merged model is not base and adapter; a NaN is not within anything."""
    remedy = "" if reloaded.tolerance == TOLERANCE["float32"] else "merge in float32 (--dtype float32)"
    if not reloaded.difference <= reloaded.tolerance:
        raise UsageError(
            str(adapter),
            f"merged logits within {reloaded.tolerance:g} of base and adapter",
            f"{reloaded.difference:.3g}",
            remedy,
        )
    if not reloaded.adapter_kept >= _KEPT_LEAST:
        raise UsageError(
            str(adapter),
            "a merged model that keeps the adapter's effect",
            f"a share of {reloaded.adapter_kept:.2g}",
            remedy,
        )


@torch.inference_mode()
def _logits(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Of all tokens of all rows in one vector, float32 on the CPU."""
    ids = [torch.tensor([list(row)]) for row in rows]
    return torch.cat(
        [model(input_ids=tokens.to(model.device)).logits.float().flatten().cpu() for tokens in ids]
    )
