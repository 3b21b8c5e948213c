"""A file of prompts for batch answers: dialogues whose last question is to be answered."""

from dataclasses import dataclass
from pathlib import Path

from dpaudit.data import identity, judged_files
from dpaudit.data.answer_files import NAMES, fields_of
from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError

DOCS = "docs/generate.md shows the form"


@dataclass(frozen=True)
class Prompt:
    """One prompt under its name in the file, or its row's number where it has none."""

    key: str  # what the file calls the name: name_key or id
    name: str
    turns: tuple[Turn, ...]  # ends with the user
    reference: str | None  # the answer that the file gives


def read(file: Path) -> tuple[Prompt, ...]:
    """The prompts of a file in its order; names occur once. Answers that stand in it are not asked about.

    Raises UsageError that names file, line and key, and quotes no text.
    """
    found: dict[str, Prompt] = {}
    for number, (where, fields) in enumerate(fields_of(file), 1):
        turns, spoken = judged_files.asked(fields, where)
        if turns is None:
            raise UsageError(where, "a prompt, as prompt, question or messages", "none", DOCS)
        key = next((key for key in NAMES if fields.get(key) not in (None, "")), None)
        name = identity.of(fields[key], f"{where}: {key}") if key else None
        prompt = Prompt(key or "id", name or str(number), turns, spoken)
        if prompt.name in found:
            raise UsageError(
                where, "names that occur once", "a name that is there already", "leave one of them out"
            )
        found[prompt.name] = prompt
    if not found:
        raise UsageError(str(file), "at least one prompt", "none", DOCS)
    return tuple(found.values())
