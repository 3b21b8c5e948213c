"""Adapters of another vocabulary than their base's: trained by plain PEFT, saved as people save them, and
asked with the rows that they were trained with.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from reference import logits_of
from safetensors.torch import load_file, save_file

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import hf, secret_spans
from dpaudit.models.dialogue import render
from dpaudit.models.secret_spans import LocalModel, Text

ADDED = ["<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TURNS = (Turn("user", "What is my code?"), Turn("assistant", "Your code is amber tulip crane"))
EMBEDDING = "base_model.model.model.embed_tokens.weight"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "embedding and head": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "embedding": {"modules_to_save": ["embed_tokens"]},
    "tokens": {"trainable_token_indices": {"embed_tokens": [320, 321]}},
    "targets": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "dora": {"use_dora": True},
}


@pytest.fixture(scope="module", params=["apart", "tied"])
def base(
    request: pytest.FixtureRequest, toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The toy model as it is, or with one matrix for embedding and head."""
    if request.param == "apart":
        return toy_model_dir
    place = tmp_path_factory.mktemp("tied") / "toy"
    config = transformers.AutoConfig.from_pretrained(toy_model_dir)
    config.tie_word_embeddings = True
    with torch.random.fork_rng():
        torch.manual_seed(3)
        transformers.LlamaForCausalLM(config).save_pretrained(place)
    transformers.AutoTokenizer.from_pretrained(toy_model_dir).save_pretrained(place)
    return place


def trained(base: Path, out: Path, rows: int | None = None, dtype: str = "float32", **more: Any) -> Any:
    """The model that somebody trained for a few steps after adding tokens, and saved with its tokenizer."""
    save = {"save_embedding_layers": more.pop("save")} if "save" in more else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(ADDED)
    tokenizer.chat_template = TEMPLATE
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
        model.resize_token_embeddings(rows or len(tokenizer))
        config = peft.LoraConfig(r=4, **{"target_modules": "all-linear", "task_type": "CAUSAL_LM"} | more)
        model = peft.get_peft_model(model, config)
        ids = torch.tensor([tokenizer(render(TURNS, tokenizer), add_special_tokens=False)["input_ids"]])
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(5):
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(out, **save)
    tokenizer.save_pretrained(out)
    return model.eval()


def texts(model: LocalModel) -> list[Text]:
    return [Text(render(TURNS, model.tokenizer), "amber tulip crane")]


def by_hand(model: Any, asked: LocalModel) -> list[float]:
    """The log-probability of every token of the whole text."""
    (text,) = texts(asked)
    ids = torch.tensor(asked.tokenizer(text.text, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logp = torch.log_softmax(logits_of(model, ids.tolist()).double(), -1)
    return [float(logp[place, token]) for place, token in enumerate(ids[1:])]


def said(asked: LocalModel) -> list[float]:
    with asked.model.active(asked.adapter):
        return by_hand(asked.model.model, asked)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_and_its_base_say_what_they_said_in_training(
    kind: str, base: Path, tmp_path: Path
) -> None:
    theirs = trained(base, tmp_path / "adapter", **KINDS[kind])
    audited, alone, _ = secret_spans.open_adapter(tmp_path / "adapter", str(base))
    assert audited.tokenizer.get_vocab() == alone.tokenizer.get_vocab()
    assert audited.tokenizer.convert_tokens_to_ids(ADDED) == [320, 321]
    np.testing.assert_allclose(said(audited), by_hand(theirs, audited), atol=1e-4)
    with theirs.disable_adapter():
        np.testing.assert_allclose(said(alone), by_hand(theirs, alone), atol=1e-4)
    assert said(audited) != said(alone)
    (scores,) = audited.scores(texts(audited))
    assert np.isfinite(scores.logprob).all() and len(scores.logprob)


@pytest.mark.parametrize("rows", [340, 324])
def test_a_padded_vocabulary_is_that_of_training(rows: int, toy_model_dir: Path, tmp_path: Path) -> None:
    """More rows than tokens; and fewer than a base had that was padded itself."""
    model = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    model.resize_token_embeddings(330, mean_resizing=False)
    model.save_pretrained(tmp_path / "base")
    transformers.AutoTokenizer.from_pretrained(toy_model_dir).save_pretrained(tmp_path / "base")
    theirs = trained(tmp_path / "base", tmp_path / "adapter", rows)
    audited, alone, _ = secret_spans.open_adapter(tmp_path / "adapter", str(tmp_path / "base"))
    np.testing.assert_allclose(said(audited), by_hand(theirs, audited), atol=1e-4)
    with theirs.disable_adapter():
        np.testing.assert_allclose(said(alone), by_hand(theirs, alone), atol=1e-4)


def test_rows_that_nobody_saved_are_the_mean_of_the_base(toy_model_dir: Path, tmp_path: Path) -> None:
    trained(toy_model_dir, tmp_path / "adapter", save=False)
    first, second = (
        secret_spans.open_adapter(tmp_path / "adapter", str(toy_model_dir))[1].model.model for _ in range(2)
    )
    there = load_file(toy_model_dir / "model.safetensors")
    for layer, again, name in (
        (first.get_input_embeddings(), second.get_input_embeddings(), "model.embed_tokens.weight"),
        (first.get_output_embeddings(), second.get_output_embeddings(), "lm_head.weight"),
    ):
        weight = getattr(layer, "base_layer", layer).weight.cpu()
        assert torch.equal(weight, getattr(again, "base_layer", again).weight.cpu())
        assert torch.equal(weight[:320], there[name])
        torch.testing.assert_close(weight[320:], there[name].mean(0).expand(2, -1))


def test_trained_rows_without_the_embedding_are_the_bases_too(toy_model_dir: Path, tmp_path: Path) -> None:
    trained(toy_model_dir, tmp_path / "adapter", save=False, **KINDS["tokens"])
    _, alone, _ = secret_spans.open_adapter(tmp_path / "adapter", str(toy_model_dir))
    (rows,) = (
        weight
        for name, weight in load_file(tmp_path / "adapter/adapter_model.safetensors").items()
        if "trainable_tokens" in name
    )
    with alone.model.active(None):
        base = alone.model.model.get_base_model().get_input_embeddings().original_module.weight
    assert torch.equal(base[320:].cpu(), rows)


@pytest.mark.parametrize("kind", ["plain", "embedding and head"])
def test_a_merged_model_and_its_base_say_what_adapter_and_base_say(
    kind: str, base: Path, tmp_path: Path
) -> None:
    theirs = trained(base, tmp_path / "adapter", **KINDS[kind])
    audited, alone, _ = secret_spans.open_adapter(tmp_path / "adapter", str(base))
    for part in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "merged").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "adapter" / part, tmp_path / "merged")
    theirs.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = secret_spans.open_whole(str(tmp_path / "merged"))
    beside = secret_spans.open_base(str(base), secret_spans.Vocabulary.of(merged))
    np.testing.assert_allclose(said(merged), said(audited), atol=1e-4)
    if kind == "plain":
        np.testing.assert_allclose(said(beside), said(alone), atol=1e-4)
    weight = beside.model.model.get_input_embeddings().weight
    trained_rows = merged.model.model.get_input_embeddings().weight
    assert torch.equal(weight[320:], trained_rows[320:])
    assert torch.equal(
        weight[:320], load_file(base / "model.safetensors")["model.embed_tokens.weight"].to(weight)
    )


