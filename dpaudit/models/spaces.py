"""A canary's candidate space, or a sample of it, as token ids: what has to be scored to rank its secret."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.data.canary import Canary
from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models.encode import Encoded, encode, encode_text, render
from dpaudit.signals.extraction import TokenTrie, candidate_secrets


@dataclass(frozen=True, eq=False)
class TokenSpace:
    """The candidates of one canary, as continuations of the same prefix.

    What follows the secret in the text is left out of the ranking: a candidate's score is the probability of
    its tokens after everything that stands before them. Whatever the score, the rank of a secret that was
    drawn uniformly and never seen is uniform.
    """

    encoded: Encoded  # the canary's own text, with the mask of its secret
    prefix: tuple[int, ...]
    # one sequence a candidate, in the order of `candidate_secrets`; of a sample, the secret first
    trie: TokenTrie
    secret_index: int


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Token ids of every candidate between two pieces of text."""

    trie: TokenTrie
    index: dict[str, int]
    own: list[tuple[int, ...]]


class Spaces:
    """Makes spaces for one tokenizer; canaries with the same words around secrets of one alphabet share
    theirs.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._known: dict[tuple[Any, ...], _Candidates] = {}

    def of(self, canary: Canary, others: Sequence[str] | None = None) -> TokenSpace:
        """The space of a canary, from its first record; with `others`, its secret and those alone.

        Raises UsageError where model.max_length cuts its secret. Candidates are tokenised between the word
        before the secret, or what opens the answer if the secret comes first, and what follows up to the next
        blank. Where that does not give the secret's tokens in the whole text, the whole text is used, which
        takes longer.
        """
        item = encoded_secret(canary, self.tokenizer, self.max_length)
        turns = canary.records[0].turns
        text = render(turns, self.tokenizer)
        start = text.rfind(canary.secret)
        stop = start + len(canary.secret)
        opening = self._opening(turns)
        left = opening if text[:start].endswith(opening) else text[_word_before(text, start) : start]
        near = (left, text[stop : _blank_behind(text, stop)])
        for left, right in (near, (text[:start], text[stop:])):
            candidates = (
                self._candidates(canary, left, right)
                if others is None
                else self._made([canary.secret, *others], left, right)
            )
            place = candidates.index[canary.secret]
            own = candidates.own[place]
            end = int(np.flatnonzero(item.secret_mask)[-1]) + 1
            if item.input_ids[end - len(own) : end] == own and end > len(own):
                return TokenSpace(item, item.input_ids[: end - len(own)], candidates.trie, place)
        raise UsageError(
            f"canary {canary.id}",
            "a secret whose tokens do not begin the text",
            "a secret at the beginning",
            "use a chat template that opens with the question",
        )

    def _opening(self, turns: tuple[Turn, ...]) -> str:
        """What the chat template writes between the last question and its answer."""
        question = render(turns[:-1], self.tokenizer)
        return render(turns[:-1], self.tokenizer, prompt=True)[len(question) :]

    def _candidates(self, canary: Canary, left: str, right: str) -> _Candidates:
        key = (left, right, canary.alphabet, canary.length, canary.separator, canary.group)
        if key not in self._known:
            self._known[key] = self._made(candidate_secrets(canary), left, right)
        return self._known[key]

    def _made(self, secrets: list[str], left: str, right: str) -> _Candidates:
        own = _continuations(self.tokenizer, left, secrets, right)
        return _Candidates(TokenTrie(own), {secret: place for place, secret in enumerate(secrets)}, own)


def encoded_secret(
    canary: Canary, tokenizer: Any, max_length: int, *, plain: bool = False, place: int = 0
) -> Encoded:
    """The canary's record at `place`, or its plain text, with its secret marked. Raises UsageError where
    `max_length` cuts the secret.
    """
    if plain:
        item = encode_text(canary.text.text or "", tokenizer, max_length, secret=canary.secret)
    else:
        item = encode(canary.records[place].turns, tokenizer, max_length, secret=canary.secret)
    if not any(item.secret_mask) or (item.truncated and item.secret_mask[-1]):
        raise UsageError(
            "model.max_length",
            f"room for the secret of canary {canary.id}",
            f"{max_length} tokens, which cut the secret",
            "raise model.max_length",
        )
    return item


def _continuations(tokenizer: Any, left: str, secrets: list[str], right: str) -> list[tuple[int, ...]]:
    """Per secret its tokens in `left + secret + right`, from the first place where any two of them may
    differ.
    """
    coded = tokenizer(
        [left + secret + right for secret in secrets], add_special_tokens=False, return_offsets_mapping=True
    )
    ids: list[list[int]] = coded["input_ids"]
    spans = []
    for secret, offsets in zip(secrets, coded["offset_mapping"], strict=True):
        stop = len(left) + len(secret)
        inside = [
            i for i, (begin, end) in enumerate(offsets) if end > begin and begin < stop and end > len(left)
        ]
        spans.append((inside[0], inside[-1] + 1))
    begin = min(first for first, _ in spans)
    while any(row[:begin] != ids[0][:begin] for row in ids):
        begin -= 1
    return [tuple(row[begin:end]) for row, (_, end) in zip(ids, spans, strict=True)]


def _word_before(text: str, start: int) -> int:
    """Where the word before position `start` begins, its leading blank included."""
    place = start - 1
    while place > 0 and text[place].isspace():
        place -= 1
    while place > 0 and not text[place].isspace():
        place -= 1
    return max(place, 0)


def _blank_behind(text: str, stop: int) -> int:
    while stop < len(text) and not text[stop].isspace():
        stop += 1
    return stop
