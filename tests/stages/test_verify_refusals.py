"""What `dpaudit verify` refuses, one line each, and leaves nothing behind."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from strangers import (
    CLAIM,
    attempt,
    check,
)
from test_plant import resealed
from typed import Call

from dpaudit.errors import UsageError
from dpaudit.planting import audit_key
from dpaudit.stages import verify_facts
from dpaudit.stages.audited import Audited


def test_models_that_cannot_be_opened(
    world: Path, toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    key, out = world / "key.json", tmp_path / "out"
    assert "--base" in attempt(Audited(model=str(toy_model_dir)), key, out=out)
    assert "no such folder" in attempt(Audited(adapter=tmp_path / "none"), key, out=out)
    assert "two" in attempt(Audited(adapter=toy_adapter_dir, model="m"), key, out=out)
    assert "one of --adapter" in attempt(Audited(), key, out=out)
    bare = tmp_path / "bare"
    bare.mkdir()
    assert "adapter_config.json" in attempt(Audited(adapter=bare), key, out=out)
    (bare / "adapter_config.json").write_text("{}")
    assert "adapter_model.safetensors" in attempt(Audited(adapter=bare), key, out=out)
    (bare / "adapter_model.safetensors").write_bytes(b"")
    assert "names a base" in attempt(Audited(adapter=bare), key, out=out)
    lost = tmp_path / "lost"
    lost.mkdir()
    for file in toy_adapter_dir.iterdir():
        if file.suffix in (".json", ".safetensors"):
            (lost / file.name).write_bytes(file.read_bytes())
    config = json.loads((lost / "adapter_config.json").read_text())
    (lost / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": "/nowhere/at/all"})
    )
    assert "no such folder" in attempt(Audited(adapter=lost), key, out=out)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in attempt(Audited(model=str(empty), base=str(toy_model_dir)), key, out=out)
    assert "config.json" in attempt(Audited(model=str(toy_model_dir), base=str(empty)), key, out=out)
    assert not out.exists()


def test_keys_that_do_not_fit(world: Path, toy_adapter_dir: Path, tmp_path: Path) -> None:
    audited, key = Audited(adapter=toy_adapter_dir), audit_key.load(world / "key.json")
    assert "another file" in attempt(audited, world / "key.json", data=world / "train.jsonl")
    assert "edited" not in attempt(audited, tmp_path / "none.json")
    resealed(key, (True,) * 100, tmp_path / "unfair.json")
    assert "fair coins" in attempt(audited, tmp_path / "unfair.json")
    resealed(key, key.coins, tmp_path / "few.json", 50)
    assert "at least 100" in attempt(audited, tmp_path / "few.json")


def test_the_command_tells_in_one_line(call: Call, world: Path, toy_model_dir: Path) -> None:
    for words, lacking in (
        (("--key", str(world / "key.json"), "--claim", CLAIM), "--base"),
        ((), "--key"),
    ):
        done = call("verify", "--model", str(toy_model_dir), *words)
        told = [line for line in done.err.splitlines() if line.startswith("dpaudit:")]
        assert done.code == 2 and len(told) == 1 and lacking in told[0]
        assert "Traceback" not in done.err


def test_an_adapter_of_another_model_is_refused(
    world: Path, toy_adapter_dir: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """PEFT only warns where half of an adapter finds no place, and half an adapter tells less."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(toy_adapter_dir / "adapter_model.safetensors")
    beyond = {k.replace("layers.0", "layers.7"): v.clone() for k, v in tensors.items() if "layers.0" in k}
    changes: dict[str, Any] = {
        "half": dict(list(tensors.items())[:6]),
        "more": tensors | beyond,
        "other": {k.replace("layers", "blocks"): v for k, v in tensors.items()},
    }
    for name, changed in changes.items():
        shutil.copytree(toy_adapter_dir, tmp_path / name)
        save_file(changed, tmp_path / name / "adapter_model.safetensors", metadata={"format": "pt"})
        told = attempt(Audited(adapter=tmp_path / name), world / "key.json", out=tmp_path / "out")
        assert ("are missing" if name == "half" else "have no place") in told
    (tmp_path / "half" / "adapter_model.safetensors").write_bytes(b"broken")
    half = Audited(adapter=tmp_path / "half")
    assert "Safetensor" in attempt(half, world / "key.json", out=tmp_path / "out")
    shutil.copytree(toy_model_dir, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x" * 99)
    broken, sound = str(tmp_path / "model"), str(toy_model_dir)
    for audited in (Audited(model=broken, base=sound), Audited(model=sound, base=broken)):
        assert "safetensors" in attempt(audited, world / "key.json", out=tmp_path / "out")


def test_virtual_tokens_are_refused(world: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    peft.get_peft_model(base, config).save_pretrained(tmp_path)
    assert "virtual tokens" in attempt(Audited(adapter=tmp_path), world / "key.json")


def test_a_base_that_knows_the_canaries_is_refused(
    world: Path, merged: Path, toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    """It saw the planted data, or was swapped with the model: what calibration by it leaves is no
    evidence.
    """
    for audited in (
        Audited(model=str(toy_model_dir), base=str(merged)),
        Audited(adapter=toy_adapter_dir, base=str(merged)),
    ):
        assert "which canaries went in" in attempt(audited, world / "key.json", out=tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_before_the_model_is_opened(
    world: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    absent = Audited(adapter=tmp_path / "none")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert attempt(absent, world / "key.json", out=out).startswith("--out")
    told = attempt(absent, world / "key.json", out=tmp_path / "deep" / "below")
    assert "no such folder" in told and not (tmp_path / "deep").exists()


def test_a_conformance_file_nested_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="conformance"):
        verify_facts.recorded(tmp_path / "c.json")


def test_another_audits_result_is_not_replaced(
    world: Path, toy_model_dir: Path, merged: Path, tmp_path: Path
) -> None:
    at = ("--model", merged, "--base", toy_model_dir, "--key", world / "key.json", "--out", tmp_path)
    first = check(*at, "--claim", CLAIM)
    assert check(*at, "--claim", CLAIM).exit_code == first.exit_code  # the same audit may be done again
    before = (tmp_path / "verification.json").read_bytes()
    done = check(*at, "--claim", CLAIM.replace("eps=0.5", "eps=2"))
    assert isinstance(done.exception, UsageError) and "--out DIR" in str(done.exception)
    assert (tmp_path / "verification.json").read_bytes() == before
