"""Planted rows: canaries drawn, and written as rows that look like those of the file."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpaudit.data import lexicon
from dpaudit.data.canary import PUBLIC_PEOPLE
from dpaudit.data.columns import Fields
from dpaudit.errors import UsageError
from dpaudit.planting import disguise
from dpaudit.planting.disguise import Words
from dpaudit.planting.families import PlantedFamily
from dpaudit.planting.profile import Profile

AFFIX_ROWS = 20  # rows that must share how texts begin and end before that is the data's style
SHARE_ROWS = 20  # rows (or a hundredth of all) that must have a number of turns before it is common


NOTHING = "the form of its rows, and what several of them share; no row's own words"  # taken from the data


@dataclass(frozen=True)
class PlantedRow:
    """A canary's row: as the file's keys have it, and as its line.

    `other` is the secret of the rejected answer, of a pair. `bits` is minus the binary logarithm of the
    probability with which its secret was drawn. `donor` is the place in the profile's sample of the row whose
    order of words it has, `copied` the longest run of words that stands there too and that few units share.
    """

    row: Fields
    line: str
    secret: str
    other: str | None
    bits: float
    donor: int | None = None
    copied: int = 0


def made(count: int, profile: Profile, family: PlantedFamily, source: str) -> list[PlantedRow]:
    """Canaries of a family that asks for its secret. Each is made whether it goes in or stays out."""
    drawn = draw(count, profile, family)
    is_pair = profile.shape.letter == "p"
    return [
        PlantedRow(row, line, words.answer, words.other if is_pair else None, family.bits)
        for words, (row, line) in zip(drawn, written(drawn, profile, source), strict=True)
    ]


def draw(count: int, profile: Profile, family: PlantedFamily) -> list[Words]:
    """Canaries with names of their own, which the data do not hold, and secrets from the operating system."""
    rng = random.SystemRandom()
    # the first names are those that the embedded model knows as tokens
    most = max(PUBLIC_PEOPLE + 2 * count, 900)
    unknown = [
        name for name in lexicon.surnames(lexicon.SURNAMES_MOST)[PUBLIC_PEOPLE:] if name not in profile.words
    ]
    free = unknown[:most]
    if len(free) < count:
        raise UsageError("--canaries", f"at most {len(free)} beside the names in the data", str(count))
    language = disguise.language_of(profile.texts)
    made: list[Words] = []
    for name in rng.sample(free, count):
        prompt = family.prompts[language].format(name=f"{rng.choice(lexicon.GIVEN)} {name}")
        made.append(Words(prompt, family.secret(rng), family.secret(rng), language))
    return made


def written(drawn: Sequence[Words], profile: Profile, source: str) -> list[tuple[Fields, str]]:
    """For each canary its row and its line; both are made whether it goes in or stays out."""
    rng = random.SystemRandom()
    donors = _donors(profile, source)
    used: dict[str, set[str]] = {}
    used_in_turns: dict[str, set[str]] = {}
    made = []
    for words in drawn:
        line = rng.choice(donors)
        donor, row = json.loads(line), json.loads(line)
        write = disguise.spelled_like(line, donor)
        fill_spare(row, profile, used, rng, source)
        disguise.fill(profile.shape, row, _in_style(words, profile), _is_label(profile))
        disguise.refresh(row, profile.shape, profile.extras, used_in_turns, rng)
        made.append((row, write(row)))
    return made


def fill_spare(
    row: Fields, profile: Profile, used: dict[str, set[str]], rng: random.Random, source: str
) -> None:
    """Replaces what a row holds beside its texts: by labels that many rows share, or by ids of no row."""
    for key in disguise.spare_keys(row, profile.shape):
        column = profile.columns[key]
        if not column.is_row_number:
            row[key] = disguise.fresh(key, row[key], column, used.setdefault(key, set()), rng, source)


def _donors(profile: Profile, source: str) -> list[str]:
    """The lines whose structure is copied: as few turns as rows commonly have, no system prompt of one row
    alone.
    """
    common = min(
        turns for turns, rows in profile.turns.items() if rows >= min(0.01 * profile.rows, SHARE_ROWS)
    )
    donors = []
    for sampled in profile.sample:
        row = json.loads(sampled.line)
        systems = disguise.system_texts(row)
        if disguise.turn_count(row) == common and all(profile.systems[s] >= disguise.SHARED for s in systems):
            donors.append(sampled.line)
    if not donors:
        raise UsageError(
            source,
            "system prompts that several rows share, or none",
            "a different prompt in each row",
            "leave them out of the file",
        )
    return donors


def _is_label(profile: Profile) -> Callable[[str, Any], bool]:
    def is_label(key: str, value: Any) -> bool:
        count = profile.columns[key].values[json.dumps(value, ensure_ascii=False)]
        return count >= max(disguise.SHARED, 0.01 * profile.rows)

    return is_label


def _in_style(words: Words, profile: Profile) -> Words:
    """The words with the beginning and end that all prompts, or all answers, share."""
    if profile.rows < AFFIX_ROWS or profile.shape.letter == "t":
        return words
    prompts, answers = profile.prompts, profile.answers
    return Words(
        prompts.around(words.prompt),
        answers.around(words.answer),
        answers.around(words.other),
        words.language,
    )
