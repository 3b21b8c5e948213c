"""Where a model lies, and what would not load, in one line."""

import json
from pathlib import Path

import pytest

from dpaudit.errors import UsageError
from dpaudit.models import hub
from dpaudit.models.hf import load_model, resolve, with_adapter
from dpaudit.models.tokenizers import load_tokenizer


def test_bad_folders_are_one_line(tmp_path: Path, toy_model_dir: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    for base, named in [
        (str(tmp_path / "empty"), "config.json"),
        (str(tmp_path / "bare"), "*.safetensors"),
        (str(tmp_path / "none"), "no such folder"),
        ("builtin:nothing", "builtin:nothing"),
    ]:
        with pytest.raises(UsageError) as error:
            load_model(base)
        assert named in str(error.value) and "\n" not in str(error.value)
    assert resolve(str(toy_model_dir)) == str(toy_model_dir)


def test_a_hub_id_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for load in (load_model, load_tokenizer):
        with pytest.raises(UsageError) as error:
            load("nobody-here/no-such-model")
        assert "nobody-here/no-such-model" in str(error.value) and "\n" not in str(error.value)


def test_what_is_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub.is_id("owner/a.b-v1_5")
    others = (
        "ours/",
        "/ours",
        "./ours",
        "~/ours",
        "a/b/c",
        "ours",
        "a b/c",
        "a/b..c",
        "builtin:tiny",
        "a/-b-",
    )
    assert not any(map(hub.is_id, others))
    Path("owner/here").mkdir(parents=True)
    assert not hub.is_id("owner/here")


def test_an_adapter_without_weights_is_one_line(toy_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"adapter_config\.json"):
        with_adapter(load_model(str(toy_model_dir)), tmp_path)
