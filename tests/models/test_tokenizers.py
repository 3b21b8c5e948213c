"""Tokenizers: one without a padding token pads with another, one without tokens is refused."""

import json
import shutil
from pathlib import Path

import pytest

from dpaudit.errors import UsageError
from dpaudit.models.tokenizers import load_tokenizer


@pytest.mark.parametrize(("end", "pads"), [("<|end|>", "<|end|>"), (None, "<pad>")])
def test_a_tokenizer_that_names_no_padding(
    end: str | None, pads: str, toy_model_dir: Path, tmp_path: Path
) -> None:
    """The end token pads, or else the first token; `<pad>` is the toy's first, here a token like any
    other.
    """
    folder = tmp_path / "toy"
    shutil.copytree(toy_model_dir, folder)
    file = folder / "tokenizer_config.json"
    kept = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("pad_token", "eos_token")}
    file.write_text(json.dumps(kept | ({"eos_token": end} if end else {})))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    assert load_tokenizer(str(folder)).pad_token == pads


def test_a_tokenizer_without_tokens_is_one_line(toy_model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(toy_model_dir, folder)
    file = folder / "tokenizer.json"
    kept = json.loads(file.read_text()) | {"added_tokens": []}
    kept["model"] |= {"vocab": {}, "merges": []}
    file.write_text(json.dumps(kept))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(UsageError, match="expected a tokenizer with tokens, got an empty tokenizer"):
        load_tokenizer(str(folder))
