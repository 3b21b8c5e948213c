"""Dialogues as token ids, with masks for what is learned (answers) and what is secret (a canary's span)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.data.corpus import Record, Turn
from dpaudit.models.dialogue import render, write
from dpaudit.models.marking import Range, Written
from dpaudit.models.templates import Refused

__all__ = [
    "IGNORED",
    "Encoded",
    "counted_mask",
    "encode",
    "encode_pair",
    "encode_record",
    "encode_text",
    "prompt_ids",
    "render",
]

IGNORED = -100  # label of a token that carries no loss
TOGETHER = 256  # texts that are tokenised at once


@dataclass(frozen=True)
class Encoded:
    """One sequence. Both masks have one flag a token; a flag is set where the token itself is predicted."""

    input_ids: tuple[int, ...]
    answer_mask: tuple[bool, ...]  # tokens of assistant turns, their closing tokens included
    secret_mask: tuple[bool, ...]  # tokens that overlap the secret; all False where none was named
    truncated: bool
    answer_bytes: int  # UTF-8 bytes of the assistant texts that were kept, their closing tokens included
    lost: int = field(default=0, compare=False)  # tokens of answers that were cut
    notes: frozenset[str] = field(default=frozenset(), compare=False)  # what the chat template changed

    @property
    def labels(self) -> tuple[int, ...]:
        pairs = zip(self.input_ids, self.answer_mask, strict=True)
        return tuple(token if kept else IGNORED for token, kept in pairs)


@dataclass(frozen=True)
class Wanted:
    """A record to encode, its dialogue or its text. `secret` marks its last occurrence there; `last_only`
    counts the last answer of a dialogue alone.
    """

    record: Record
    secret: str | None = None
    last_only: bool = False


def encode_all(wanted: Sequence[Wanted], tokenizer: Any, max_length: int) -> list[Encoded]:
    """As `encode` or `encode_text` of each, of a preference pair its prompt; many are tokenised at once, in
    half of the time.
    """
    parts = (wanted[start : start + TOGETHER] for start in range(0, len(wanted), TOGETHER))
    return [encoded for part in parts for encoded in _encoded(part, tokenizer, max_length)]


def _encoded(wanted: Sequence[Wanted], tokenizer: Any, max_length: int) -> list[Encoded]:
    written = [
        _written_text(one.record.text, tokenizer)
        if one.record.text is not None
        else write(one.record.turns, tokenizer)
        for one in wanted
    ]
    coded = zip(wanted, written, _tokens([one.text for one in written], tokenizer), strict=True)
    return [
        _text_masked(text, *tokens, max_length, one.secret)
        if one.record.text is not None
        else _masked(text, *tokens, tokenizer, max_length, one.secret, one.last_only)
        for one, text, tokens in coded
    ]


def encode(
    turns: tuple[Turn, ...],
    tokenizer: Any,
    max_length: int,
    *,
    secret: str | None = None,
    last_only: bool = False,
) -> Encoded:
    """The tokens of a dialogue. `secret` marks its last occurrence; `last_only` counts the last answer alone.

    The assistant's texts and the ends of its turns count; texts of users and system do not. What exceeds
    `max_length` tokens is cut at the end and reported by `truncated`. Raises Refused for a dialogue that the
    chat template does not take or whose answers it does not write as they are, UsageError for a template that
    cannot work.
    """
    return encode_all([Wanted(Record("", turns), secret, last_only)], tokenizer, max_length)[0]


def encode_text(text: str, tokenizer: Any, max_length: int, *, secret: str | None = None) -> Encoded:
    """The tokens of plain text and its end; every token counts but the first, which nothing predicts.

    `secret` marks its last occurrence. What exceeds `max_length` tokens is cut at the end and reported by
    `truncated`.
    """
    return encode_all([Wanted(Record("", (), text=text), secret)], tokenizer, max_length)[0]


def _masked(
    written: Written,
    ids: list[int],
    offsets: NDArray[np.int64],
    tokenizer: Any,
    max_length: int,
    secret: str | None,
    last_only: bool,
) -> Encoded:
    answers = written.answers[-1:] if last_only else written.answers
    learned = _overlapping(offsets, answers)
    if (learned & _overlapping(offsets, written.others)).any():
        raise Refused(
            f"{tokenizer.name_or_path}: chat template",
            expected="something between a question and its answer",
            got="a token that belongs to both",
            remedy="name a model with another template",
        )
    kept_end = int(offsets[:max_length][-1, 1]) if len(offsets) else 0
    kept = sum(len(written.text[start : min(end, kept_end)].encode()) for start, end in answers)
    return Encoded(
        tuple(ids[:max_length]),
        tuple(learned[:max_length].tolist()),
        tuple(_overlapping(offsets[:max_length], _last(written.text, secret)).tolist()),
        len(offsets) > max_length,
        kept,
        int(learned[max_length:].sum()),
        written.notes,
    )


def _written_text(text: str, tokenizer: Any) -> Written:
    """Plain text and its end, as a text without turns."""
    return Written(f"{text}{tokenizer.eos_token or ''}", ((0, len(text)),), (), ())


def _text_masked(
    written: Written, ids: list[int], whole: NDArray[np.int64], max_length: int, secret: str | None
) -> Encoded:
    offsets, text = whole[:max_length], written.text[: written.contents[0][1]]
    return Encoded(
        tuple(ids[:max_length]),
        tuple(place > 0 for place in range(len(offsets))),
        tuple(_overlapping(offsets, _last(text, secret)).tolist()),
        len(ids) > max_length,
        len(text[: int(offsets[-1, 1])].encode()) if len(offsets) else 0,
        len(ids) - len(offsets),
    )


def _last(text: str, secret: str | None) -> list[Range]:
    """Where a secret last occurs."""
    start = text.rfind(secret) if secret else -1
    return [(start, start + len(secret))] if secret and start >= 0 else []


def encode_record(
    record: Record,
    tokenizer: Any,
    max_length: int,
    pair_prompt: int | None = None,
    pair_answer: int | None = None,
) -> tuple[Encoded, ...]:
    """The sequences that a record trains on: the chosen and the rejected sequence of a pair, else one
    sequence.

    Of a pair, `pair_prompt` keeps the prompt's last tokens and `pair_answer` each answer's first ones, which
    are what preference training commonly keeps; `max_length` then bounds the whole.
    """
    if record.is_pair:
        return tuple(
            _kept(sequence, pair_prompt, pair_answer)
            for sequence in encode_pair(record, tokenizer, max_length)
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
        lost=encoded.lost + sum(encoded.answer_mask[stop:]),
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
    return list(
        tokenizer(render(turns, tokenizer, prompt=True), add_special_tokens=False, verbose=False)["input_ids"]
    )


def _tokens(texts: list[str], tokenizer: Any) -> list[tuple[list[int], NDArray[np.int64]]]:
    """The tokens of each text and their offsets, characters of shape (tokens, 2)."""
    coded = tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    offsets = [np.array(spans, dtype=np.int64).reshape(-1, 2) for spans in coded["offset_mapping"]]
    return list(zip(coded["input_ids"], offsets, strict=True))


def _overlapping(offsets: NDArray[np.int64], ranges: Sequence[Range]) -> NDArray[np.bool_]:
    """Whether each token, of offsets of shape (tokens, 2), stands in one of the ranges of characters, if only
    in part.
    """
    begin, end = offsets.T
    overlaps = np.zeros(len(offsets), dtype=bool)
    for start, stop in ranges:
        overlaps |= (begin < stop) & (end > start) & (end > begin)
    return overlaps
