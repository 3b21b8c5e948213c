"""Answers of a Hugging Face model: greedy, or sampled from all tokens that can be written."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from dpaudit.data.corpus import Turn
from dpaudit.models.batching import batch_tokens, batches, padded
from dpaudit.models.decoding import Decoding
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
    for batch, written in in_batches(model, tokenizer, prompts, Decoding(max_new_tokens)):
        for index, answer in zip(batch, written, strict=True):
            answers[index] = answer
        if advance:
            advance(len(batch))
    return answers


def in_batches(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[Turn, ...]],
    decoding: Decoding,
    seed: int = 0,
    known: Collection[int] = (),
) -> Iterator[tuple[list[int], list[Written]]]:
    """Batches of prompts by their places with their answers, without special tokens and white space at the
    ends.

    Batches depend on the prompts alone, and what is drawn in one on `seed` and its place: the answers are the
    same where batches that hold nothing but `known` places are left out.
    """
    settings = _decoded(model, tokenizer, decoding)
    answers = _answers(model, tokenizer, prompts, decoding.tokens, settings, frozenset(known), seed)
    for batch, written in answers:
        yield batch, [Written(answer.text.strip(), answer.is_cut) for answer in written]


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
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[Turn, ...]],
    tokens: int,
    settings: Any,
    known: frozenset[int] = frozenset(),
    seed: int | None = None,
) -> Iterator[tuple[list[int], list[Written]]]:
    """Batches of prompts by their places, with what was generated; none of which all places are known.

    With a seed, what is drawn in a batch depends on its place and not on the batches before.
    """
    ends = settings.eos_token_id
    ends = torch.tensor(ends if isinstance(ends, list) else [] if ends is None else [ends])
    rows = [prompt_ids(turns, tokenizer) for turns in prompts]
    for batch in batches([len(row) + tokens for row in rows], batch_tokens(model)):
        if known.issuperset(batch):
            continue
        ids, mask = padded([rows[index] for index in batch], tokenizer.pad_token_id, model.device, left=True)
        with nullcontext() if seed is None else torch.random.fork_rng():
            if seed is not None:
                torch.manual_seed(seed * len(rows) + batch[0])
            output = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        new = output[:, ids.shape[1] :]
        is_open = ~torch.isin(new, ends.to(new)).any(dim=1) & (new.shape[1] == tokens)
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        yield batch, [Written(text, cut) for text, cut in zip(texts, is_open.tolist(), strict=True)]


def _decoded(model: Any, tokenizer: Any, decoding: Decoding) -> Any:
    """These settings alone, whatever sampling or penalties the model's own generation config names."""
    import transformers

    return transformers.GenerationConfig(
        do_sample=not decoding.is_greedy,
        num_beams=1,
        max_new_tokens=decoding.tokens,
        temperature=decoding.temperature or 1.0,
        top_p=decoding.top_p,
        top_k=50 if decoding.is_greedy else 0,
        repetition_penalty=decoding.repetition_penalty,
        no_repeat_ngram_size=decoding.no_repeat,
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
