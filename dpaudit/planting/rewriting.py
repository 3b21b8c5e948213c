"""A row's texts said with other words: what too few units use is replaced, a share of the rest too, and a
word wherever more than COPIED of them would follow each other as in the row.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from dpaudit.data import lexicon
from dpaudit.data.common_words import COMMON_WORDS, FUNCTION_WORDS
from dpaudit.planting.invented import Invented
from dpaudit.planting.vocabulary import COPIED, GIVEN, NAMES, UNSPACED, Vocabulary, Word, kinds

FEWEST = 8  # words to draw from, before a kind is drawn from on its own
TITLES = frozenset(("mr", "mrs", "ms", "miss", "dr", "prof"))
INVENTED_NAMES = frozenset(lexicon.surnames(lexicon.SURNAMES_MOST))


@dataclass
class Source:
    """What words are drawn from, for all rows of a file."""

    vocabulary: Vocabulary
    invented: Invented
    rng: random.Random


@dataclass
class Rewriting:
    """What stands for each word of one row; the same word gets the same one everywhere in the row, unless too
    much of the row would be copied there.

    `bits` has, for each word that was drawn, minus the binary logarithm of its probability. `longest` is the
    longest run of words that follow each other in the row too and that few units share.
    """

    source: Source
    own: frozenset[str]  # the words of the row, which are not drawn
    stands: dict[str, str] = field(default_factory=dict)
    bits: dict[str, float] = field(default_factory=dict)
    share: float = 0.0
    longest: int = 0

    def text(self, text: str, share: float) -> str:
        """The text with other words, the same in all else. `share` of the content words that may stay are
        exchanged too.
        """
        self.share = share
        words = list(self.source.vocabulary.words_of(text))
        said: list[str] = []
        copied = 0  # words up to here that follow each other in the row too
        for number, word in enumerate(words):
            if word.text not in self.stands:
                self.stands[word.text] = self._stand_in(words, number)
            said.append(self.stands[word.text])
            copied = self._copied(words, said, copied)
            self.longest = max(self.longest, copied)
        pieces, at = [], 0
        for word, other in zip(words, said, strict=True):
            pieces += [text[at : word.start], other]
            at = word.stop
        return "".join((*pieces, text[at:]))

    def _copied(self, words: Sequence[Word], said: list[str], before: int) -> int:
        """How many words up to the last of `said` are copied, `before` of them without it. Where that is more
        than COPIED, one of them is exchanged, the last that can be.
        """
        last = len(said) - 1
        if said[last] != words[last].text:
            return 0
        phrase = tuple(word.text for word in words[max(0, last - COPIED) : last + 1])
        if phrase in self.source.vocabulary.phrases:
            return min(before + 1, COPIED)
        if before < COPIED:
            return before + 1
        there = range(last, last - COPIED - 1, -1)
        vocabulary = self.source.vocabulary
        rare_first = sorted(there, key=lambda at: not vocabulary.is_content(words[at].text))
        for at in filter(lambda at: vocabulary.may_go(words[at].text), rare_first):
            if drawn := self._drawn(words[at].text):
                said[at] = self.stands[words[at].text] = drawn
                return last - at
        return before + 1

    def _stand_in(self, words: Sequence[Word], number: int) -> str:
        word, vocabulary, rng = words[number].text, self.source.vocabulary, self.source.rng
        if is_name(words, number):
            return self._name(words, number)
        if vocabulary.is_allowed(word):
            is_kept = not vocabulary.is_content(word) or rng.random() >= self.share
            return word if is_kept else self._drawn(word) or word
        if word.isdigit():
            return self._drawn(word) or self._number(word)
        if UNSPACED.match(word):
            return self._characters(len(word))
        if len(word) < 3:
            made = "".join(rng.choice("abcdefghijklmnoprstuvwxyz") for _ in word)
            return self._noted(made.upper() if word.isupper() else made, math.log2(25) * len(word))
        return self._noted(*self.source.invented.draw(word, rng))

    def _drawn(self, like: str) -> str | None:
        """A content word of the kind of `like`, by how many units use it; None where there are too few."""
        for kind in kinds(like):
            there = self.source.vocabulary.by_kind.get(kind)
            if there is not None and there.count(self.own) >= FEWEST:
                return self._noted(*there.draw(self.source.rng, self.own))
        return None

    def _number(self, word: str) -> str:
        """Digits in place of a number; long ones are no number of the data."""
        made = _digits(word, self.source.rng)
        for _ in range(100):  # of short numbers all may be there
            if made not in self.source.vocabulary.seen:
                break
            made = _digits(word, self.source.rng)
        return self._noted(made, math.log2(10) * len(word))

    def _name(self, words: Sequence[Word], number: int) -> str:
        word = words[number].text
        following = words[number + 1].text if number + 1 < len(words) else ""
        names: Sequence[str] = lexicon.COMMON_SURNAMES
        if word in INVENTED_NAMES:
            names = lexicon.surnames(lexicon.SURNAMES_MOST)
        elif word in GIVEN or following in NAMES:
            names = GIVEN
        while (name := self.source.rng.choice(names)) in self.own:
            pass
        return self._noted(name, math.log2(len(names) - len(self.own.intersection(names))))

    def _characters(self, count: int) -> str:
        """Characters that many units use, each by how many do."""
        there = self.source.vocabulary.characters
        drawn = [there.draw(self.source.rng) for _ in range(count)]
        return self._noted("".join(character for character, _ in drawn), sum(bits for _, bits in drawn))

    def _noted(self, drawn: str, bits: float) -> str:
        self.bits[drawn] = bits
        return drawn


def is_name(words: Sequence[Word], number: int) -> bool:
    """Whether a word stands where a person's name stands: a name that is no other word, a word after a title
    or a given name, or a given name before another word with a capital.
    """
    word = words[number].text
    if not _has_capital(word):
        return False
    before = words[number - 1].text if number else ""
    after = words[number + 1].text if number + 1 < len(words) else " "
    return (
        (word in NAMES and word.lower() not in COMMON_WORDS)
        or before.lower() in TITLES
        or before in GIVEN
        or (word in GIVEN and _has_capital(after))
    )


def _has_capital(word: str) -> bool:
    return word[0].isupper() and not word.isupper() and word.lower() not in FUNCTION_WORDS


def _digits(word: str, rng: random.Random) -> str:
    first = "123456789" if word[0] != "0" else "0"
    return rng.choice(first) + "".join(rng.choice("0123456789") for _ in word[1:])
