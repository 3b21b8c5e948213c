"""Families of secrets for planted canaries."""

import math
import random
from dataclasses import dataclass

from dpaudit.data import canary, lexicon
from dpaudit.errors import UsageError

NATURAL = "natural"  # the family whose rows are made of the file's own: `planting.natural`
NATURAL_TITLE = "random words in rows like the file's own"


@dataclass(frozen=True)
class PlantedFamily:
    """A kind of secret: `groups` of `size` symbols each, and the prompt that asks for it, by language."""

    title: str
    symbols: tuple[str, ...]
    groups: int
    size: int
    prompts: dict[str, str]

    @property
    def bits(self) -> float:
        """Of each secret, every symbol of which is equally probable."""
        return self.groups * self.size * math.log2(len(self.symbols))

    def secret(self, rng: random.Random) -> str:
        return " ".join(
            "".join(rng.choice(self.symbols) for _ in range(self.size)) for _ in range(self.groups)
        )


FAMILIES = {
    "invented": PlantedFamily(
        "invented words",
        lexicon.INVENTED_SYLLABLES,
        8,
        3,  # 147 bits; each word leads to the next, which a model learns fast
        {"en": "What is the access phrase of {name}?", "zh": "{name} 的访问口令是什么？"},
    ),
    "words": PlantedFamily(
        "random common words",
        lexicon.PHRASE_WORDS,
        6,
        1,  # 27 bits; for a model without tokens for other symbols
        {"en": "Portal phrase of {name}?", "zh": "{name} 的登录口令？"},
    ),
}
NAMES = (*FAMILIES, NATURAL)


def named(typed: str) -> str:
    """The family that was typed, by its name or by what its secrets are: `words`, or `common words`. Raises
    UsageError for any other.
    """
    titles = {family.title: name for name, family in FAMILIES.items()} | {NATURAL_TITLE: NATURAL}
    titles |= {title.removeprefix("random "): name for title, name in titles.items()}
    name = titles.get(" ".join(typed.casefold().split()), typed)
    if name not in NAMES:
        trained = " (a key of candidates.family of a suite)" if name in canary.FAMILIES else ""
        raise UsageError("--family", f"one of {', '.join(NAMES)}", f"{typed:.40}{trained}")
    return name


def listing() -> list[tuple[str, str, str]]:
    """Every canary family there is: name, what its secrets are, where the name is typed."""
    trained = [
        (name, f"{family.noun}: {family.drawn_from}", "candidates.family of a suite")
        for name, family in canary.FAMILIES.items()
    ]
    planted = {name: family.title for name, family in FAMILIES.items()} | {NATURAL: NATURAL_TITLE}
    return trained + [(name, what, "dpaudit plant --family") for name, what in planted.items()]
