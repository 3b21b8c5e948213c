"""Weights in a format that the processor is slow in are read up to be asked, with their values."""

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from dpaudit.models import hf, number_formats, secret_spans
from dpaudit.models.encode import Encoded, encode_text
from dpaudit.models.hf_model import HFModel
from dpaudit.models.number_formats import is_slow
from dpaudit.suite import suite

TEXTS = ("I have a sore throat. Take paracetamol.", "My code is amber tulip crane delta.")


@pytest.fixture(scope="module")
def half(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model, stored in bfloat16."""
    folder = tmp_path_factory.mktemp("half") / "toy"
    model = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(toy_model_dir).save_pretrained(folder)
    return folder


def slow(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(number_formats, "is_slow", lambda dtype: answer and dtype == "bfloat16")


def encoded(model: HFModel) -> list[Encoded]:
    return [encode_text(text, model.tokenizer, 96) for text in TEXTS]


def test_a_number_format_that_the_processor_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for machine, lacks in (
        ("x86_64", not torch.cpu._is_amx_tile_supported()),
        ("aarch64", not torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    ):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert (is_slow("float32"), is_slow("bfloat16")) == (False, lacks)
    monkeypatch.setattr(
        torch.backends.mkldnn, "is_available", lambda: False
    )  # as on a Mac, where the question fails
    assert not is_slow("bfloat16")
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not is_slow("bfloat16")


@pytest.mark.parametrize(("answer", "read_as"), [(True, torch.float32), (False, torch.bfloat16)])
def test_a_model_is_asked_in_what_its_processor_is_quick_in(
    answer: bool, read_as: torch.dtype, half: Path, toy_adapter_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, under an adapter, and as a suite says."""
    slow(monkeypatch, answer)
    audited, base, _ = secret_spans.open_adapter(toy_adapter_dir, str(half))
    settings = suite.Model(base=str(half), dtype="bfloat16")
    whole = secret_spans.open_whole(str(half))
    for model in (audited.model, base.model, whole.model, HFModel.as_trained(settings)):
        weights = [p for name, p in model.model.named_parameters() if "lora_" not in name]
        assert {weight.dtype for weight in weights} == {read_as}
    assert hf.load_model(str(half), "bfloat16").dtype == torch.bfloat16  # what is trained stays as declared


def test_weights_that_are_read_up_score_as_the_same_weights_in_float32(
    half: Path, toy_adapter_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, True)
    up, there = HFModel.load(str(half), "bfloat16"), HFModel.load(str(half), "float32")
    for model in (up, there):
        model.add_adapter("a", toy_adapter_dir)
    for adapter in (None, "a"):
        with up.active(adapter), there.active(adapter):
            for one, other in zip(
                up.token_scores(encoded(up)), there.token_scores(encoded(there)), strict=True
            ):
                np.testing.assert_array_equal(one.logprob, other.logprob)


def test_weights_that_training_rounds_stay_rounded(
    toy_model_dir: Path, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float32 base of a bfloat16 suite: its arms learned on the rounded weights."""
    slow(monkeypatch, True)
    up = HFModel.as_trained(suite.Model(base=str(toy_model_dir), dtype="bfloat16")).model.state_dict()
    rounded = HFModel.load(str(half), "float32").model.state_dict()
    assert all(torch.equal(up[name], weight) for name, weight in rounded.items())
