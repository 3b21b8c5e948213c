"""Candidates as sequences to score: what counts in each, and changed copies of it. No labels."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.data.canary import Canary
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.models.encode import Encoded, Wanted, counted_mask, encode_all
from dpaudit.stages.prepare.candidates import CandidateUnits
from dpaudit.suite.grid import Method
from dpaudit.suite.plan import Plan

Mask = NDArray[np.bool_]
Change = Callable[[str], str]


@dataclass(frozen=True, eq=False)
class ItemSource:
    """What an item was made from: a record, and the part of it that counts (a secret, or else what is
    learnt).
    """

    record: Record
    last_only: bool  # only the last of several answers counts
    canary: Canary | None = None  # whose secret counts

    @property
    def secret(self) -> str | None:
        return self.canary.secret if self.canary else None


@dataclass(frozen=True, eq=False)
class Item:
    """One sequence to score, and the tokens of it that count. A unit has one item a record."""

    example: str
    kind: str  # canary or record
    encoded: Encoded
    counted: Mask
    text: str  # what the counted tokens spell
    source: ItemSource


@dataclass(frozen=True, eq=False)
class Items:
    """The items of one method; `unscored` names examples of which nothing that counts fits into
    model.max_length.
    """

    items: list[Item]
    unscored: dict[str, str]  # example -> kind

    def counts(self) -> dict[str, dict[str, int]]:
        """By kind of example: how many are cut at model.max_length, and how many are not scored at all."""
        cut = {item.example: item.kind for item in self.items if item.encoded.truncated}
        return {
            kind: {"truncated": _of(cut, kind), "unscored": _of(self.unscored, kind)}
            for kind in ("canary", "record")
        }


def _of(examples: dict[str, str], kind: str) -> int:
    return sum(example_kind == kind for example_kind in examples.values())


def items_of(plan: Plan, candidates: CandidateUnits, method: Method, tokenizer: Any) -> Items:
    """Membership canaries by their secret; coin-flipped units by the answers of what the method learns from.

    Raises UsageError where model.max_length cuts a secret.
    """
    length, last_only = plan.suite.model.max_length, method == "dpo"
    units = learnt_units(candidates, method)
    canaries = [canary for canary in candidates.canaries if canary.purpose == "mia"]
    sources = [ItemSource(r, last_only, canary) for canary in canaries for r in _told(canary, method)]
    made = list(map(_canary_item, sources, encoded_sources(sources, tokenizer, length), repeat(length)))
    named = [(unit, ItemSource(record, last_only)) for unit in units for record in units[unit]]
    coded = encoded_sources([source for _, source in named], tokenizer, length)
    whole: set[str] = set()
    for (unit, source), (encoded, counted) in zip(named, coded, strict=True):
        if counted.any():
            text = tokenizer.decode(np.array(encoded.input_ids)[counted], skip_special_tokens=True)
            made.append(Item(unit, "record", encoded, counted, text, source))
            whole.add(unit)
    return Items(made, {unit: "record" for unit in units if units[unit] and unit not in whole})


def _told(canary: Canary, method: Method) -> Sequence[Record]:
    """The records of a canary that the method learns from."""
    return {"cpt": (canary.text,), "sft": canary.records, "dpo": canary.records[:1]}[method]


def _canary_item(source: ItemSource, coded: tuple[Encoded, Mask], length: int) -> Item:
    assert source.canary is not None
    encoded, counted = coded
    if not counted.any() or (encoded.truncated and encoded.secret_mask[-1]):
        raise UsageError(
            "model.max_length",
            f"room for the secret of canary {source.canary.id}",
            f"{length} tokens, which cut the secret",
            "raise model.max_length",
        )
    return Item(source.canary.id, "canary", encoded, counted, source.canary.secret, source)


def learnt_units(candidates: CandidateUnits, method: Method) -> dict[str, list[Record]]:
    """Unit -> what an arm of this method learns from; of a preference pair, the prompt with the chosen
    answer.
    """
    if method == "dpo":
        return {unit: [_chosen(pair) for pair in pairs] for unit, pairs in candidates.pairs.items()}
    return candidates.records if method == "sft" else candidates.texts


def _chosen(pair: Record) -> Record:
    assert pair.chosen is not None
    return Record(pair.id, (*pair.turns, Turn("assistant", pair.chosen)), pair.patient)


def encoded_sources(sources: Sequence[ItemSource], tokenizer: Any, length: int) -> list[tuple[Encoded, Mask]]:
    """The tokens of each source and the mask of those that count."""
    wanted = [Wanted(source.record, source.secret, source.last_only) for source in sources]
    coded = zip(sources, encode_all(wanted, tokenizer, length), strict=True)
    return [
        (encoded, counted_mask(encoded.answer_mask if source.secret is None else encoded.secret_mask))
        for source, encoded in coded
    ]


# ---- changed copies


def changed(changes: Iterable[tuple[Item, Change]], tokenizer: Any, length: int) -> list[Item]:
    """Each item with the text that counts changed; the item itself where nothing of it is left in the
    context.
    """
    pairs = [(item, _changed_source(item.source, change)) for item, change in changes]
    coded = encoded_sources([source for _, source in pairs], tokenizer, length)
    return [
        Item(item.example, item.kind, encoded, counted, item.text, source) if counted.any() else item
        for (item, source), (encoded, counted) in zip(pairs, coded, strict=True)
    ]


def _changed_source(source: ItemSource, change: Change) -> ItemSource:
    if source.canary is not None:
        other = replace(source.canary, secret=change(source.canary.secret))
        return replace(
            source,
            record=_swapped(source.record, source.canary.secret, other.secret, source.last_only),
            canary=other,
        )
    record = source.record
    if record.text is not None:
        return replace(source, record=replace(record, text=change(record.text)))
    turns = tuple(
        replace(turn, text=change(turn.text)) if _counts(record, place, source.last_only) else turn
        for place, turn in enumerate(record.turns)
    )
    return replace(source, record=replace(record, turns=turns))


def _counts(record: Record, place: int, last_only: bool) -> bool:
    is_answer = record.turns[place].role == "assistant"
    return is_answer and (not last_only or place == len(record.turns) - 1)


def _swapped(record: Record, secret: str, other: str, last_only: bool) -> Record:
    """The record with the last occurrence of a secret exchanged."""

    def exchanged(text: str) -> str:
        before, occurrence, after = text.rpartition(secret)
        return f"{before}{other}{after}" if occurrence else text

    if record.text is not None:
        return replace(record, text=exchanged(record.text))
    last = record.turns[-1]
    return replace(record, turns=(*record.turns[:-1], replace(last, text=exchanged(last.text))))


def exchange(item: Item, words: Sequence[str], share: float, number: int) -> Change:
    """The change that makes the item's copy `number`: a `share` of its words, at least one, are other words.

    Of a secret, the words or letters of another secret of its space. The same item and number give the same
    copy.
    """
    rng = random.Random(f"neighbour/{item.example}/{item.source.record.id}/{number}")

    def change(text: str) -> str:
        canary = item.source.canary
        other = canary.sample(rng) if canary and canary.alphabet else None
        joint = "" if other is not None and " " not in text else " "
        parts = list(text) if joint == "" else text.split(" ")
        others = None if other is None else (list(other) if joint == "" else other.split(" "))
        if others is None or len(others) != len(parts):
            others = [rng.choice(words) for _ in parts] if words else parts[::-1]
        for place in rng.sample(range(len(parts)), max(1, round(share * len(parts)))):
            parts[place] = others[place]
        return joint.join(parts)

    return change
