"""Prompts that are one draw: those about one fact."""

from collections.abc import Mapping, Sequence

from dpaudit.data import lexicon
from dpaudit.data.corpus import Turn
from dpaudit.data.near_duplicates import UnitTexts, index_of
from dpaudit.judging.verdicts import question_of


def of_clinic(prompts: Mapping[str, Sequence[Turn]]) -> dict[str, str]:
    """Prompt id -> the condition that it asks about; a prompt that names none is a fact of its own."""
    named = {name: lexicon.condition_in(question_of(turns)) for name, turns in prompts.items()}
    return {name: condition.name if condition else name for name, condition in named.items()}


def drugs_of_clinic() -> list[str]:
    """The drugs of its formulary, whose names no other text knows."""
    return [condition.drug for condition in lexicon.conditions()]


def of_texts(prompts: Mapping[str, Sequence[Turn]]) -> dict[str, str]:
    """Prompt id -> the first prompt that is nearly the same, or nearly the same as one that is, and so on."""
    units = [UnitTexts(name, (question_of(turns),), None) for name, turns in prompts.items()]
    index, first = index_of(units), {name: name for name in prompts}
    for unit in units:
        near = {name for number in index.near(unit.texts[0]) for name in index.owners[number]}
        met = {_root(first, name) for name in (unit.name, *near)}
        earliest = next(name for name in prompts if name in met)
        first |= dict.fromkeys(met, earliest)
    return {name: _root(first, name) for name in prompts}


def _root(first: Mapping[str, str], name: str) -> str:
    while first[name] != name:
        name = first[name]
    return name
