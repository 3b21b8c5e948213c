"""Personal fields of a record as tokens: which can be tested, and which cannot."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpaudit.data import pii
from dpaudit.data.corpus import Record
from dpaudit.models.encode import Encoded, counted_mask, render

Standing = Literal["tried", "given", "untrained", "cut"]


@dataclass(frozen=True, eq=False)
class FieldTokens:
    """One field. `given`: its value stands earlier in the text; `untrained`: it is not learnt from; `cut`: it
    does not fit.
    """

    kind: str
    standing: Standing
    counted: NDArray[np.bool_]  # (tokens,), those that overlap the field


def fields_of(record: Record, encoded: Encoded, tokenizer: Any, kinds: tuple[str, ...]) -> list[FieldTokens]:
    """The fields of these kinds anywhere in a dialogue or plain text that is `encoded`, in their order."""
    plain = record.text is not None
    text = f"{record.text}{tokenizer.eos_token or ''}" if plain else render(record.turns, tokenizer)
    fields = pii.find(text, kinds)
    if not fields:
        return []
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    learnt = counted_mask(encoded.answer_mask)
    return [_tokens(field, text, np.array(offsets[: len(learnt)]), learnt) for field in fields]


def _tokens(
    field: pii.Field, text: str, offsets: NDArray[np.int64], learnt: NDArray[np.bool_]
) -> FieldTokens:
    begin, end = offsets.T
    counted = (end > begin) & (begin < field.stop) & (end > field.start)
    standing: Standing = "tried"
    if not counted.any() or end[counted].max() < field.stop:
        standing = "cut"
    elif not learnt[counted].all():
        standing = "untrained"
    elif pii.is_given(text, field):
        standing = "given"
    return FieldTokens(field.kind, standing, counted)
