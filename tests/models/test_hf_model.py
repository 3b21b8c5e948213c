"""Scores, gradients and answers of a Hugging Face model, each against a slow double."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from reference import logits_of

from dpaudit.data.corpus import Turn
from dpaudit.models import scoring
from dpaudit.models.batching import padded
from dpaudit.models.encode import Encoded, counted_mask, encode, encode_text, prompt_ids
from dpaudit.models.hf import load_model, on_device, with_adapter
from dpaudit.models.hf_model import HFModel
from dpaudit.models.language_model import TokenScores

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
        logits = logits_of(lm.model, item.input_ids).double()
    logp = torch.log_softmax(logits, -1)
    chosen = [logp[i, token] for i, token in enumerate(item.input_ids[1:])]
    mean = [(row.exp() * row).sum() for row in logp[:-1]]
    std = [(row.exp() * row**2).sum().sub(m**2).sqrt() for row, m in zip(logp[:-1], mean, strict=True)]
    greedy = np.array([False, *(logp[:-1].argmax(-1) == torch.tensor(item.input_ids[1:])).tolist()])
    return TokenScores(*(np.array([np.nan, *map(float, v)], np.float32) for v in (chosen, mean, std)), greedy)


@pytest.mark.parametrize("left", [False, True])
def test_rows_are_padded_on_one_side(left: bool) -> None:
    rows = [(5, 6, 7), (8,), (9, 4)]
    ids, mask = padded(rows, 3, "cpu", left=left)
    for row, found, flags in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        pad = 3 - len(row)
        assert found == ([3] * pad + [*row] if left else [*row] + [3] * pad)
        assert flags == ([0] * pad + [1] * len(row) if left else [1] * len(row) + [0] * pad)
    assert ids.dtype == mask.dtype == torch.long


def test_scores_are_fetched_once_however_many_batches(lm: HFModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched, batched = [], []
    fetch, batch = torch.Tensor.cpu, lm._batch
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: fetched.append(1) or fetch(tensor))
    monkeypatch.setattr(lm, "_batch", lambda *asked: batched.append(1) or batch(*asked))
    monkeypatch.setattr("dpaudit.models.hf_model.hidden_tokens", lambda model: 1)
    lm.token_scores(encoded(lm))
    assert len(batched) == len(DIALOGUES) and len(fetched) == 1


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
    monkeypatch.setattr("dpaudit.models.batching.BATCH_TOKENS", 1)
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
    alone = HFModel(with_adapter(on_device(load_model(str(toy_model_dir))), toy_adapter_dir), lm.tokenizer)
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
    monkeypatch.setattr("dpaudit.models.descent.CACHE_MOST", cache_bytes)
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


def test_an_answer_that_met_its_limit_is_cut(lm: HFModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [turns[:1] for turns in DIALOGUES]
    written = lm.write(prompts, 12)
    assert [answer.text for answer in written] == lm.generate(prompts, 12)
    assert all(answer.is_cut for answer in lm.write(prompts, 1))
    for prompt, answer in zip(prompts, written, strict=True):
        ids = torch.tensor([prompt_ids(prompt, lm.tokenizer)])
        new = lm.model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
        assert answer.is_cut is (lm.tokenizer.eos_token_id not in new)
        monkeypatch.setattr(lm.model.generation_config, "eos_token_id", new[2])
        assert lm.write([prompt], 12)[0].is_cut is False


def test_greedy_flags_are_those_of_greedy_decoding(lm: HFModel) -> None:
    ids = prompt_ids(DIALOGUES[0][:1], lm.tokenizer)
    start = len(ids)
    for _ in range(5):
        with torch.no_grad():
            ids.append(int(logits_of(lm.model, ids)[-1].argmax()))
    ids[-1] = (ids[-1] + 1) % len(lm.tokenizer)
    flags = lm.token_scores([Encoded(tuple(ids), (), (), False, 0)])[0].greedy
    assert flags[start:].tolist() == [True] * 4 + [False] and not flags[0]


def test_the_protocol_loads_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, dpaudit.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def masks(lm: HFModel) -> list[np.ndarray]:
    found = [counted_mask(item.answer_mask) for item in encoded(lm)]
    found[1][:] = False  # a sequence of which nothing counts
    return found


def variant(kind: str, **changed: object) -> HFModel:
    """A random model on the toy's vocabulary whose head or logits differ from the toy's."""
    torch.manual_seed(3)
    common = dict(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    config = getattr(transformers, f"{kind}Config")(**(common | changed))
    return HFModel(getattr(transformers, f"{kind}ForCausalLM")(config), SimpleNamespace(pad_token_id=0))


@pytest.mark.parametrize(
    ("kind", "changed", "is_split"),
    [
        ("Llama", {"tie_word_embeddings": True}, True),
        ("Llama", {"tie_word_embeddings": False}, True),
        ("Gemma2", {"head_dim": 16, "final_logit_softcapping": 3.0}, False),
        ("Gemma2", {"head_dim": 16, "final_logit_softcapping": None}, True),
        ("Granite", {"logits_scaling": 4.0}, False),
    ],
)
def test_the_head_alone_is_used_where_it_makes_the_logits(
    lm: HFModel, kind: str, changed: dict[str, object], is_split: bool
) -> None:
    other = variant(kind, **changed)
    items = encoded(lm)
    found = other.token_scores(items)
    assert (scoring.split(other.model) is not None) == is_split
    for item, score in zip(items, found, strict=True):
        slow = naive(other, item)
        for name in ("logprob", "mean", "std"):
            np.testing.assert_allclose(getattr(score, name), getattr(slow, name), atol=1e-4)
        np.testing.assert_array_equal(score.greedy, slow.greedy)


@pytest.mark.parametrize("adapter", [None, "sft-eps0.5"])
def test_counted_tokens_have_the_scores_that_they_have_among_all(lm: HFModel, adapter: str | None) -> None:
    done: list[int] = []
    with lm.active(adapter):
        whole, part = lm.token_scores(encoded(lm)), lm.token_scores(encoded(lm), done.append, masks(lm))
    for a, b, at in zip(whole, part, masks(lm), strict=True):
        np.testing.assert_allclose(a.logprob[at], b.logprob[at], atol=2e-5)
        np.testing.assert_allclose(a.std[at], b.std[at], atol=2e-5)
        np.testing.assert_array_equal(a.greedy[at], b.greedy[at])
        assert np.isnan(b.logprob[~at]).all() and np.isnan(b.mean[~at]).all() and not b.greedy[~at].any()
    assert sum(done) == len(DIALOGUES)


def test_masks_that_do_not_fit_are_refused(lm: HFModel) -> None:
    items = encoded(lm)
    whole = [np.ones(len(item.input_ids), bool) for item in items]
    for wrong, said in [
        (whole, "first token"),
        (whole[:1], "one mask"),
        ([m[1:] for m in whole], "one flag"),
    ]:
        with pytest.raises(ValueError, match=said):
            lm.token_scores(items, counted=wrong)


def test_bfloat16_is_scored_in_float32(toy_model_dir: Path, lm: HFModel) -> None:
    half = HFModel.load(str(toy_model_dir), "bfloat16")
    for item, score in zip(encoded(lm), half.token_scores(encoded(lm)), strict=True):
        assert score.logprob.dtype == np.float32
        slow = naive(half, item)  # its logits have three significant digits, and padding other roundings
        np.testing.assert_allclose(score.logprob, slow.logprob, atol=0.15)
        np.testing.assert_allclose(score.std, slow.std, atol=0.15)


def test_extreme_logits() -> None:
    logits = torch.tensor(
        [[0.0, -torch.inf, 3.0], [500.0, -500.0, 0.0], [2.0, 2.0, 2.0], [torch.nan, 1.0, 1.0]]
    )
    found = scoring.statistics(logits.clone(), torch.tensor([0, 0, 1, 1])).numpy()
    p = np.exp(3) / (1 + np.exp(3))
    mean = p * np.log(p) + (1 - p) * np.log(1 - p)
    std = np.sqrt(p * (np.log(p) - mean) ** 2 + (1 - p) * (np.log(1 - p) - mean) ** 2)
    np.testing.assert_allclose(found[0], [np.log(1 - p), mean, std, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], [0, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(found[2], [-np.log(3), -np.log(3), 0, 0], atol=1e-6)  # greedy takes the first
    assert np.isnan(found[3, :3]).all()


DECODING = [
    (1.0, 0, 1.0),
    (0.7, 0, 1.0),
    (1.3, 5, 1.0),
    (1.0, 0, 0.8),
    (0.8, 40, 0.9),
    (1.5, 1000, 0.5),
    (2.0, 1, 0.3),
]


def warped(logits: torch.Tensor, temperature: float, top_k: int, top_p: float) -> torch.Tensor:
    """log p of every token by Transformers' own warpers, (n, vocabulary)."""
    steps = [transformers.TemperatureLogitsWarper(temperature)]
    steps += [transformers.TopKLogitsWarper(top_k)] if top_k else []
    steps += [transformers.TopPLogitsWarper(top_p)] if top_p < 1 else []
    for step in steps:
        logits = step(None, logits)
    return torch.log_softmax(logits, -1)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("setting", DECODING)
