"""Checks of a model's folder before a weight is read: its configuration, and the tensors that its files name.

Transformers fills a tensor that a file lacks with random numbers, leaves out one that it does not know, and
casts packed integers to floats; it only warns. Here Transformers' own loading runs on the tensors' names and
shapes, without weights.
"""

import copy
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dpaudit.errors import UsageError, kind_of
from dpaudit.models import border

JSON_MOST = 2**26  # bytes of a configuration
LAYERS_MOST = (
    2000  # what loops over more would take minutes before it failed; the deepest model known has 1,000
)
BUFFER_BYTES = 2**30  # of tables that a model computes itself, such as position tables
COMPILED = "_orig_mod."  # what torch.compile puts before every name
ANSWERS = "a causal language model in safetensors"

_LAYERS = re.compile(
    r"^(?!max_).*layers$|^n_layer$"
)  # each has a tensor; Qwen's max_window_layers counts none
_COUNTS = re.compile(r"(^|_)(blocks|experts|stages|depths?)$")
_FLOATS = ("F64", "F32", "F16", "BF16")
# suffixes of tensors that only a quantised checkpoint has (GPTQ, AWQ, compressed-tensors, FP8, bitsandbytes,
# MXFP4)
_PACKED = re.compile(
    r"[._](qweight|qzeros|g_idx|scales?|packed|weight_shape|scale_inv|zero_point|absmax|quant_map"
    r"|SCB|weight_format|quant_state\..*|blocks|codebooks?)$"
)
_STATE = re.compile(
    r"(.*\.weight)\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*)$"
    r"|.*\.(SCB|weight_format)$"
)
LIBRARIES = {  # quant_method -> the module that reads it
    "bitsandbytes": "bitsandbytes", "gptq": "gptqmodel", "awq": "gptqmodel",
    "compressed-tensors": "compressed_tensors",
    "hqq": "hqq", "quanto": "optimum.quanto", "torchao": "torchao", "aqlm": "aqlm", "eetq": "kernels",
    "higgs": "flute",
    "vptq": "vptq", "spqr": "spqr_quant", "quark": "quark", "auto-round": "auto_round",
    "fbgemm_fp8": "fbgemm_gpu",
    "fp_quant": "fp_quant", "sinq": "sinq",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """What a file's header says of a tensor."""

    shape: tuple[int, ...]
    dtype: str  # safetensors' name, such as BF16


@dataclass(frozen=True, eq=False)
class Checked:
    """A folder that can be loaded whole. `empty` is the model on PyTorch's meta device, which takes no
    memory.
    """

    config: Any
    empty: Any
    method: str | None  # how the checkpoint is quantised
    renamed: dict[str, str] | None  # a key_mapping for names that torch.compile changed

    @property
    def rows(self) -> int:
        """Rows of the embedding; token ids are below this number."""
        return int(self.empty.get_input_embeddings().weight.shape[0])


def check(folder: Path, where: str) -> Checked:
    """Raises UsageError in one line for a folder whose model would not load whole and as its configuration
    says.
    """
    raw = settings(folder / "config.json", where)
    tensors = read_tensors(folder, raw, where)
    method = quantization(raw, where)
    _check_values(raw, len(tensors), where)
    config = configuration(folder, where)
    with _quiet():
        empty = empty_model(config, where)
        renamed = {f"^{re.escape(COMPILED)}": ""} if all(n.startswith(COMPILED) for n in tensors) else None
        if method in (None, "bitsandbytes"):
            _check_tensors(config, empty, tensors, method, renamed, where)
    _check_generation(folder, where)
    return Checked(config, empty, method, renamed)


def settings(file: Path, where: str) -> dict[str, Any]:
    """A JSON object from a model's or an adapter's folder. Raises UsageError for anything else."""
    expected = f"{file.name} with a JSON object"
    with border.told(where, expected=expected, remedy="copy the folder again"):
        if file.stat().st_size > JSON_MOST:
            raise UsageError(where, expected, f"a file of {file.stat().st_size} bytes")
        content = json.loads(file.read_bytes())
    if not isinstance(content, dict):
        raise UsageError(where, expected, kind_of(content), "copy the folder again")
    return content


def configuration(folder: Path, where: str) -> Any:
    """The folder's configuration as Transformers reads it, from this machine and without the folder's
    code.
    """
    import transformers

    raw = settings(folder / "config.json", where)
    if raw.get("auto_map") and str(raw.get("model_type")) not in transformers.CONFIG_MAPPING:
        raise UsageError(
            where,
            "a model that Transformers itself has",
            "a model with its own code (auto_map), which is never run",
            "give a model of a kind that Transformers has",
        )
    with border.told(where, expected=f"the configuration of {ANSWERS}", remedy="check config.json"):
        return transformers.AutoConfig.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )


