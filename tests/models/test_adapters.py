"""Adapters that somebody else made: loaded whole on a base that stays as it is, or refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpaudit.errors import UsageError
from dpaudit.models import hf, hf_model, preflight

Change = Callable[[Path], None]
EMBEDDING = "base_model.model.model.embed_tokens.weight"


@pytest.fixture
def copied(toy_adapter_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(toy_adapter_dir, tmp_path / "adapter")
    return tmp_path / "adapter"


def with_settings(**changed: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return change


def with_tensors(changed: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    def change(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        save_file(changed(load_file(file)), file, metadata={"format": "pt"})

    return change


def half(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if "layers.0" in name}


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content) and None  # type: ignore[func-returns-value]


FAULTS: dict[str, tuple[Change, str]] = {
    "half of it": (with_tensors(half), "14 that are missing"),
    "left over": (
        with_tensors(lambda t: t | {"base_model.model.model.layers.7.x": torch.ones(1)}),
        "1 that have no place",
    ),
    "the base's own tensor": (
        with_tensors(lambda t: t | {"base_model.model.model.norm.weight": torch.ones(32)}),
        "no place",
    ),
    "compiled": (
        with_tensors(
            lambda t: {n.replace("model.model.", "model._orig_mod.model."): v for n, v in t.items()}
        ),
        "missing",
    ),
    "modules without tensors": (with_settings(modules_to_save=["lm_head"]), "adapter"),
    "another embedding": (with_tensors(lambda t: t | {EMBEDDING: torch.ones(320, 32)}), "embedding as it is"),
    "a resized embedding": (with_tensors(lambda t: t | {EMBEDDING: torch.ones(330, 32)}), "of another shape"),
    "rank 0": (with_settings(r=0), "a rank from 1"),
    "rank beyond all": (with_settings(r=10**9), "a rank from 1"),
    "a large rank": (with_settings(r=60_000), "of another shape"),
    "a rank in words": (with_settings(r="x"), "a rank from 1"),
    "ranks by layer": (with_settings(rank_pattern={"q_proj": 10**9}), "a rank from 1"),
    "unknown targets": (with_settings(target_modules=["nope"]), "nope"),
    "fewer targets": (with_settings(target_modules=["q_proj"]), "no place"),
    "targets of another type": (with_settings(target_modules=5), "adapter"),
    "another task": (with_settings(task_type="SEQ_CLS"), "CAUSAL_LM"),
    "an unknown task": (with_settings(task_type="nope"), "CAUSAL_LM"),
    "an unknown kind": (with_settings(peft_type="NOPE"), "peft_type"),
    "virtual tokens": (with_settings(peft_type="PROMPT_TUNING"), "virtual tokens"),
    "a list for the kind": (with_settings(peft_type=["LORA"]), "peft_type"),
    "a start that changes the base": (with_settings(init_lora_weights="pissa"), "pissa, which changes it"),
    "a newer PEFT": (with_settings(use_magic=True), "use_magic"),
    "code by name": (with_settings(megatron_config={"a": 1}, megatron_core="os"), "megatron_config"),
    "tokens of another type": (with_settings(trainable_token_indices=False), "adapter"),
    "dropout in words": (with_settings(lora_dropout="x"), "adapter"),
    "settings are no JSON": (text("adapter_config.json", "{"), "adapter_config.json"),
    "settings are a list": (text("adapter_config.json", "[]"), "got a list"),
    "weights cut": (text("adapter_model.safetensors", "x"), "SafetensorError"),
}


def refused(what: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as error:
        what()
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


@pytest.mark.parametrize("name", FAULTS)
def test_an_adapter_that_would_not_load_whole_is_refused(
    name: str, copied: Path, toy_model_dir: Path
) -> None:
    change, told = FAULTS[name]
    change(copied)
    model = hf.load_model(str(toy_model_dir))
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    assert told in refused(lambda: hf.with_adapter(model, copied))
    if name != "another embedding":  # whose numbers are not in a header
        assert told in refused(lambda: preflight.check(str(toy_model_dir), adapter=copied))
        return
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


def test_sound_adapters_load_and_go_off_again(toy_model_dir: Path, tmp_path: Path) -> None:
    """LoRA with a trained head of its own, on the embedding, with a copy of the base's embedding; DoRA;
    IA3.
    """
    configs = {
        "head": peft.LoraConfig(
            r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"
        ),
        "embedding": peft.LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"]),
        "dora": peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True),
        "ia3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "patterns": peft.LoraConfig(r=2, target_modules="all-linear", rank_pattern={"q_proj": 4}),
    }
    plain = hf_model.HFModel.load(str(toy_model_dir))
    ids = torch.tensor([[5, 6, 7, 8]], device=plain.model.device)
    alone = plain.model(input_ids=ids).logits
    for name, config in configs.items():
        made = peft.get_peft_model(hf.on_device(hf.load_model(str(toy_model_dir))), config)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1)
        made.eval().save_pretrained(tmp_path / name, save_embedding_layers=name == "embedding")
        preflight.check(str(toy_model_dir), adapter=tmp_path / name)
        model = hf_model.HFModel.load(str(toy_model_dir))
        model.add_adapter("a", tmp_path / name)
        with model.active("a"), torch.no_grad():
            torch.testing.assert_close(model.model(input_ids=ids).logits, made(input_ids=ids).logits)
        with model.active(None), torch.no_grad():
            torch.testing.assert_close(model.model(input_ids=ids).logits, alone)
