"""The words that planted rows may take from the data: those that LEAST units use, or that are public.

A word is a run of letters, a run of digits, or, in scripts without blanks, two characters that LEAST units
use together. Characters between such pairs are a word that is not known.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby

from dpaudit.data import lexicon
from dpaudit.data.common_words import COMMON_WORDS, FUNCTION_WORDS

GRAM = 4
LEAST = 20  # units that must use a word before it may stand in a planted row
COPIED = (
    12  # words of one row that may follow each other in a planted row; LEAST units may share longer texts
)
COMMON_SHARE = 0.2  # of the units; a word of more of them is grammar or template and stays
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
RUN = re.compile(rf"[{_UNSPACED}]+|[^\W\d_{_UNSPACED}]+|\d+")
UNSPACED = re.compile(rf"[{_UNSPACED}]")
PUBLIC_WEIGHT = 3  # as many units as a public word counts for that fewer than LEAST use
ENDINGS = (
    "ation", "osis", "itis", "tion", "ment", "ness", "ing", "ies", "ive", "ous", "ity", "ial", "ed", "ly",
    "es", "al", "ic", "er", "ia", "s",
)  # fmt: skip
GIVEN = (*lexicon.COMMON_GIVEN, *lexicon.GIVEN)
NAMES = frozenset((*GIVEN, *lexicon.COMMON_SURNAMES, *lexicon.surnames(lexicon.SURNAMES_MOST)))


@dataclass(frozen=True)
class Word:
    """One word of a text, at text[start:stop]."""

    text: str
    start: int
    stop: int


class Weighted:
    """Words to draw from, each as probable as its weight."""

    def __init__(self, weights: dict[str, int]) -> None:
        self.weights, self.words = weights, list(weights)
        self.cumulative = list(accumulate(weights.values()))

    def count(self, without: frozenset[str]) -> int:
        """How many there are beside `without`."""
        return len(self.words) - sum(word in self.weights for word in without)

    def draw(self, rng: random.Random, without: frozenset[str] = frozenset()) -> tuple[str, float]:
        """A word that is none of `without`, and minus the binary logarithm of its probability."""
        total = self.cumulative[-1] - sum(self.weights.get(word, 0) for word in without)
        while (word := rng.choices(self.words, cum_weights=self.cumulative)[0]) in without:
            pass
        return word, math.log2(total / self.weights[word])


@dataclass(frozen=True)
class Vocabulary:
    """`words` has the number of units of each word that LEAST or more use; `seen` is every word, in lower
    case. `phrases` are COPIED + 1 words one after another that LEAST units use.

    `grams` are pieces of words, in lower case, that LEAST units use: GRAM letters, with `^` before a word and
    `$` after it.
    """

    units: int
    words: dict[str, int]
    grams: frozenset[str]
    seen: frozenset[str]
    phrases: frozenset[tuple[str, ...]] = frozenset()

    def is_allowed(self, word: str) -> bool:
        """Whether the word may stand in a planted row, names aside."""
        return word in self.words or len(word) == 1 or word.lower() in COMMON_WORDS or is_public(word)

    def is_content(self, word: str) -> bool:
        """Whether a word that is allowed may be exchanged: no grammar, no template."""
        is_rare = self.words.get(word, 0) < COMMON_SHARE * self.units
        return len(word) > 1 and is_rare and word.lower() not in FUNCTION_WORDS

    def may_go(self, word: str) -> bool:
        """Whether the word may be exchanged where too much would be copied: no grammar."""
        return len(word) > 1 and word.lower() not in FUNCTION_WORDS

    @cached_property
    def by_kind(self) -> dict[tuple[str, ...], Weighted]:
        """The content words by each of their kinds, weighted by their units."""
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for word, units in self.words.items():
            if self.is_content(word) and word not in NAMES:
                for kind in kinds(word):
                    found.setdefault(kind, {})[word] = units
        for word in sorted(COMMON_WORDS - FUNCTION_WORDS):
            for spelled in (word, word.capitalize()):
                if spelled not in self.words:
                    for kind in kinds(spelled):
                        found.setdefault(kind, {})[spelled] = PUBLIC_WEIGHT if spelled == word else 1
        return {kind: Weighted(words) for kind, words in found.items()}

    @cached_property
    def characters(self) -> Weighted:
        """The characters of scripts without blanks."""
        return Weighted({c: n for c, n in self.words.items() if len(c) == 1 and UNSPACED.match(c)})

    def words_of(self, text: str) -> Iterator[Word]:
        """The words of a text, in order."""
        return _words_of(text, self.words)


def _words_of(text: str, known: dict[str, int]) -> Iterator[Word]:
    for run in RUN.finditer(text):
        if UNSPACED.match(run[0]):
            yield from _segments(run[0], run.start(), known)
        else:
            yield Word(run[0], run.start(), run.end())


def vocabulary_of(units: Collection[Sequence[str]]) -> Vocabulary:
    """The vocabulary of units, each with the texts of its rows."""
    words, grams, count = Counter[str](), Counter[str](), 0
    for texts in units:
        count += 1
        own = {word for text in texts for run in RUN.findall(text) for word in _counted(run)}
        words.update(own)
        grams.update({gram for word in own if is_spelled(word) for gram in grams_of(word.lower())})
    often = {word: n for word, n in words.items() if n >= LEAST}
    phrases = Counter(phrase for texts in units for phrase in _phrases(texts, often))
    return Vocabulary(
        count,
        often,
        frozenset(gram for gram, n in grams.items() if n >= LEAST),
        frozenset(word.lower() for word in words),
        frozenset(phrase for phrase, n in phrases.items() if n >= LEAST),
    )


def _phrases(texts: Sequence[str], often: dict[str, int]) -> set[tuple[str, ...]]:
    """COPIED + 1 words one after another, all of them used often."""
    found = set()
    for text in texts:
        words = [word.text for word in _words_of(text, often)]
        for at in range(len(words) - COPIED):
            phrase = tuple(words[at : at + COPIED + 1])
            if all(word in often for word in phrase):
                found.add(phrase)
    return found


def is_spelled(word: str) -> bool:
    """Whether a word is written in letters, of a script that sets blanks between words."""
    return word.isalpha() and not UNSPACED.match(word)


def grams_of(word: str) -> list[str]:
    """The pieces of a word of GRAM characters, its marked beginning and end among them."""
    marked = f"{'^' * (GRAM - 1)}{word}$"
    return [marked[at : at + GRAM] for at in range(len(marked) - GRAM + 1)]


def kinds(word: str) -> tuple[tuple[str, ...], ...]:
    """What a word has in common with those that may stand for it, the closest kind first."""
    if word.isdigit():
        return (("digits", str(len(word))),)
    if UNSPACED.match(word):
        return (("unspaced", str(len(word))),)
    ending = ending_of(word)
    return ((case_of(word), ending, str(min(len(word), 12) // 4)), (case_of(word), ending), (case_of(word),))


def ending_of(word: str) -> str:
    return next((e for e in ENDINGS if word.lower().endswith(e) and len(word) > len(e) + 2), "")


def case_of(word: str) -> str:
    if len(word) > 1 and word.isupper():
        return "upper"
    return "title" if word[0].isupper() else "lower"


def is_public(character: str) -> bool:
    """Whether it is one of the 3,755 everyday Chinese characters, the first level of GB 2312."""
    try:
        code = character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return len(code) == 2 and 0xB0 <= code[0] <= 0xD7


def _counted(run: str) -> Iterator[str]:
    """What of a run is counted: itself, or its characters and the pairs of them."""
    if not UNSPACED.match(run):
        yield run
        return
    yield from run
    yield from (run[at : at + 2] for at in range(len(run) - 1))


def _segments(run: str, start: int, words: dict[str, int]) -> Iterator[Word]:
    """Pairs that are known, from the left; what lies between them as one word each."""
    places, at = [], 0
    while at < len(run):
        is_known = run[at : at + 2] in words and at + 1 < len(run)
        places.append((at, at + 1 + is_known, is_known))
        at = places[-1][1]
    for is_known, group in groupby(places, key=lambda place: place[2]):
        parts = list(group)
        for first, last in [(p[0], p[1]) for p in parts] if is_known else [(parts[0][0], parts[-1][1])]:
            yield Word(run[first:last], start + first, start + last)
