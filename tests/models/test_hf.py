import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dpaudit.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import TokenScores
from dpaudit.models.encode import Encoded, encode, prompt_ids
from dpaudit.models.hf import HFModel, load_model, load_tokenizer, resolve, with_adapter

DIALOGUES = [
    (Turn("user", "I have a sore throat."), Turn("assistant", "Take paracetamol.")),
    (Turn("user", "我头疼"), Turn("assistant", "请按时服药，注意休息。")),
    (Turn("user", "Code?"), Turn("assistant", "amber tulip crane delta, and a longer answer behind it.")),
]


@pytest.fixture(scope="module")
def lm(toy_model_dir: Path, toy_adapter_dir: Path) -> HFModel:
    model = HFModel.load(str(toy_model_dir))
    model.add_adapter("sft-eps0.5", toy_adapter_dir)
    return model


def encoded(lm: HFModel) -> list[Encoded]:
    return [encode(turns, lm.tokenizer, 96) for turns in DIALOGUES]


def naive(lm: HFModel, item: Encoded) -> TokenScores:
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([item.input_ids])).logits[0].double()
    logp = torch.log_softmax(logits, -1)
    chosen = [logp[i, token] for i, token in enumerate(item.input_ids[1:])]
    mean = [(row.exp() * row).sum() for row in logp[:-1]]
    std = [(row.exp() * row**2).sum().sub(m**2).sqrt() for row, m in zip(logp[:-1], mean, strict=True)]
    greedy = np.array([False, *(logp[:-1].argmax(-1) == torch.tensor(item.input_ids[1:])).tolist()])
    return TokenScores(*(np.array([np.nan, *map(float, v)], np.float32) for v in (chosen, mean, std)), greedy)


@pytest.mark.parametrize("adapter", [None, "sft-eps0.5"])
def test_token_scores_are_those_of_one_sequence_at_a_time(lm: HFModel, adapter: str | None) -> None:
    with lm.active(adapter):
        found = lm.token_scores(encoded(lm))
        for item, score in zip(encoded(lm), found, strict=True):
            slow = naive(lm, item)
            assert len(score.logprob) == len(item.input_ids) and np.isnan(score.logprob[0])
            for name in ("logprob", "mean", "std"):
                np.testing.assert_allclose(getattr(score, name), getattr(slow, name), atol=2e-5)
            np.testing.assert_array_equal(score.greedy, slow.greedy)


def test_small_batches_and_chunks_change_nothing(lm: HFModel, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    whole = lm.token_scores(encoded(lm))
    monkeypatch.setattr("dpaudit.models.hf.BATCH_TOKENS", 1)
    monkeypatch.setattr("dpaudit.models.scoring.CHUNK_ELEMENTS", 700)
    for a, b in zip(whole, lm.token_scores(encoded(lm), done.append), strict=True):
        np.testing.assert_allclose(a.logprob, b.logprob, atol=2e-5)
        np.testing.assert_allclose(a.std, b.std, atol=2e-5)
    assert sum(done) == len(DIALOGUES)


def test_switching_adapters_off_restores_the_base(
    lm: HFModel, toy_model_dir: Path, toy_adapter_dir: Path
) -> None:
    items = encoded(lm)
    base = HFModel.load(str(toy_model_dir)).token_scores(items)
    alone = HFModel(with_adapter(load_model(str(toy_model_dir)), toy_adapter_dir), lm.tokenizer)
    with lm.active("sft-eps0.5"):
        on = lm.token_scores(items)
    with lm.active(None):
        off = lm.token_scores(items)
    np.testing.assert_array_equal(off[0].logprob, base[0].logprob)
    np.testing.assert_array_equal(on[0].logprob, alone.token_scores(items)[0].logprob)
    assert np.nanmax(np.abs(on[0].logprob - off[0].logprob)) > 1e-3


@pytest.mark.parametrize("cache_bytes", [1, 50_000, 2**26])
def test_trie_scores_equal_brute_force(
    lm: HFModel, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpaudit.models.hf.CACHE_BYTES", cache_bytes)
    generator = np.random.default_rng(0)
    prefix = prompt_ids(DIALOGUES[0][:1], lm.tokenizer)
    rows = [tuple(generator.integers(5, 9, size=generator.integers(1, 5)).tolist()) for _ in range(60)]
    rows += [rows[0], (5,), (5, 6), (5, 6, 7)]  # a repeat, and sequences that begin others
    found = lm.sequence_logprobs(prefix, rows)
    for row, score in zip(rows, found, strict=True):
        ids = (*prefix, *row)
        slow = naive(lm, Encoded(ids, (), (), False, 0)).logprob[len(prefix) :].sum()
        assert score == pytest.approx(slow, abs=1e-4)


def test_trie_over_all_next_tokens_sums_to_one(lm: HFModel) -> None:
    everything = [(token,) for token in range(len(lm.tokenizer))]
    assert np.exp(lm.sequence_logprobs([5, 6, 7], everything)).sum() == pytest.approx(1, abs=1e-5)


def test_batched_generation_equals_single(lm: HFModel) -> None:
    prompts = [turns[:1] for turns in DIALOGUES]
    batched = lm.generate(prompts, 12)
    assert batched == [lm.generate([prompt], 12)[0] for prompt in prompts]
    assert any(batched)


def test_greedy_flags_are_those_of_greedy_decoding(lm: HFModel) -> None:
    ids = prompt_ids(DIALOGUES[0][:1], lm.tokenizer)
    start = len(ids)
    for _ in range(5):
        with torch.no_grad():
            ids.append(int(lm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    ids[-1] = (ids[-1] + 1) % len(lm.tokenizer)
    flags = lm.token_scores([Encoded(tuple(ids), (), (), False, 0)])[0].greedy
    assert flags[start:].tolist() == [True] * 4 + [False] and not flags[0]


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


@pytest.mark.parametrize(("end", "pads"), [("<|end|>", "<|end|>"), (None, "<pad>")])
def test_a_tokenizer_that_names_no_padding(
    end: str | None, pads: str, toy_model_dir: Path, tmp_path: Path
) -> None:
    """The end token pads, or else the first token; `<pad>` is the toy's first, here a token like any other."""
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
    with pytest.raises(UsageError, match="expected a tokenizer with tokens, got an empty one"):
        load_tokenizer(str(folder))


def test_an_adapter_without_weights_is_one_line(toy_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"adapter_config\.json"):
        with_adapter(load_model(str(toy_model_dir)), tmp_path)


def test_the_protocol_loads_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, dpaudit.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