def read_tensors(folder: Path, raw: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Name -> shape and dtype of every tensor in the files that Transformers would read; headers alone are
    opened.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files(folder, raw, where):
        for name, tensor in headers(file, where).items():
            if name in tensors:
                raise UsageError(
                    where, "every tensor in one file", f"{name:.80} in two files", "copy the folder again"
                )
            tensors[name] = tensor
    return tensors


def headers(file: Path, where: str) -> dict[str, Tensor]:
    """What the header of a safetensors file names. Raises UsageError for a file that is cut, damaged or of
    another format.
    """
    from safetensors import safe_open

    with (
        border.told(where, expected=f"{file.name} in safetensors, whole", remedy="copy the file again"),
        safe_open(file, "pt") as opened,
    ):
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        return {n: Tensor(tuple(part.get_shape()), part.get_dtype()) for n, part in slices.items()}


def _files(folder: Path, raw: Mapping[str, Any], where: str) -> list[Path]:
    """The files that Transformers would read: model.safetensors, or those that its index names."""
    if raw.get("transformers_weights") is not None:
        raise UsageError(
            where,
            "weights in model.safetensors or by its index",
            "transformers_weights in config.json",
            "save the model with save_pretrained",
        )
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise UsageError(
            where,
            "model.safetensors or model.safetensors.index.json",
            "no such file",
            "save the model with save_pretrained (safetensors)",
        )
    weight_map = settings(index, where).get("weight_map")
    names = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise UsageError(
            where, f"{index.name} with a weight_map to files of the folder", "an index without it"
        )
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise UsageError(
            where,
            f"the {len(names)} files that {index.name} names",
            f"no {lacking[0]:.80}",
            "copy the folder again",
        )
    return [folder / name for name in names]


def quantization(raw: Mapping[str, Any], where: str) -> str | None:
    """How the checkpoint is quantised, None where it is not. Raises UsageError where the library for it is
    not installed.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    config = raw.get("quantization_config", raw.get("compression_config"))
    if config is None:
        return None
    expected = "a quantization_config that names its quant_method"
    if not isinstance(config, dict):
        raise UsageError(where, expected, kind_of(config), "check config.json")
    is_4_or_8_bit = config.get("load_in_4bit") or config.get("load_in_8bit")
    method = config.get("quant_method") or ("bitsandbytes" if is_4_or_8_bit else None)
    if not isinstance(method, str):
        raise UsageError(where, expected, "no quant_method", "check config.json")
    if method not in (
        "bitsandbytes",
        *AUTO_QUANTIZATION_CONFIG_MAPPING,
    ):  # Transformers would ignore it
        raise UsageError(
            where, "a quantisation that Transformers can read", f"{method:.40}", "give the model unquantised"
        )
    module = LIBRARIES.get(method)
    if module is not None and importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UsageError(
            where,
            f"{module}, which reads weights quantised by {method}",
            "no such library here",
            f"pip install {module.replace('.', '-').replace('_', '-')}, or give the model unquantised",
        )
    return method


def _check_values(raw: Mapping[str, Any], tensors: int, where: str) -> None:
    """Refuses values that make a constructor loop without end or fetch code, before it is called."""
    for key, value in _walk(raw):
        name = key.rpartition(".")[2]
        most = (
            min(tensors, LAYERS_MOST)
            if _LAYERS.search(name)
            else LAYERS_MOST
            if _COUNTS.search(name)
            else None
        )
        if isinstance(value, int) and most is not None and value > most:
            raise UsageError(
                where,
                f"{key} of at most {most}, by its {tensors} tensors",
                f"{value:g}" if value < 1e300 else "a larger value",
                "check config.json",
            )
        if name.endswith(("attn_implementation", "experts_implementation")) and "/" in str(value):
            raise UsageError(
                where,
                f"{key} that Transformers has",
                "code from a hub",
                "delete it from config.json; model.attention names one",
            )
        is_count = isinstance(value, int | float) and name in ("max_position_embeddings", "n_positions")
        if is_count and not value >= 1:
            raise UsageError(where, f"{key} of at least 1", f"{value:g}", "check config.json")


def _walk(raw: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in nested objects."""
    for key, value in raw.items():
        yield f"{path}{key:.80}", value
        if isinstance(value, dict):
            yield from _walk(value, f"{path}{key:.80}.")


def empty_model(config: Any, where: str) -> Any:
    """The model without weights, on the meta device."""
    import transformers

    with border.told(where, expected=ANSWERS, remedy="check config.json"), torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(_unquantised(config), trust_remote_code=False)
    tables = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if tables > BUFFER_BYTES:
        raise UsageError(
            where,
            f"a model whose own tables take at most {BUFFER_BYTES:.2g} bytes",
            f"{tables:.2g}",
            "check the sizes in config.json",
        )
    return model


def _check_tensors(
    config: Any,
    empty: Any,
    tensors: Mapping[str, Tensor],
    method: str | None,
    renamed: dict[str, str] | None,
    where: str,
) -> None:
    """Runs Transformers' own loading on these names and shapes, and raises what it reports."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if (
        method is not None
    ):  # a packed weight has the shape of its bytes, and tensors beside it that hold its scales
        own = {name: tuple(weight.shape) for name, weight in empty.state_dict().items()}
        shapes = {name: own.get(name, shape) for name, shape in shapes.items() if not _STATE.match(name)}
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    with border.told(where, expected=ANSWERS, remedy="check config.json"):
        _, info = type(empty).from_pretrained(
            None,
            config=_unquantised(config),  # a copy, since it is changed
            state_dict=weights,
            key_mapping=renamed,
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    if method is None:
        floats = {name for name, weight in empty.state_dict().items() if weight.is_floating_point()}
        _refuse_packed(tensors, floats, info["unexpected_keys"], where)
    require_whole(info, where)


def _unquantised(config: Any) -> Any:
    copied = copy.deepcopy(config)
    vars(copied).pop("quantization_config", None)
    return copied


def _refuse_packed(tensors: Mapping[str, Tensor], own: set[str], left: set[str], where: str) -> None:
    """Raises UsageError for tensors that hold packed numbers where no configuration says how to read them.

    Integers that a model ignores, such as masks of old checkpoints, are neither its `own` floats nor `left`
    over.
    """
    packed = [
        name
        for name, tensor in tensors.items()
        if (name.removeprefix(COMPILED) in own | left and tensor.dtype not in _FLOATS)
        or (name in left and _PACKED.search(name))
    ]
    if packed:
        raise UsageError(
            where,
            "weights in floating point, or a quantization_config that says how they are packed",
            f"{len(packed)} packed tensors ({packed[0]:.80})",
            "copy config.json as it was published, or give the model unquantised",
        )


def require_whole(info: Mapping[str, Any], where: str) -> None:
    """Raises UsageError where Transformers' loading info lists tensors that would be random, left out or of
    another shape.
    """
    missing, left = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    other = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    differences = [
        f"{len(names)} {what} ({names[0]:.80})"
        for names, what in ((missing, "missing"), (left, "left over"), (other, "of another shape"))
        if names
    ]
    differences += [" ".join(str(message).split())[: border.MOST] for message in list(info["error_msgs"])[:1]]
    if differences:
        raise UsageError(
            where,
            "a model whose tensors are those that config.json describes",
            ", ".join(differences),
            "copy the folder again, or save the model with save_pretrained",
        )


def _check_generation(folder: Path, where: str) -> None:
    import transformers

    if (folder / "generation_config.json").is_file():
        with border.told(
            where, expected="a generation_config.json that can be read", remedy="delete it, or copy it again"
        ):
            transformers.GenerationConfig.from_pretrained(str(folder), local_files_only=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside the block Transformers prints no report of its own: its findings are raised here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()  # stages show their own
    try:
        yield
    finally:
        logging.set_verbosity(before)
