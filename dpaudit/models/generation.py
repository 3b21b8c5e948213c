"""Answers of a Hugging Face model: greedy, or sampled from all tokens that can be written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dpaudit.data.corpus import Turn
from dpaudit.models.batching import batch_tokens, batches, padded
from dpaudit.models.encode import prompt_ids
from dpaudit.models.language_model import Advance
from dpaudit.models.vocabulary import unwritable


@dataclass(frozen=True)
class Written:
    """An answer; `is_cut` where it met the limit before its end."""

    text: str
    is_cut: bool


@torch.inference_mode()
def greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[Turn, ...]],
    max_new_tokens: int,
    advance: Advance | None = None,
) -> list[Written]:
    """The greedy answer to every prompt (turns that end with the user), without special tokens."""
    answers = [Written("", False)] * len(prompts)
    settings = _greedy(model, tokenizer, max_new_tokens)
    for batch, written in _answers(model, tokenizer, prompts, max_new_tokens, settings):
        for index, answer in zip(batch, written, strict=True):
            answers[index] = Written(answer.text.strip(), answer.is_cut)
        if advance:
            advance(len(batch))
    return answers


@torch.inference_mode()
def sampled(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[Turn, ...]],
    tokens: int,
    temperature: float,
    seed: int,
) -> list[str]:
    """An answer of `tokens` tokens to every prompt, sampled at `temperature` from all tokens that can be
    written; on one line.

    `seed` fixes them, on a CPU to the byte. White space at the ends is cut, so that an answer may be empty.
    """
    left_out = unwritable(tokenizer, int(model.get_output_embeddings().weight.shape[0]))
    settings = _drawn(tokenizer, tokens, temperature, left_out)
    answers = [""] * len(prompts)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch, written in _answers(model, tokenizer, prompts, tokens, settings):
            for index, answer in zip(batch, written, strict=True):
                answers[index] = " ".join(answer.text.split())
    return answers


def _answers(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[Turn, ...]], tokens: int, settings: Any
) -> Iterator[tuple[list[int], list[Written]]]:
    """Batches of prompts by their places, with what was generated."""
    ends = settings.eos_token_id
    ends = torch.tensor(ends if isinstance(ends, list) else [] if ends is None else [ends])
    rows = [prompt_ids(turns, tokenizer) for turns in prompts]
    for batch in batches([len(row) + tokens for row in rows], batch_tokens(model)):
        ids, mask = padded([rows[index] for index in batch], tokenizer.pad_token_id, model.device, left=True)
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        new = output[:, ids.shape[1] :]
        is_open = ~torch.isin(new, ends.to(new)).any(dim=1) & (new.shape[1] == tokens)
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        yield batch, [Written(text, cut) for text, cut in zip(texts, is_open.tolist(), strict=True)]


def _greedy(model: Any, tokenizer: Any, max_new_tokens: int) -> Any:
    """Plain greedy decoding, whatever sampling or penalties the model's own generation config names."""
    import transformers

    return transformers.GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=model.generation_config.eos_token_id or tokenizer.eos_token_id,
    )


def _drawn(tokenizer: Any, tokens: int, temperature: float, left_out: list[int]) -> Any:
    """Sampling from the whole vocabulary but for `left_out`, which holds the end token: all answers are of
    one length.
    """
    import transformers

    return transformers.GenerationConfig(
        do_sample=True,
        temperature=temperature,
        top_p=1.0,
        top_k=0,
        max_new_tokens=tokens,
        suppress_tokens=left_out,
        pad_token_id=tokenizer.pad_token_id,
    )
