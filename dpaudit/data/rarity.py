"""The rare words of a corpus, counted while it streams by: memory grows with the number of different words
alone.
"""

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from dpaudit.errors import UsageError

# Whole words in lower case, or single Chinese characters: names, ids and numbers are left out.
WORD = re.compile(r"(?<![\w'-])[a-z]{3,14}(?![\w'-])|[\u4e00-\u9fff]")
MOST = 512  # symbols of an alphabet
COMMON = 1000  # the most frequent words, of which pairs are made: only their successors are kept
LEAST = 16

Texts = Callable[[], Iterable[str]]  # called for each pass over the corpus


def rare_words(texts: Texts) -> tuple[str, ...]:
    """The MOST words that occur least, at least once; a hash orders equal counts. Raises UsageError below
    LEAST.
    """
    counts = _counts(texts)
    words = sorted(counts, key=lambda word: (counts[word], _lot(word)))[:MOST]
    return _enough("rare_unigram", words, "different words in lower case")


def rare_pairs(texts: Texts) -> tuple[str, ...]:
    """MOST pairs of frequent words where the second never follows the first, even with non-words between
    them.

    A hash selects them, so no word occurs more often than by chance. Raises UsageError below LEAST.
    """
    counts = _counts(texts)
    common = sorted(counts, key=lambda word: (-counts[word], _lot(word)))[:COMMON]
    kept = set(common)
    seen = {
        pair for text in texts() for pair in pairwise(WORD.findall(text.lower())) if kept.issuperset(pair)
    }
    pairs = (f"{a} {b}" for a in common for b in common if a != b and (a, b) not in seen)
    return _enough(
        "rare_bigram", heapq.nsmallest(MOST, pairs, key=_lot), "pairs of words that never follow each other"
    )


def _counts(texts: Texts) -> Counter[str]:
    return Counter(_words(texts()))


def _words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from WORD.findall(text)


def _lot(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _enough(family: str, symbols: list[str], what: str) -> tuple[str, ...]:
    if len(symbols) < LEAST:
        raise UsageError(
            f"candidates.family {family}",
            f"at least {LEAST} {what} in the data",
            str(len(symbols)),
            "take family invented, which needs no data",
        )
    return tuple(symbols)
