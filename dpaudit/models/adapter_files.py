"""LoRA adapters: made new on a base model, and written with a model card."""

import difflib
import warnings
from pathlib import Path
from typing import Any

import torch

from dpaudit.errors import UsageError
from dpaudit.models import adapters, border
from dpaudit.models import folder as folders
from dpaudit.models.model_card import model_card
from dpaudit.privacy import beside
from dpaudit.privacy.ledger import Ledger
from dpaudit.storage.custody import file_digest
from dpaudit.suite.suite import Lora

NAMES_MOST = 12  # names of layers, listed where none is like the given one


def new_adapter(base: Any, lora: Lora, seed: int) -> Any:
    """The PEFT model of `base` with a fresh adapter; `seed` fixes its initial weights, which are public.

    Move `base` to its device first. Raises UsageError where no layer of the model bears a name of
    `lora.targets`.
    """
    import peft

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # PEFT asks transformers by a name that is being replaced
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(base, config)
        except ValueError as error:
            raise _no_target(base, lora.targets) from error


def _no_target(base: Any, targets: str | tuple[str, ...]) -> UsageError:
    """The error for names that no layer bears, with the model's own that are most like them."""
    known = sorted({n.rpartition(".")[2] for n, m in base.named_modules() if isinstance(m, torch.nn.Linear)})
    asked = [targets] if isinstance(targets, str) else list(targets)
    near = [name for target in asked for name in difflib.get_close_matches(target, known, n=2)]
    listed = list(dict.fromkeys([*near, *known]))[:NAMES_MOST]
    return UsageError(
        "training.lora.targets",
        "all-linear, or names of the model's linear layers",
        ", ".join(asked),
        f"it has {', '.join(listed)}" + (" and others" if len(listed) < len(known) else ""),
    )


def load_adapter(model: Any, folder: Path) -> None:
    """Puts the weights of an adapter folder into the model's own adapter, which stays trainable. Raises as
    `fitting`.
    """
    import peft

    peft.set_peft_model_state_dict(model, fitting(model, folder))


def fitting(model: Any, folder: Path) -> dict[str, Any]:
    """The weights of an adapter folder, for the model's own adapter.

    Raises UsageError where the folder's adapter is of another rank, scaling or kind, or of other layers.
    """
    import peft

    weights, kept = _opened(folder)
    planned = model.peft_config["default"]
    for name in ("r", "lora_alpha", "use_rslora", "use_dora"):
        if (seen := kept.get(name, False)) != (wanted := getattr(planned, name)):
            raise UsageError(
                str(folder),
                f"an adapter with {name} = {wanted}, as in the plan",
                f"{name} = {seen}",
                "set training.lora as it was trained with",
            )
    own = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    if {name: w.shape for name, w in weights.items()} != {name: w.shape for name, w in own.items()}:
        raise UsageError(
            str(folder),
            "an adapter of the plan's layers",
            "an adapter of other layers",
            "set training.lora as it was trained with",
        )
    return weights


def _opened(adapter: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """An adapter folder's weights and settings, from safetensors and JSON alone."""
    import peft

    where, remedy = str(adapter), "copy it again, or train it again"
    adapters.require_files(adapter, where, "give the folder that training wrote")
    kept = folders.settings(adapter / adapters.CONFIG, where)
    with border.told(where, expected="a whole adapter", remedy=remedy):
        return peft.load_peft_weights(str(adapter), device="cpu"), kept


def save_adapter(model: Any, folder: Path, base: str, card: str, tokenizer: Any = None) -> None:
    """Writes adapter_model.safetensors, adapter_config.json and README.md; `base` names the base model in
    them.

    With a `tokenizer`, its files and chat template too: whoever gets the folder alone then asks the model in
    the form that it was trained in. Give one as it was loaded: after truncating or padding texts, a tokenizer
    saves that setting too.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path = base
    if not isinstance(config.target_modules, str):  # a set, whose order differs from process to process
        config.target_modules = sorted(config.target_modules)
    # Embeddings never train here; PEFT would ask a model hub whether to save them.
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    (folder / "README.md").write_text(card, encoding="utf-8")


def bound(ledger: Ledger, folder: Path, base: str, read: dict[str, str]) -> Ledger:
    """The ledger with the hashes of what was saved in `folder`, weights and settings, and of the base that
    was `read`.

    Its card then names the hash of the weights too.
    """
    adapter = file_digest(folder / beside.ADAPTER)
    bound_ledger = ledger.bound_to(adapter, beside.settings_digest(folder), read)
    (folder / "README.md").write_text(model_card(bound_ledger, base), encoding="utf-8")
    return bound_ledger
