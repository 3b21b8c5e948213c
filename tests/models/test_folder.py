"""Folders of models that somebody else made: loaded whole, or refused in one line and before any weight is
read.
"""

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from dpaudit.errors import UsageError
from dpaudit.models import folder, hf, hf_model, preflight

Change = Callable[[Path], None]
Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def copied(toy_model_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(toy_model_dir, tmp_path / "toy")
    return tmp_path / "toy"


def with_json(name: str, **changed: Any) -> Change:
    def change(place: Path) -> None:
        file = place / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return change


def with_file(name: str, content: bytes) -> Change:
    return lambda place: (place / name).write_bytes(content) and None  # type: ignore[func-returns-value]


def with_tensors(changed: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    def change(place: Path) -> None:
        file = place / "model.safetensors"
        save_file(changed(load_file(file)), file, metadata={"format": "pt"})

    return change


def without(tensors: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def gptq(tensors: dict[str, Any]) -> dict[str, Any]:
    """As GPTQ packs a layer: integers of 8 weights each, scales and zero points beside them."""
    stem = Q.removesuffix("weight")
    packed = {
        "qweight": torch.ones(4, 32, dtype=torch.int32),
        "scales": torch.ones(1, 32, dtype=torch.float16),
        "qzeros": torch.ones(1, 4, dtype=torch.int32),
        "g_idx": torch.zeros(32, dtype=torch.int32),
    }
    return without(tensors, Q) | {f"{stem}{name}": tensor for name, tensor in packed.items()}


def fp8(tensors: dict[str, Any]) -> dict[str, Any]:
    return tensors | {Q: tensors[Q].to(torch.float8_e4m3fn), f"{Q}_scale_inv": torch.ones(1, 1)}


TENSORS: dict[str, tuple[Change, str]] = {
    "missing": (with_tensors(lambda t: without(t, Q)), "1 missing (model.layers.1.self_attn.q_proj.weight)"),
    "left over": (
        with_tensors(lambda t: t | {"v_head.weight": torch.ones(1, 32)}),
        "1 left over (v_head.weight)",
    ),
    "other shape": (with_tensors(lambda t: t | {Q: torch.ones(3, 32)}), "1 of another shape"),
    "a layer short": (with_json("config.json", num_hidden_layers=1), "9 left over"),
    "a layer more": (with_json("config.json", num_hidden_layers=3), "9 missing"),
    "another kind": (with_json("config.json", model_type="gpt2"), "missing"),
    "packed by GPTQ": (with_tensors(gptq), "packed tensors"),
    "packed in FP8": (with_tensors(fp8), "packed tensors"),
    "integers": (with_tensors(lambda t: t | {Q: t[Q].to(torch.int8)}), "1 packed tensors"),
    "asked for GPTQ": (
        with_json("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "gptqmodel",
    ),
    "asked for a strange one": (
        with_json("config.json", quantization_config={"quant_method": "nope"}),
        "nope",
    ),
    "quantised by a number": (with_json("config.json", quantization_config=4), "quantization_config"),
}
FOLDERS: dict[str, tuple[Change, str]] = {
    "config is no JSON": (with_file("config.json", b"{"), "config.json"),
    "config is a list": (with_file("config.json", b"[]"), "got a list"),
    "config nested without end": (with_file("config.json", b"[" * 100_000), "RecursionError"),
    "a size of another type": (with_json("config.json", hidden_size="x"), "hidden_size"),
    "a negative size": (with_json("config.json", intermediate_size=-1), "negative"),
    "no heads": (with_json("config.json", num_key_value_heads=0), "ZeroDivisionError"),
    "a size beyond all": (with_json("config.json", hidden_size=10**18), "Storage"),
    "tables beyond all": (with_json("config.json", head_dim=10**9), "own tables"),
    "layers beyond all": (
        with_json("config.json", num_hidden_layers=10**9),
        "num_hidden_layers of at most 21",
    ),
    "no positions": (with_json("config.json", max_position_embeddings=-1), "max_position_embeddings"),
    "padding outside": (with_json("config.json", pad_token_id=10**6), "Padding_idx"),
    "an unknown kind": (with_json("config.json", model_type="nope"), "nope"),
    "no language model": (with_json("config.json", model_type="vit"), "config.json"),
    "code of a hub": (
        with_json("config.json", auto_map={"AutoConfig": "a/b--c.D"}, model_type="nope"),
        "its own code",
    ),
    "a kernel of a hub": (with_json("config.json", _attn_implementation="a/b"), "code from a hub"),
    "weights elsewhere": (
        with_json("config.json", transformers_weights="../x.safetensors"),
        "transformers_weights",
    ),
    "an adapter within": (with_file("adapter_config.json", b"{}"), "adapter_config.json"),
    "generation": (with_file("generation_config.json", b"{"), "generation_config.json"),
    "weights cut": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]) and None,
        "SafetensorError",
    ),
    "weights of another kind": (with_file("model.safetensors", b"x" * 99), "SafetensorError"),
    "a header beyond all": (
        with_file("model.safetensors", struct.pack("<Q", 2**60) + b"{}"),
        "SafetensorError",
    ),
    "a tokenizer beyond the embedding": (lambda f: longer(f), "token id 320"),
    "a list for a special token": (with_json("tokenizer_config.json", eos_token=["a", "b"]), "eos_token"),
    "an object for a special token": (with_json("tokenizer_config.json", eos_token={"a": 1}), "eos_token"),
    "tokenizer.json broken": (with_file("tokenizer.json", b"{"), "JSONDecodeError"),
    "tokenizer.json empty": (with_file("tokenizer.json", b"{}"), "KeyError"),
    "tokenizer.json of another kind": (
        with_json("tokenizer.json", normalizer={"type": "Nope"}),
        "NormalizerUntagged",
    ),
    "tokenizer_config.json a list": (with_file("tokenizer_config.json", b"[]"), "tokenizer"),
}


def longer(place: Path) -> None:
    """A tokenizer with one token more than the model has rows."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(place)


def refused(what: Callable[[], object]) -> str:
    start = time.process_time()
    with pytest.raises(UsageError) as error:
        what()
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    assert time.process_time() - start < 10
    return str(error.value)


@pytest.mark.parametrize("name", TENSORS)
def test_a_model_that_would_be_random_in_part_is_refused(name: str, copied: Path) -> None:
    change, told = TENSORS[name]
    change(copied)
    assert told in refused(lambda: preflight.check(str(copied)))
    assert told in refused(lambda: hf_model.HFModel.load(str(copied)))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_broken_folder_is_one_line_before_a_weight_is_read(name: str, copied: Path) -> None:
    change, told = FOLDERS[name]
    change(copied)
    assert told in refused(lambda: preflight.check(str(copied)))
    assert told in refused(lambda: hf_model.HFModel.load(str(copied)))


def test_sound_folders_pass(copied: Path, toy_adapter_dir: Path) -> None:
    preflight.check(str(copied))
    preflight.check(str(copied), adapter=toy_adapter_dir)
    preflight.check("builtin:tiny")  # whose head is its embedding, and not in its file


MIXED = {"num_local_experts": 4, "num_experts_per_tok": 2}
KINDS: dict[str, dict[str, Any]] = {
    "qwen2": {},  # tells of more layers than it has
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 64,
    },  # transposed, tied, without rotary tables
    "mixtral": MIXED,  # experts lie apart in the file and together in memory
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_other_kinds_pass(kind: str, tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    common = {"vocab_size": 320, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.AutoConfig.for_model(
        kind, **common, **({} if kind == "gpt2" else sizes), **KINDS[kind]
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert folder.check(tmp_path, "here").rows == 320


def test_names_of_a_compiled_model_are_read(copied: Path, toy_model_dir: Path) -> None:
    with_tensors(lambda t: {f"_orig_mod.{name}": tensor for name, tensor in t.items()})(copied)
    preflight.check(str(copied))
    found = hf.load_model(str(copied)).state_dict()
    wanted = hf.load_model(str(toy_model_dir)).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_tensors_that_a_model_ignores_are_no_fault(copied: Path) -> None:
    with_tensors(lambda t: t | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})(copied)
    preflight.check(str(copied))
    hf.load_model(str(copied))


def test_shards_are_read_and_a_lost_one_is_told(toy_model_dir: Path, copied: Path) -> None:
    model = hf.load_model(str(toy_model_dir))
    (copied / "model.safetensors").unlink()
    model.save_pretrained(copied, max_shard_size="20KB")
    preflight.check(str(copied))
    shards = sorted(copied.glob("model-*.safetensors"))
    assert len(shards) > 2
    content = shards[1].read_bytes()
    shards[1].unlink()
    assert shards[1].name in refused(lambda: hf.load_model(str(copied)))
    shards[1].write_bytes(content)
    save_file(load_file(shards[0]) | load_file(shards[2]), shards[1], metadata={"format": "pt"})
    assert "in two" in refused(lambda: hf.load_model(str(copied)))


def test_a_run_of_a_broken_model_leaves_no_folder(copied: Path, tmp_path: Path) -> None:
    from dpaudit.pipeline import plans, sequence
    from dpaudit.system.progress import Progress

    TENSORS["missing"][0](copied)
    plan = plans.resolve("demo", {"model.base": str(copied)})
    assert "1 missing" in refused(lambda: sequence.train(plan, tmp_path / "runs", Progress(quiet=True)))
    assert not (tmp_path / "runs").exists()
