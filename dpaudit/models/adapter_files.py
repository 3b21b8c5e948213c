"""LoRA adapters: made new on a base model, and written with a model card that comes from the ledger alone
(the card of a merged model too).
"""

import difflib
import warnings
from pathlib import Path
from typing import Any

import torch

from dpaudit.errors import UsageError
from dpaudit.models import adapters, border
from dpaudit.models import folder as folders
from dpaudit.privacy import beside
from dpaudit.privacy.ledger import Ledger
from dpaudit.storage.custody import file_digest
from dpaudit.suite.plan import ASSUMED_PUBLIC
from dpaudit.suite.suite import RANDOM, Lora

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


def model_card(ledger: Ledger | None, base: str, merged: bool = False) -> str:
    """The card of an adapter, or of a model that one was merged into, in Markdown, with how to load it.

    It comes from the privacy ledger alone (None: assumed public): nothing in it comes from unprotected
    records. A population that was counted from the data stays out, and with it every figure that would reveal
    it.
    """
    private = ledger is not None and ledger.is_private
    tags = [*(["merged"] if merged else ["lora"]), *(["differential-privacy"] if private else [])]
    lines = [
        "---",
        f"library_name: {'transformers' if merged else 'peft'}",
        f"base_model: {base}",
        f"tags: [{', '.join(tags)}]",
        "---",
        f"# {'Merged model' if merged else 'LoRA adapter'}: {_title(ledger)}",
        "",
        *_claim_lines(ledger),
        *_hash_lines(ledger, merged),
        "",
        "## Loading",
        "",
        *(_merged_loading() if merged else _adapter_loading(base)),
        "",
        *(_merged_lines(base, ledger is not None) if merged else ()),
    ]
    return "\n".join(lines)


def _hash_lines(ledger: Ledger | None, merged: bool) -> list[str]:
    """The hash of the card's weights; for a merged model, that of the adapter that went into it."""
    if ledger is None or ledger.adapter_sha256 is None:
        return []
    return ["", f"{'Adapter merged' if merged else 'Weights'}: SHA-256 `{ledger.adapter_sha256}`"]


def _title(ledger: Ledger | None) -> str:
    if ledger is None:
        return "no claim"
    arm = ledger.arm
    methods = {"sft": "supervised fine-tuning", "cpt": "continued pretraining"}
    method = methods.get(arm["method"], f"DPO ({arm['loss']})")
    return f"{method}, epsilon {ledger.claim.epsilon:g}"


def _claim_lines(ledger: Ledger | None) -> list[str]:
    if ledger is None:
        return ["No ledger came with the adapter: it was assumed to be trained on public data."]
    return _private_lines(ledger) if ledger.is_private else _open_lines()


def _adapter_loading(base: str) -> list[str]:
    """`builtin:NAME` is known to this package alone, which says where its folder is; `random:SHAPE` lies
    nowhere.
    """
    if base.startswith(RANDOM):
        return ["The base's weights are random: this adapter was trained to measure memory and time."]
    inside = base.startswith("builtin:")
    place = f'resolve("{base}")' if inside else f'"{base}"'
    return [
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        *(["from dpaudit.models.hf import resolve"] if inside else []),
        "",
        f"base = {place}",
        'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
        "`FOLDER` is the folder that this card is in.",
    ]


def _merged_loading() -> list[str]:
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
        "`FOLDER` is the folder that this card is in.",
    ]


def _merged_lines(base: str, has_ledger: bool) -> list[str]:
    kept = (
        " `privacy.json` is the full ledger, and config.json carries its SHA-256 (`dpaudit_ledger`): it goes "
        "where the"
        " weights go, and who trains on counts it as spent. It tells rate, steps and population; where the "
        "population was"
        " counted from the data, that number is told with it."
    )
    return [
        f"The adapter was merged into {base}; nothing else was changed.{kept if has_ledger else ''}",
        "",
    ]


def _open_lines() -> list[str]:
    return [
        "Trained **without** differential privacy, as the baseline of a comparison.",
        "It may reproduce its training records and must not be released.",
    ]


def _private_lines(ledger: Ledger) -> list[str]:
    claim = ledger.claim
    start = ["", f"**{ASSUMED_PUBLIC}.**"] if ledger.is_start_assumed_public else []
    if ledger.is_reproducible:
        head = "**Epsilon not claimed: the noise is reproducible** (drawn from a given seed, for tests)."
    else:
        head = (
            f"({claim.epsilon:g}, {claim.delta:g})-differentially private for the unit "
            f"`{claim.unit}` under `{claim.relation}`, if released alone."
        )
    lines = _label_lines if claim.unit == "label" else _gaussian_lines
    unit = f"- unit: `{claim.unit}`; neighbouring relation: `{claim.relation}`"
    target = f"- target: epsilon {claim.epsilon:g} at delta {claim.delta:g}"
    return [head, *start, "", *lines(ledger, [unit, target])]


def _label_lines(ledger: Ledger, claim: list[str]) -> list[str]:
    return [
        "Hidden is only which answer of a pair was preferred. **Prompts and both answers are not "
        "protected**: the"
        " adapter may reproduce them.",
        "",
        *claim,
        "- mechanism: randomised response; each preference was flipped with probability"
        f" {ledger.flip_probability:.6g}, once, before training",
        "- the robust DPO loss with that probability; no clipping and no noise, since training costs nothing "
        "more",
        "",
        "Not covered: choosing this adapter among others, and other models trained on the same preferences.",
    ]


def _gaussian_lines(ledger: Ledger, claim: list[str]) -> list[str]:
    return [
        *claim,
        "- accountant: privacy loss distribution",
        "- mechanism: DP-SGD with Poisson sampling, Gaussian noise on every trained weight,"
        f" clip {ledger.acting.clip:g} per unit",
        *_mechanism_lines(ledger),
        "",
        "Not covered: choosing this adapter among others, other models trained on the same people, and the"
        " rounding of Gaussian noise in floating point.",
    ]


def _mechanism_lines(ledger: Ledger) -> list[str]:
    """Rate, steps and noise, unless the population was counted from the data: any two would reveal it."""
    if ledger.population_assumed:
        return [
            "- rate, steps and noise multiplier: in the ledger that stays with the run, since they would "
            "tell the"
            " number of units, which was counted from the data"
        ]
    mechanism = ledger.acting
    return [
        f"- expected batch {ledger.expected_batch} of a declared population of {ledger.population}"
        f" (rate {mechanism.sampling_rate:.6g}), {mechanism.steps} steps",
        f"- noise multiplier {mechanism.noise_multiplier:.6g}; spent epsilon {ledger.epsilon:.4g}"
        f" (Renyi, as a second opinion: {ledger.epsilon_rdp:.4g})",
    ]