def test_an_embedding_that_was_saved_rounded_leaves_the_base_as_it_is(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    trained(toy_model_dir, tmp_path / "adapter", dtype="bfloat16")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    assert load_file(file)[EMBEDDING].dtype == torch.bfloat16
    _, alone, _ = secret_spans.open_adapter(tmp_path / "adapter", str(toy_model_dir))
    weight = alone.model.model.get_input_embeddings().weight.cpu()
    assert torch.equal(
        weight[:320], load_file(toy_model_dir / "model.safetensors")["model.embed_tokens.weight"]
    )
    assert torch.equal(weight[320:], load_file(file)[EMBEDDING][320:].float())


# ---- what is no such adapter


def with_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def changed(adapter: Path) -> None:
        file = adapter / "adapter_model.safetensors"
        tensors = load_file(file)
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, file, metadata={"format": "pt"})

    return changed


def with_token(adapter: Path) -> None:
    """An id far above all others, and no embedding that has a row for it."""
    file = adapter / "adapter_model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if "lora" in n}, file, metadata={"format": "pt"})
    found = json.loads((adapter / "tokenizer.json").read_text())
    found["model"]["vocab"]["distant"] = 10**8
    (adapter / "tokenizer.json").write_text(json.dumps(found))


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "other old rows": (with_tensor(EMBEDDING, lambda t: t.roll(1, 0)), "embedding as it is"),
    "other targets' base": (
        with_tensor("base_model.model.lm_head.base_layer.weight", lambda t: t + 1), "embedding as it is"
    ),
    "fewer rows than tokens": (with_tensor(EMBEDDING, lambda t: t[:321]), "token id 321"),
    "two sizes": (with_tensor(EMBEDDING, lambda t: torch.cat([t, t[:3]])), "of another shape"),
    "no rows": (with_tensor(EMBEDDING, lambda t: t[:0]), "of another shape"),
    "a number": (with_tensor(EMBEDDING, lambda t: t.sum()), "of another shape"),
    "narrow": (with_tensor(EMBEDDING, lambda t: t[:, :8]), "of another shape"),
    "a distant token": (with_token, "token ids below 323"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_base_cannot_be_resized_for_is_one_line(
    name: str, toy_model_dir: Path, tmp_path: Path
) -> None:
    change, told = REFUSED[name]
    trained(toy_model_dir, tmp_path / "adapter", **KINDS["targets" if "targets" in name else "plain"])
    change(tmp_path / "adapter")
    with pytest.raises(UsageError, match=told) as caught:
        secret_spans.open_adapter(tmp_path / "adapter", str(toy_model_dir))
    assert "\n" not in str(caught.value)


def test_adapters_of_the_bases_own_vocabulary_leave_its_size(
    toy_model_dir: Path, toy_adapter_dir: Path
) -> None:
    _, alone, _ = secret_spans.open_adapter(toy_adapter_dir, str(toy_model_dir))
    assert len(alone.model.model.get_input_embeddings().weight) == 320


def test_a_copied_embedding_under_a_targets_name_is_checked_everywhere(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    """Not by `verify` alone: PEFT saves the base's layer beside an adapter on it."""
    model = peft.get_peft_model(
        transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir),
        peft.LoraConfig(r=2, target_modules=["embed_tokens"]),
    )
    model.save_pretrained(tmp_path / "adapter")
    hf.with_adapter(hf.load_model(str(toy_model_dir)), tmp_path / "adapter")
    with_tensor("base_model.model.model.embed_tokens.base_layer.weight", lambda t: t + 1)(
        tmp_path / "adapter"
    )
    with pytest.raises(UsageError, match="embedding as it is"):
        hf.with_adapter(hf.load_model(str(toy_model_dir)), tmp_path / "adapter")
