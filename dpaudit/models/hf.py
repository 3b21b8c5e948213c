"""Hugging Face causal language models: the folder that a base is read from, and loading it with adapters.

Weights are read from safetensors only and no code of a model repository is ever run.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from dpaudit.errors import UsageError
from dpaudit.models import adapters, border, folder, hub, number_formats, random_weights

# PEFT 0.21 reads a name that Transformers 5 has renamed; nothing that a user could mend.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)

# PEFT imports bitsandbytes wherever it is installed, and that tells of kernels which only 4-bit inference
# would use.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

TRAIN_AGAIN = "train the arm again or name another folder"

SMALL_MODEL = 64 * 2**20  # bytes of weights


def resolve(base: str) -> str:
    """The folder that `base` means: `builtin:NAME` is inside the package, a hub id where it was fetched to,
    or itself; `random:SHAPE` has none.

    Nothing is asked of the hub. Raises UsageError for a folder that lacks config.json or safetensors weights,
    and for a path without a folder.
    """
    if base.startswith("builtin:"):
        return str(
            _checked_folder(Path(__file__).parents[1] / "builtin" / base.removeprefix("builtin:"), base)
        )
    place = Path(base).expanduser()
    if place.is_dir() or base.startswith((".", "/", "~")) or base.count("/") > 1:
        return str(_checked_folder(place, base))
    return str(hub.fetched(base) or base)


def is_small(base: str) -> bool:
    """Whether the model is so small that one core is enough for it, by the size of its weight files."""
    if random_weights.is_random(base):
        return 4 * random_weights.shape(base).parameters <= SMALL_MODEL
    weights = Path(resolve(base)).glob("*.safetensors")
    return 0 < sum(file.stat().st_size for file in weights) <= SMALL_MODEL


def place_of(base: str, weights: bool = True) -> Path:
    """The folder that a base is read from. Raises UsageError for a folder without the needed files, and for a
    hub id that was not fetched, or random weights, which lie nowhere.
    """
    if random_weights.is_random(base):
        raise UsageError(
            f"--model {base}",
            "a model with files",
            "random weights, which are drawn where they are asked for",
            "name a folder; train, run, attack and eval take random weights",
        )
    place = Path(resolve(base))
    if not place.is_dir() and not hub.is_id(base):
        raise UsageError(
            f"--model {base}",
            "a model folder, a hub id OWNER/NAME or builtin:tiny",
            "no such folder",
            "check the path",
        )
    if not place.is_dir() or (hub.is_id(base) and weights and not any(place.glob("*.safetensors"))):
        raise UsageError(
            f"--model {base}",
            "a model on this machine",
            "a hub id that was not fetched",
            f"`hf download {base}` beforehand, or type --model {base} with train, run or verify",
        )
    return _checked_folder(place, base) if weights else place


def _checked_folder(place: Path, base: str) -> Path:
    if not place.is_dir():
        raise UsageError(f"--model {base}", "a model folder or a hub id", "no such folder", "check the path")
    for needed, exists in (
        ("config.json", (place / "config.json").is_file()),
        ("*.safetensors", any(place.glob("*.safetensors"))),
    ):
        if not exists:
            raise UsageError(
                f"--model {base}",
                f"a folder with {needed}",
                "no such file in it",
                "save the model with save_pretrained (safetensors)",
            )
    if (
        place / adapters.CONFIG
    ).exists():  # Transformers would take it for an adapter, and load the base that it names
        raise UsageError(
            f"--model {base}",
            "a model's own folder",
            f"a folder with {adapters.CONFIG}",
            "move the adapter's files into a folder of their own",
        )
    return place


def check(base: str) -> folder.Checked:
    """The checked folder of a base, or what one of that shape would be. Raises UsageError as `place_of` and
    `folder.check`.
    """
    where = f"--model {base}"
    if random_weights.is_random(base):
        config = random_weights.configuration(base)
        return folder.Checked(config, folder.empty_model(config, where), None, None)
    return folder.check(place_of(base), where)


def configuration(base: str) -> Any:
    """The configuration of a base, whose weights need not be here."""
    if random_weights.is_random(base):
        return random_weights.configuration(base)
    return folder.configuration(place_of(base, weights=False), f"--model {base}")


def window(base: str) -> int | None:
    """How many tokens a base reads at most; None where its configuration does not say."""
    most: int | None = getattr(configuration(base), "max_position_embeddings", None)
    return most


def load_model(
    base: str, dtype: str = "float32", quantization: str | None = None, attention: str | None = None
) -> Any:
    """The causal language model of `base` in evaluation mode, all of it read from its files. Raises
    UsageError in one line where it is not.

    `quantization` nf4 holds the weights in 4 bits with doubly quantized scales (bitsandbytes) and computes in
    `dtype`; `attention` names an implementation of Transformers, such as flash_attention_2. A checkpoint that
    is quantized itself is read as it is.
    """
    import transformers

    if dtype not in _DTYPES:
        raise UsageError("model.dtype", f"one of {', '.join(_DTYPES)}", repr(dtype))
    transformers.utils.logging.disable_progress_bar()  # stages show their own
    where, checked = f"--model {base}", check(base)
    check_quantization(checked.method, quantization, where)
    with border.told(where, expected=folder.ANSWERS, remedy="check its folder"):
        model, info = _kind(base, checked).from_pretrained(
            **_source(base, checked, _DTYPES[dtype]),
            dtype=_DTYPES[dtype],
            **(_quantization(quantization, dtype) if checked.method is None else {}),
            attn_implementation=attention,
            key_mapping=checked.renamed,
            output_loading_info=True,
        )
    folder.require_whole(info, where)
    for layer in model.modules():
        # bitsandbytes would repack weights and score in bfloat16 on processors that can, whatever they were
        # trained in
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model.eval()


def _kind(base: str, checked: folder.Checked) -> Any:
    import transformers

    return type(checked.empty) if random_weights.is_random(base) else transformers.AutoModelForCausalLM


def _source(base: str, checked: folder.Checked, dtype: torch.dtype) -> dict[str, Any]:
    """Where `from_pretrained` takes the weights from."""
    if random_weights.is_random(base):
        drawn = random_weights.weights(checked.empty, dtype)
        return {"pretrained_model_name_or_path": None, "config": checked.config, "state_dict": drawn}
    return {
        "pretrained_model_name_or_path": str(place_of(base)),
        "use_safetensors": True,
        "trust_remote_code": False,
        "local_files_only": True,
    }


def check_quantization(method: str | None, asked: str | None, where: str) -> None:
    """Raises UsageError where a checkpoint that is quantised itself is to be quantised otherwise."""
    if method is not None and asked is not None and method != "bitsandbytes":
        raise UsageError(
            "model.quantization",
            "none for a checkpoint that is already quantised",
            f"{asked} on {method}",
            "leave it out, or give the model unquantised",
        )


def _quantization(name: str | None, dtype: str) -> dict[str, Any]:
    """The option of Transformers' loading; a None there would hide what a checkpoint's own configuration
    says.
    """
    import transformers

    if name is None:
        return {}
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=name,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_DTYPES[dtype],
    )
    return {"quantization_config": settings}


def with_adapter(
    model: Any, adapter: Path, name: str = "default", where: str | None = None, remedy: str = TRAIN_AGAIN
) -> Any:
    """The PEFT model of `model` with the adapter of a folder beside those that it has.

    Raises UsageError for a folder that is no adapter, and for one that does not fit the model in every
    tensor.
    """
    return adapters.load(model, adapter, name, where or str(adapter), remedy)


def for_asking(model: Any, dtype: str) -> Any:
    """A model that was loaded in `dtype`, in float32 where this processor is slow in `dtype`.

    Every bfloat16 number is a float32 number, so the weights keep their values. Packed weights stay as they
    are: what they unpack to depends on the format.
    """
    return model.float() if number_formats.is_slow(dtype) and not is_quantized(model) else model


def on_device(model: Any) -> Any:
    """The model on the accelerator if there is one."""
    return model if is_quantized(model) else model.to("cuda" if torch.cuda.is_available() else "cpu")


def is_quantized(model: Any) -> bool:
    """Whether the weights are packed; such a model stays on the device where it was made."""
    return getattr(model, "hf_quantizer", None) is not None