def test_a_decoding_distribution_is_that_of_the_warpers(
    setting: tuple[float, int, float], ties: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 1500, generator=generator) * torch.tensor([[0.1], [2.0], [6.0]])
    logits = (logits * 2).round() / 2 + 0.25 if ties else logits
    slow = warped(logits.clone(), *setting)
    every = logits.repeat_interleave(1500, 0)
    found = scoring.decoding_logprob(every, torch.arange(1500).repeat(3), *setting).view(3, 1500)
    torch.testing.assert_close(found.sort().values, slow.sort().values, atol=1e-4, rtol=0)
    if not ties:  # which of equals the warper keeps hangs on an unstable sort
        torch.testing.assert_close(found, slow, atol=1e-4, rtol=0)


@pytest.mark.parametrize("setting", DECODING)
def test_decoding_logprobs_stand_in_the_order_of_the_counted(
    lm: HFModel, setting: tuple[float, int, float]
) -> None:
    with lm.active("sft-eps0.5"):
        found = lm.decoding_logprobs(encoded(lm), masks(lm), *setting)
        for item, at, row in zip(encoded(lm), masks(lm), found, strict=True):
            with torch.no_grad():
                logits = logits_of(lm.model, item.input_ids).float()
            slow = warped(logits[:-1], *setting).gather(1, torch.tensor(item.input_ids[1:])[:, None])[:, 0]
            assert row.dtype == np.float64
            np.testing.assert_allclose(row, slow.numpy()[at[1:]], atol=1e-4)


