"""Near-duplicates across the coin: non-members of which training held nearly the same text, and members like a non-member.

A non-member that was learnt all the same makes an attack look weaker than it is. Similarity is that of Jaccard over
shingles, exact: every pair that shares one is looked at.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

THRESHOLD = 0.8
WORDS, CHARACTERS = 3, 8  # of a shingle; characters where a text has hardly a blank
_WORD = re.compile(r"\w+")


def shingles(text: str) -> frozenset[int]:
    """Hashes of every run of three words, lower case; of eight characters where words are not set apart.

    A text that is shorter is one shingle.
    """
    words = _WORD.findall(text.lower())
    spaced = sum(map(len, words)) <= 16 * len(words)
    parts: list[Any] = list(words) if spaced else list("".join(words))
    width = WORDS if spaced else CHARACTERS
    runs = [tuple(parts[i : i + width]) for i in range(max(1, len(parts) - width + 1))]
    return frozenset(map(hash, runs)) if parts else frozenset()


def similar(
    mine: Mapping[str, frozenset[int]], others: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Pairs (one of `mine`, one of `others`) at least THRESHOLD similar; `others` are read once, one at a time."""
    index: dict[int, list[str]] = defaultdict(list)
    for name, found in mine.items():
        for shingle in found:
            index[shingle].append(name)
    for other, text in others:
        theirs = shingles(text)
        shared = Counter(name for shingle in theirs for name in index.get(shingle, ()))
        for name, count in shared.items():
            if name != other and count >= THRESHOLD * (len(mine[name]) + len(theirs) - count):
                yield name, other


def across(
    texts: Mapping[str, str], members: Mapping[str, bool], trained: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """Counts of near-duplicates, and the non-members concerned by name.

    `texts` are the units that a coin decided; `trained` are all that training held, candidates among them.
    """
    known = {name: shingles(text) for name, text in texts.items()}
    outside = {name: found for name, found in known.items() if found and not members[name]}
    pairs = list(similar(outside, trained))
    learnt = {name for name, _ in pairs}
    return {
        "members": sum(members[name] for name in texts),
        "nonmembers": sum(not members[name] for name in texts),
        "nonmembers_in_training": len(learnt),
        "members_among_nonmembers": len({other for _, other in pairs if other in texts}),
        "pairs_across": sum(other in texts for _, other in pairs),
        "left_out": sorted(learnt),
    }
