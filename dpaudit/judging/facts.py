"""Prompts that are one draw: those about one fact."""

import re
from collections.abc import Iterable, Mapping, Sequence

from dpaudit.data import lexicon
from dpaudit.data.corpus import Turn
from dpaudit.data.near_duplicates import UnitTexts, index_of
from dpaudit.judging.verdicts import question_of

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def of_clinic(prompts: Mapping[str, Sequence[Turn]]) -> dict[str, str]:
    """Prompt id -> the condition that it asks about; a prompt that names none is a fact of its own."""
    named = {name: lexicon.condition_in(question_of(turns)) for name, turns in prompts.items()}
    return {name: condition.name if condition else name for name, condition in named.items()}


def drugs_of_clinic() -> list[str]:
    """The drugs of its formulary, whose names no other text knows."""
    return [condition.drug for condition in lexicon.conditions()]


def of_texts(prompts: Mapping[str, Sequence[Turn]]) -> dict[str, str]:
    """Prompt id -> the first prompt that is nearly the same, or nearly the same as one that is, and so on.
    Other numbers make no other prompt.
    """
    texts = {name: _NUMBER.sub("0", question_of(turns)) for name, turns in prompts.items()}
    units = [UnitTexts(name, (text,), None) for name, text in texts.items()]
    index, first = index_of(units), {name: name for name in prompts}
    order = {name: place for place, name in enumerate(prompts)}
    equal: dict[str, str] = {}  # short texts, of which the index knows nothing
    for unit in units:
        near = {name for number in index.near(unit.texts[0]) for name in index.owners[number]}
        same = equal.setdefault(" ".join(unit.texts[0].lower().split()), unit.name)
        _merge(first, order, (unit.name, same, *near))
    return {name: _root(first, name) for name in prompts}


def of_answered(asked: Mapping[str, Sequence[Turn]], answers: Mapping[str, str]) -> dict[str, str]:
    """As `of_texts`, where those with the same right answer are one fact too."""
    first, equal = of_texts(asked), dict[str, str]()
    order = {name: place for place, name in enumerate(asked)}
    for name in asked:
        same = equal.setdefault(" ".join(answers[name].lower().split()), name)
        _merge(first, order, (name, same))
    return {name: _root(first, name) for name in asked}


def _merge(first: dict[str, str], order: Mapping[str, int], names: Iterable[str]) -> None:
    """Makes facts one, under the name of the earliest."""
    met = {_root(first, name) for name in names}
    first |= dict.fromkeys(met, min(met, key=order.__getitem__))


def _root(first: Mapping[str, str], name: str) -> str:
    while first[name] != name:
        name = first[name]
    return name
