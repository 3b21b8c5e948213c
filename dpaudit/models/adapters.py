"""Checks of an adapter's folder before it is loaded, and of what PEFT loaded from it.

PEFT only warns where a file lacks a tensor of the adapter, ignores a tensor that has no place in it, and
overwrites the base's embeddings with those that lie beside an adapter.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dpaudit.errors import UsageError
from dpaudit.models import border, embeddings, folder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FITS = "an adapter that fits its base"
RANK_MOST = 2**16
_PLAIN = ("gaussian", "eva", "orthogonal")  # initialisations that leave the base's weights as they are


def require_files(adapter: Path, where: str, remedy: str) -> None:
    for needed in (CONFIG, WEIGHTS):
        if not (adapter / needed).is_file():
            raise UsageError(where, f"an adapter folder with {needed}", "no such file", remedy)


def chat_template(adapter: Path, where: str) -> str | dict[str, str] | None:
    """The chat template that lies beside an adapter, in a file of its own or in the settings of a tokenizer;
    None without one.
    """
    file = adapter / "chat_template.jinja"
    if file.is_file():
        with border.told(where, expected=f"{file.name} in UTF-8", remedy="copy it again"):
            return file.read_text(encoding="utf-8")
    if not (adapter / "tokenizer_config.json").is_file():
        return None
    template = folder.settings(adapter / "tokenizer_config.json", where).get("chat_template")
    if isinstance(template, list):
        with border.told(
            where, expected="named chat templates in tokenizer_config.json", remedy="copy it again"
        ):
            return {str(entry["name"]): str(entry["template"]) for entry in template}
    return None if template is None else str(template)


def configuration(adapter: Path, where: str) -> Any:
    """The adapter's PEFT configuration, for use and not for training.

    Raises UsageError for an adapter of another kind than layers of a causal language model, for one that
    changes its base, and for one that names code or holds settings that the installed PEFT does not know.
    """
    import peft

    raw = folder.settings(adapter / CONFIG, where)
    kinds = peft.PEFT_TYPE_TO_CONFIG_MAPPING
    kind = next((kinds[known] for known in kinds if known == raw.get("peft_type")), None)
    if kind is None:
        raise UsageError(
            where,
            f"a peft_type that PEFT {peft.__version__} has",
            f"{raw.get('peft_type')!s:.40}",
            "save the adapter with PEFT, or merge it and give the whole model",
        )
    if issubclass(kind, peft.PromptLearningConfig):
        raise UsageError(
            where, "an adapter of the model's layers, such as LoRA", "an adapter of virtual tokens"
        )
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        raise UsageError(
            where,
            "task_type CAUSAL_LM",
            f"{raw['task_type']!s:.40}",
            "give an adapter of a causal language model",
        )
    _check_settings(raw, kind, where)
    with border.told(where, expected=f"{CONFIG} as PEFT writes it", remedy="copy it again"), _quiet():
        config = kind.from_pretrained(str(adapter))
        config.inference_mode = True
        return config


def _check_settings(raw: dict[str, Any], kind: type, where: str) -> None:
    ranks = [
        raw.get("r"),
        *(raw["rank_pattern"].values() if isinstance(raw.get("rank_pattern"), dict) else ()),
    ]
    for rank in (rank for rank in ranks if rank is not None):
        if not isinstance(rank, int) or not 1 <= rank <= RANK_MOST:
            raise UsageError(where, f"a rank from 1 to {RANK_MOST}", f"{rank!s:.40}", f"check {CONFIG}")
    started = raw.get("init_lora_weights")
    if isinstance(started, str) and started not in _PLAIN:
        raise UsageError(
            where,
            "an adapter that leaves its base unchanged",
            f"init_lora_weights {started:.40}, which changes it on loading",
            "save it as plain LoRA (PEFT: path_initial_model_for_weight_conversion), or merge it and give "
            "the whole model",
        )
    if raw.get("megatron_config") is not None:
        raise UsageError(where, "an adapter of Transformers' layers", "megatron_config, which names code")
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    strange = sorted(key for key, value in raw.items() if value and key not in known)
    if strange:
        raise UsageError(
            where,
            f"settings that PEFT knows for {raw['peft_type']}",
            f"{', '.join(strange):.80}",
            "it was saved by a newer PEFT: merge it there and give the whole model, or delete what changes "
            "nothing",
        )


def check(adapter: Path, empty: Any, where: str, remedy: str) -> Any:
    """The adapter's PEFT configuration. Raises UsageError where the folder's tensors are not those that this
    configuration needs on the base.

    `empty` is the base on the meta device, where a layer of any size takes no memory; it is changed.
    """
    require_files(adapter, where, remedy)
    config = configuration(adapter, where)
    with border.told(where, expected=FITS, remedy=remedy), torch.device("meta"), _quiet():
        import peft

        model = peft.get_peft_model(empty, config, low_cpu_mem_usage=True)
    require_whole(model, "default", adapter, where, remedy)
    return config


def require_whole(model: Any, slot: str, adapter: Path, where: str, remedy: str) -> None:
    """Raises UsageError where the file's tensors are not those of the model's adapter `slot`, by name and by
    shape.

    Embeddings of the base's own size may lie beside them; `load` looks at their numbers.
    """
    import peft

    file = folder.headers(adapter / WEIGHTS, where)
    with border.told(where, expected=FITS, remedy=remedy), _quiet():
        own = peft.get_peft_model_state_dict(model, adapter_name=slot, save_embedding_layers=False)
        beside = embeddings.beside(model, model.peft_config[slot], own)
    missing = sorted(set(own) - set(file))
    left = sorted(set(file) - set(own) - set(beside))
    shapes = {name: tuple(weight.shape) for name, weight in own.items()} | beside
    other = sorted(name for name in set(file) & set(shapes) if file[name].shape != shapes[name])
    differences = [
        f"{len(names)} {what} ({names[0]:.100})"
        for names, what in (
            (missing, "that are missing"),
            (left, "that have no place in it"),
            (other, "of another shape"),
        )
        if names
    ]
    if differences:
        raise UsageError(
            where, "an adapter whose tensors are those of its base", ", ".join(differences), remedy
        )


def load(model: Any, adapter: Path, slot: str, where: str, remedy: str) -> Any:
    """The PEFT model with the adapter under `slot`, all of whose tensors came from the file; the base is as
    it was.
    """
    import peft

    config = check(adapter, folder.empty_model(model.config, where), where, remedy)
    rounded = embeddings.kept(model, config, adapter / WEIGHTS, where)
    with border.told(where, expected=FITS, remedy=remedy), _quiet():
        if isinstance(model, peft.PeftModel):
            model.load_adapter(str(adapter), adapter_name=slot, is_trainable=False)
        else:
            model = peft.PeftModel.from_pretrained(
                model, str(adapter), adapter_name=slot, is_trainable=False, config=config
            )
    for layer, weight in rounded:
        layer.weight.data.copy_(weight)
    require_whole(model, slot, adapter, where, remedy)
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences PEFT's warnings: of faults that are refused here, and of others that no user could mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
