"""Dialogues as token ids, with masks for what is learned (answers) and what is secret (a canary's span)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.corpus import Record, Turn

IGNORED = -100  # label of a token that carries no loss


@dataclass(frozen=True)
class Encoded:
    """One sequence. Both masks have one flag a token; a flag is set where the token itself is predicted."""

    input_ids: tuple[int, ...]
    answer_mask: tuple[bool, ...]  # tokens of assistant turns, their closing tokens included
    secret_mask: tuple[bool, ...]  # tokens that overlap the secret; all False where none was named
    truncated: bool
    answer_bytes: int  # UTF-8 bytes of the assistant texts that were kept

    @property
    def labels(self) -> tuple[int, ...]:
        pairs = zip(self.input_ids, self.answer_mask, strict=True)
        return tuple(token if kept else IGNORED for token, kept in pairs)


def render(turns: tuple[Turn, ...], tokenizer: Any, *, prompt: bool = False) -> str:
    """The dialogue as the model's chat template writes it; `prompt` opens the next assistant turn.

    A tokenizer without a chat template gets `###Question: … ###Answer: …` lines.
    """
    if tokenizer.chat_template is None:
        names = {"system": "###System: ", "user": "###Question: ", "assistant": "###Answer: "}
        ends = {"system": "\n", "user": "\n", "assistant": f"{tokenizer.eos_token or ''}\n"}
        text = "".join(names[turn.role] + turn.text + ends[turn.role] for turn in turns)
        return text + names["assistant"] if prompt else text
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))


def encode(
    turns: tuple[Turn, ...],
    tokenizer: Any,
    max_length: int,
    *,
    secret: str | None = None,
    last_only: bool = False,
) -> Encoded:
    """The tokens of a dialogue. `secret` marks its last occurrence; `last_only` counts the last answer alone.

    What exceeds `max_length` tokens is cut at the end and reported by `truncated`.
    """
    text = render(turns, tokenizer)
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans: list[tuple[int, int]] = coded["offset_mapping"]
    answers = _answer_spans(turns, tokenizer, text, last_only)
    secret_start = text.rfind(secret) if secret else -1
    secret_span = [(secret_start, secret_start + len(secret))] if secret and secret_start >= 0 else []
    answer_mask = tuple(_inside(span, answers) for span in spans[:max_length])
    kept_end = spans[min(len(spans), max_length) - 1][1]
    kept = sum(len(text[start : min(end, kept_end)].encode()) for start, end in answers)
    return Encoded(
        tuple(coded["input_ids"][:max_length]),
        answer_mask,
        tuple(_inside(span, secret_span) for span in spans[:max_length]),
        len(spans) > max_length,
        kept,
    )


def encode_text(text: str, tokenizer: Any, max_length: int, *, secret: str | None = None) -> Encoded:
    """The tokens of plain text and its end; every token counts but the first, which nothing predicts.

    `secret` marks its last occurrence. What exceeds `max_length` tokens is cut at the end and reported by `truncated`.
    """
    written = f"{text}{tokenizer.eos_token or ''}"
    coded = tokenizer(written, add_special_tokens=False, return_offsets_mapping=True)
    spans: list[tuple[int, int]] = coded["offset_mapping"][:max_length]
    start = text.rfind(secret) if secret else -1
    secret_span = [(start, start + len(secret))] if secret and start >= 0 else []
    return Encoded(
        tuple(coded["input_ids"][:max_length]),
        tuple(place > 0 for place in range(len(spans))),
        tuple(_inside(span, secret_span) for span in spans),
        len(coded["input_ids"]) > max_length,
        len(text[: spans[-1][1]].encode()) if spans else 0,
    )


def encode_record(
    record: Record,
    tokenizer: Any,
    max_length: int,
    pair_prompt: int | None = None,
    pair_answer: int | None = None,
) -> tuple[Encoded, ...]:
    """What a record trains on: the chosen and the rejected sequence of a pair, else one sequence.

    Of a pair, `pair_prompt` keeps the prompt's last tokens and `pair_answer` each answer's first ones, which are
    what preference training commonly keeps; `max_length` then bounds the whole.
    """
    if record.is_pair:
        return tuple(
            _kept(one, pair_prompt, pair_answer) for one in encode_pair(record, tokenizer, max_length)
        )
    if record.text is not None:
        return (encode_text(record.text, tokenizer, max_length),)
    return (encode(record.turns, tokenizer, max_length),)


def _kept(encoded: Encoded, prompt: int | None, answer: int | None) -> Encoded:
    """The last `prompt` tokens before the answer and the first `answer` tokens of it."""
    place = encoded.answer_mask.index(True) if any(encoded.answer_mask) else len(encoded.input_ids)
    start = 0 if prompt is None else max(place - prompt, 0)
    stop = len(encoded.input_ids) if answer is None else min(place + answer, len(encoded.input_ids))
    return replace(
        encoded,
        input_ids=encoded.input_ids[start:stop],
        answer_mask=encoded.answer_mask[start:stop],
        secret_mask=encoded.secret_mask[start:stop],
        truncated=encoded.truncated or start > 0 or stop < len(encoded.input_ids),
    )


def encode_pair(record: Record, tokenizer: Any, max_length: int) -> tuple[Encoded, Encoded]:
    """The chosen and the rejected sequence of a preference pair, in that order."""
    assert record.chosen is not None and record.rejected is not None
    chosen = (*record.turns, Turn("assistant", record.chosen))
    rejected = (*record.turns, Turn("assistant", record.rejected))
    return (
        encode(chosen, tokenizer, max_length, last_only=True),
        encode(rejected, tokenizer, max_length, last_only=True),
    )


def counted_mask(flags: Sequence[bool]) -> NDArray[np.bool_]:
    """A mask of tokens as an array; never the first one, which nothing predicts."""
    mask = np.array(flags, dtype=bool)
    mask[:1] = False
    return mask


def prompt_ids(turns: tuple[Turn, ...], tokenizer: Any) -> list[int]:
    """The tokens that come before an answer to `turns` (which end with the user)."""
    return list(tokenizer(render(turns, tokenizer, prompt=True), add_special_tokens=False)["input_ids"])


def _answer_spans(
    turns: tuple[Turn, ...], tokenizer: Any, text: str, last_only: bool
) -> list[tuple[int, int]]:
    """Character ranges of assistant turns: from behind the generation prompt to the end of the turn's rendering."""
    spans = []
    for index, turn in enumerate(turns):
        if turn.role != "assistant" or (last_only and index < len(turns) - 1):
            continue
        opened = render(turns[:index], tokenizer, prompt=True)
        start = len(opened) if text.startswith(opened) else text.rfind(turn.text)
        end = len(render(turns[: index + 1], tokenizer).rstrip("\n"))
        spans.append((start, end))
    return spans


def _inside(span: tuple[int, int], ranges: list[tuple[int, int]]) -> bool:
    start, end = span
    return end > start and any(start < stop and end > begin for begin, stop in ranges)
