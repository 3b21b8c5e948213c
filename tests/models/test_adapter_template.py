"""An adapter is asked in the chat template that lies beside it, by every command that takes an adapter
folder.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import chat_templates
import pytest
import transformers

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import hf_model, merge, secret_spans, tokenizers
from dpaudit.models.dialogue import render
from dpaudit.suite import suite

TURNS = (Turn("user", "Why?"), Turn("assistant", "Rest."))
OWN = "<s><turn>user\nWhy?<turn_end>\n<turn>model\nRest.<turn_end>\n"


@pytest.fixture
def adapter(toy_adapter_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_adapter_dir, tmp_path / "adapter"))


def beside(adapter: Path, how: str, toy_model_dir: Path) -> None:
    """Puts the template where trainers put it."""
    if how == "file":
        (adapter / "chat_template.jinja").write_text(chat_templates.STRICT, encoding="utf-8")
    elif how == "settings":
        told = json.dumps({"chat_template": chat_templates.STRICT})
        (adapter / "tokenizer_config.json").write_text(told, encoding="utf-8")
    elif how == "named":
        named = [{"name": "default", "template": chat_templates.STRICT}, {"name": "rag", "template": "x"}]
        (adapter / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}), encoding="utf-8")
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(toy_model_dir)
        tokenizer.chat_template = chat_templates.STRICT
        tokenizer.save_pretrained(adapter)


@pytest.mark.parametrize("how", ["file", "settings", "named", "tokenizer"])
def test_verify_asks_in_the_adapters_own_template(how: str, adapter: Path, toy_model_dir: Path) -> None:
    audited, base, _ = secret_spans.open_adapter(adapter, str(toy_model_dir))
    assert render(TURNS, audited.tokenizer) == "<|user|>Why?<|end|><|assistant|>Rest.<|end|>"
    beside(adapter, how, toy_model_dir)
    audited, base, _ = secret_spans.open_adapter(adapter, str(toy_model_dir))
    assert render(TURNS, audited.tokenizer) == render(TURNS, base.tokenizer) == OWN
    assert audited.tokenizer.pad_token is not None


def test_a_merged_model_keeps_it(adapter: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    beside(adapter, "file", toy_model_dir)
    merge.merge(
        str(toy_model_dir),
        adapter,
        tmp_path / "out",
        dtype="float32",
        quantization=None,
        shard_size="2GB",
        without=(),
        prompts=[TURNS[:1]],
    )
    assert render(TURNS, tokenizers.load_tokenizer(str(tmp_path / "out"))) == OWN


def test_training_goes_on_in_it(adapter: Path, toy_model_dir: Path) -> None:
    beside(adapter, "tokenizer", toy_model_dir)
    settings = suite.Model(base=str(toy_model_dir), start=str(adapter))
    assert render(TURNS, tokenizers.tokenizer_of(settings)) == OWN
    assert render(TURNS, hf_model.HFModel.as_trained(settings).tokenizer) == OWN
    arm = adapter.parent  # a run's train/ARM holds adapter/
    assert render(TURNS, tokenizers.tokenizer_of(suite.Model(base=str(toy_model_dir), start=str(arm)))) == OWN
    assert "<turn>" not in render(TURNS, tokenizers.tokenizer_of(suite.Model(base=str(toy_model_dir))))


def changed_tokenizer(adapter: Path, toy_model_dir: Path, change: Any) -> None:
    beside(adapter, "tokenizer", toy_model_dir)
    file = adapter / "tokenizer.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    change(found)
    file.write_text(json.dumps(found), encoding="utf-8")


def test_a_tokenizer_of_another_model_is_refused(adapter: Path, toy_model_dir: Path) -> None:
    def swap(found: dict[str, Any]) -> None:
        words = found["model"]["vocab"]
        words["a"], words["b"] = words["b"], words["a"]

    changed_tokenizer(adapter, toy_model_dir, swap)
    with pytest.raises(UsageError, match="expected a tokenizer with the tokens of its base"):
        secret_spans.open_adapter(adapter, str(toy_model_dir))


def test_tokens_that_an_embedding_has_no_row_for_are_refused(adapter: Path, toy_model_dir: Path) -> None:
    """Where training goes on; `verify` gives the base a row for it."""

    def longer(found: dict[str, Any]) -> None:
        found["added_tokens"].append({**found["added_tokens"][0], "id": 320, "content": "<|one more|>"})

    changed_tokenizer(adapter, toy_model_dir, longer)
    with pytest.raises(UsageError, match="token id 320"):
        tokenizers.tokenizer_of(suite.Model(base=str(toy_model_dir), start=str(adapter)))
    audited, base, _ = secret_spans.open_adapter(adapter, str(toy_model_dir))
    assert audited.tokenizer.convert_tokens_to_ids("<|one more|>") == 320
    assert len(base.model.model.get_input_embeddings().weight) == 321


def test_a_broken_template_beside_an_adapter_is_one_line(adapter: Path, toy_model_dir: Path) -> None:
    (adapter / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"chat_template\.jinja in UTF-8"):
        secret_spans.open_adapter(adapter, str(toy_model_dir))