@pytest.mark.parametrize(
    "setting", [(0.0, 0, 1.0), (float("nan"), 0, 1.0), (1.0, -1, 1.0), (1.0, 0, 0.0), (1.0, 0, 1.1)]
)
def test_decodings_that_no_decoder_has_are_refused(lm: HFModel, setting: tuple[float, int, float]) -> None:
    with pytest.raises(ValueError, match=r"temperature|top_k|top_p"):
        lm.decoding_logprobs(encoded(lm), masks(lm), *setting)


def naive_norm(model: Any, item: Encoded, at: np.ndarray) -> float:
    weights = [p for name, p in model.named_parameters() if ".arm0." in name]
    before = [p.requires_grad for p in weights]
    for p in weights:
        p.requires_grad_(True)
    logits = logits_of(model, item.input_ids)[:-1].float()
    nll = torch.nn.functional.cross_entropy(logits[at[1:]], torch.tensor(item.input_ids[1:])[at[1:]])
    found = torch.autograd.grad(nll, weights)
    for p, flag in zip(weights, before, strict=True):
        p.requires_grad_(flag)
    return float(torch.cat([g.flatten() for g in found]).double().norm())


@pytest.mark.parametrize(("rows", "is_split"), [(2**28, True), (1, True), (2**28, False)])
def test_gradient_norms_are_those_of_one_sequence_at_a_time(
    lm: HFModel, rows: int, is_split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpaudit.models.gradients.GRADIENT_BYTES", rows)
    if not is_split:
        monkeypatch.setattr(lm, "_known_split", (None,))
    items, done = encoded(lm), []
    with lm.active("sft-eps0.5"):
        before = [(p.requires_grad, p.grad) for p in lm.model.parameters()]
        found = lm.gradient_norms(items, masks(lm), done.append)
        assert [(p.requires_grad, p.grad) for p in lm.model.parameters()] == before
        for item, at, norm in zip(items, masks(lm), found, strict=True):
            assert (
                np.isnan(norm)
                if not at.any()
                else norm == pytest.approx(naive_norm(lm.model, item, at), rel=1e-4)
            )
    assert sum(done) == len(items)


def test_an_adapter_on_the_head_has_gradients_too(lm: HFModel, toy_model_dir: Path) -> None:
    import peft

    config = peft.LoraConfig(r=2, target_modules=["lm_head", "q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(load_model(str(toy_model_dir)), config, adapter_name="arm0")
    found = HFModel(model, lm.tokenizer).gradient_norms(encoded(lm)[:1], masks(lm)[:1])
    assert found[0] == pytest.approx(naive_norm(model, encoded(lm)[0], masks(lm)[0]), rel=1e-4)


def test_gradients_that_fail_leave_the_model_as_it_was(lm: HFModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with lm.active(None), pytest.raises(ValueError, match="expected an active adapter"):
        lm.gradient_norms(encoded(lm), masks(lm))
    plain = HFModel(variant("Llama").model, lm.tokenizer)
    with pytest.raises(ValueError, match="expected an active adapter"):
        plain.gradient_norms(encoded(lm), masks(lm))

    def broken(*_: Any) -> None:
        raise RuntimeError("stopped half way")

    monkeypatch.setattr("dpaudit.models.gradients.norms", broken)
    with lm.active("sft-eps0.5"):
        before, scores = [p.requires_grad for p in lm.model.parameters()], lm.token_scores(encoded(lm))
        with pytest.raises(RuntimeError, match="half way"):
            lm.gradient_norms(encoded(lm), masks(lm))
        assert [p.requires_grad for p in lm.model.parameters()] == before
        assert not any("forward" in vars(m) for m in lm.model.modules())
        np.testing.assert_array_equal(lm.token_scores(encoded(lm))[0].logprob, scores[0].logprob)


@pytest.mark.parametrize("is_split", [True, False])
def test_a_prefix_before_every_sequence_is_computed_once(
    toy_model_dir: Path, toy_adapter_dir: Path, is_split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = HFModel.load(str(toy_model_dir))
    model.add_adapter("arm", toy_adapter_dir)
    if not is_split:
        monkeypatch.setattr(model, "_known_split", (None,))
    prefix = tuple(range(10, 27))
    items = [
        encode_text(text, model.tokenizer, 64)
        for text in ("I have a fever.", "Take water and rest now.", "Hm")
    ]
    with model.active("arm"):
        found = model.token_scores(items, prefix=prefix)
        for item, scores in zip(items, found, strict=True):
            with torch.no_grad():
                logits = logits_of(model.model, [*prefix, *item.input_ids])
            logp = torch.log_softmax(logits, -1)
            expected = [float(logp[len(prefix) + i - 1, token]) for i, token in enumerate(item.input_ids)][1:]
            assert scores.logprob[1:] == pytest.approx(expected, abs=1e-4)
        again = model.token_scores(items)
    assert not np.allclose(again[0].logprob[1:], found[0].logprob[1:], atol=1e-3)  # it does reach the model


@pytest.mark.parametrize("top_p", [0.5, 0.9, 0.999])
def test_no_decoding_gives_a_token_more_than_certainty(top_p: float) -> None:
    """A memorised secret's tokens are near certain, and rounding alone would lift half of them above."""
    logits = torch.randn(400, 2000, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(400)
    logits[tokens, tokens] += torch.linspace(10, 30, 400)
    found = scoring.decoding_logprob(logits, tokens, 1.0, 0, top_p)
    assert float(found.max()) <= 0 and torch.isfinite(found).all()
