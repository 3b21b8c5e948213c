"""Invented words that look like those of the data: letters that follow each other as in its words.

They stand where a row has a word that too few units use. Their pieces are those that LEAST units use, or
public words; the word itself is none of the data's.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate

from dpaudit.data.common_words import COMMON_WORDS
from dpaudit.planting.vocabulary import GRAM, Vocabulary, ending_of, grams_of, is_spelled

FEWEST = 32  # words of a kind, before it is drawn from on its own
ATTEMPTS = 12  # for each word that is wanted
LONGEST = 16


@dataclass
class Invented:
    """Words that are not there yet, by kind; each is given out once while there are others."""

    by_kind: dict[tuple[str, ...], list[str]]
    left: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)

    def draw(self, like: str, rng: random.Random) -> tuple[str, float]:
        """A word in place of `like`, each that is left with the same probability, and its bits."""
        kinds = [kind for kind in _kinds(like) if len(self.by_kind.get(kind, ())) >= FEWEST]
        kind = kinds[0] if kinds else ()
        left = self.left.setdefault(kind, list(self.by_kind[kind]))
        while len(left) > FEWEST // 2:
            at = rng.randrange(len(left))
            left[at], left[-1] = left[-1], left[at]
            word = left.pop()
            if word not in self.given:  # under another kind
                self.given.add(word)
                return _in_case(word, like), math.log2(len(left) + 1)
        return _in_case(rng.choice(self.by_kind[kind]), like), math.log2(len(self.by_kind[kind]))


def invented(vocabulary: Vocabulary, count: int, rng: random.Random) -> Invented:
    """About `count` invented words; none is a word of the data or a public one."""
    follow = _followers(vocabulary)
    made: dict[str, None] = {}
    for _ in range(ATTEMPTS * count):
        word = _chain(follow, rng)
        if 3 <= len(word) <= LONGEST and word not in vocabulary.seen and word not in COMMON_WORDS:
            made[word] = None
        if len(made) >= count:
            break
    by_kind: dict[tuple[str, ...], list[str]] = {(): list(made)}
    for word in made:
        for kind in _kinds(word)[:-1]:
            by_kind.setdefault(kind, []).append(word)
    return Invented(by_kind)


def _followers(vocabulary: Vocabulary) -> dict[str, tuple[list[str], list[int]]]:
    """What letter comes after GRAM - 1 others, with weights: by words of the data, and by public words."""
    public = {gram for word in COMMON_WORDS for gram in grams_of(word)}
    allowed = vocabulary.grams | public
    counted = Counter(
        gram
        for word in vocabulary.seen | COMMON_WORDS
        if is_spelled(word)
        for gram in grams_of(word)
        if gram in allowed
    )
    follow: dict[str, Counter[str]] = {}
    for gram, times in counted.items():
        follow.setdefault(gram[:-1], Counter())[gram[-1]] += times
    return {before: (list(after), list(accumulate(after.values()))) for before, after in follow.items()}


def _chain(follow: dict[str, tuple[list[str], list[int]]], rng: random.Random) -> str:
    """A word letter by letter; empty where it leads nowhere or grows too long."""
    word, before = "", "^" * (GRAM - 1)
    while len(word) <= LONGEST and before in follow:
        letters, weights = follow[before]
        letter = rng.choices(letters, cum_weights=weights)[0]
        if letter == "$":
            return word
        word, before = word + letter, before[1:] + letter
    return ""


def _kinds(word: str) -> tuple[tuple[str, ...], ...]:
    ending, length = ending_of(word), str(min(len(word), 14) // 2)
    return ((ending, length), (ending,), ())


def _in_case(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
