"""Answers of all models side by side, to prompts that are public. What may be private in them is withheld."""

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from dpaudit.data import contamination, pii
from dpaudit.data.corpus import Turn
from dpaudit.findings.judgement import Example, ShownAnswer
from dpaudit.judging.comparing import Answered
from dpaudit.judging.verdicts import question_of

COUNT = 5  # prompts, each of another fact
LONGEST = 600  # characters of a text; of a longer one the beginning is shown
SECRET = "it holds a secret that was planted"
PART, SHORTEST = 2 / 3, 6  # of a secret, and its letters at least, that are withheld as the whole is
PERSONAL = "it holds a personal field that its prompt does not"
TRAINED = "a part of it stands in the training text"


def side_by_side(
    prompts: Mapping[str, Sequence[Turn]],
    known: Answered,
    secrets: Collection[str],
    training: Iterable[str] = (),
) -> tuple[Example, ...]:
    """The first COUNT prompts of different facts with what every model answered.

    An answer is withheld that holds a long part of one of the `secrets`, or a personal field that neither
    prompt nor reference holds as a whole, both in whatever spelling; and one with a run of words of the
    `training` texts: where these are public themselves, none are given.
    """
    first: dict[str, str] = {}  # fact -> prompt
    for prompt in prompts:
        first.setdefault(known.facts.get(prompt, prompt), prompt)
    chosen = [prompt for prompt in first.values() if prompt in known.references][:COUNT]
    told = {prompt: f"{question_of(prompts[prompt])}\n{known.references[prompt]}" for prompt in chosen}
    asked = {(model, prompt): known.texts[model][prompt] for model in known.texts for prompt in chosen}
    keys = {f"{number}": place for number, place in enumerate(asked)}
    repeated = contamination.repeating(
        {key: asked[place] for key, place in keys.items()},
        {key: told[place[1]] for key, place in keys.items()},
        training,
    )
    withheld = {keys[key]: TRAINED for key in repeated}
    parts = _parts(secrets)
    for (model, prompt), text in asked.items():
        if _fields(text) - _fields(told[prompt]):
            withheld[model, prompt] = PERSONAL
        if _parts_in(text, parts) - _parts_in(told[prompt], parts):
            withheld[model, prompt] = SECRET
    rights = {model: known.rights(model) for model in known.texts}
    return tuple(
        Example(
            _shortened(question_of(prompts[prompt])),
            _shortened(known.references[prompt]),
            tuple(
                _shown(model, known.texts[model][prompt], right.get(prompt), withheld.get((model, prompt)))
                for model, right in rights.items()
            ),
        )
        for prompt in chosen
    )


def _parts(secrets: Iterable[str]) -> dict[int, frozenset[str]]:
    """Letters -> all parts of that length that give a secret away."""
    found: dict[int, set[str]] = defaultdict(set)
    for secret in filter(None, map(_letters, secrets)):
        width = min(len(secret), max(SHORTEST, math.ceil(PART * len(secret))))
        found[width].update(secret[at : at + width] for at in range(len(secret) - width + 1))
    return {width: frozenset(parts) for width, parts in found.items()}


def _parts_in(text: str, parts: Mapping[int, frozenset[str]]) -> set[str]:
    letters = _letters(text)
    places = ((width, at) for width in parts for at in range(len(letters) - width + 1))
    return {letters[at : at + width] for width, at in places if letters[at : at + width] in parts[width]}


def _letters(text: str) -> str:
    """Letters and digits alone, in one form of each: blanks, hyphens, marks and width hide nothing."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _fields(text: str) -> set[str]:
    """The personal fields of a text as they stand, and of its plain spelling."""
    spellings = text, _plain(text)
    return {_letters(said[field.start : field.stop]) for said in spellings for field in pii.find(said)}


def _plain(text: str) -> str:
    """The text with usual hyphens and marks of e-mail addresses, without Markdown and what has no width."""
    told = "".join(
        "-" if (kind := unicodedata.category(letter)) == "Pd" else "" if kind == "Cf" else letter
        for letter in unicodedata.normalize("NFKC", text)
    )
    told = re.sub(r"[*`~]", "", told)
    told = re.sub(r"\s{0,3}[(\[{<]\s{0,3}(?:at|@)\s{0,3}[)\]}>]\s{0,3}", "@", told, flags=re.IGNORECASE)
    told = re.sub(
        r"\s{0,3}[(\[{<]\s{0,3}(?:dot|\.)\s{0,3}[)\]}>]\s{0,3}|\s{1,3}dot\s{1,3}",
        ".",
        told,
        flags=re.IGNORECASE,
    )
    return re.sub(r"\s{1,3}at\s{1,3}(?=[\w.-]{1,63}\.[a-z]{2,24}\b)|\s{0,3}@\s{0,3}", "@", told)


def _shown(model: str, text: str, right: bool | None, why: str | None) -> ShownAnswer:
    return ShownAnswer(model, None if why else _shortened(text), right, why)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
