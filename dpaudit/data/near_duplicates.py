"""Near-duplicates across the coin: texts of one side that are all but equal to texts of the other.

What is left out of training and has a near-duplicate in it looks like a member to any attack, and the other
way round. Two texts are near-duplicates where the Jaccard similarity of their shingles is at least THRESHOLD.
It is exact: candidates come from an index of each text's rarest shingles, which two near-duplicates always
share (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007), and the similarity of each is computed.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WIDTH = 3  # words in a shingle; letters where a script sets no blanks
THRESHOLD = 0.8
# Thai to Khmer, kana, Chinese: each letter is a word of its own
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORDS = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")
_ROUNDING = 1e-9  # 0.8 is no binary fraction


@dataclass(frozen=True)
class UnitTexts:
    """One unit with the texts of its records; `member` is None where no coin decided that it is trained
    on.
    """

    name: str
    texts: tuple[str, ...]
    member: bool | None


@dataclass(frozen=True)
class Found:
    """Units with a coin, of each side, that have a near-duplicate on the other. Those without a coin are
    trained on.

    `pairs_across` counts pairs of a member and a non-member. `alike` are the units with a coin that have a
    near-duplicate in any other unit, whichever way the coins fell: what is left without them is still split
    by fair coins.
    """

    members: frozenset[str]  # near a non-member
    nonmembers: frozenset[str]  # near a member, or a unit without a coin
    pairs_across: int
    alike: frozenset[str]


@dataclass(frozen=True, eq=False)
class Index:
    """The different texts of the units with a coin: their shingles as ranks, the rarest first."""

    ranks: Mapping[str, int]  # shingle -> rank
    texts: Sequence[frozenset[int]]
    owners: Sequence[frozenset[str]]  # of each text
    rarest: Mapping[int, Sequence[int]]  # rank -> texts that have it among their rarest

    def near(self, text: str) -> list[int]:
        """The numbers of the indexed texts that are near-duplicates of `text`."""
        text_shingles = shingles(text)
        known = sorted(self.ranks[s] for s in text_shingles if s in self.ranks)
        unknown = len(text_shingles) - len(known)
        probed = known[: max(0, _prefix(len(text_shingles)) - unknown)]  # unknown shingles are rarer than any
        ranks, numbers = set(known), {number for rank in probed for number in self.rarest.get(rank, ())}
        return [
            n for n in numbers if _similar(len(text_shingles), len(self.texts[n]), len(ranks & self.texts[n]))
        ]


def shingles(text: str) -> frozenset[str]:
    """WIDTH words in a row, each once; a shorter text is one shingle, an empty one none. Case and punctuation
    are dropped.
    """
    words = words_of(text)
    if len(words) < WIDTH:
        return frozenset([" ".join(words)] if words else [])
    return frozenset(" ".join(words[at : at + WIDTH]) for at in range(len(words) - WIDTH + 1))


def words_of(text: str) -> list[str]:
    """The words of a text, in order, without case and punctuation; letters where a script sets no blanks."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity of two texts' shingles, in [0, 1]; 0 where both have none."""
    a, b = shingles(first), shingles(second)
    return len(a & b) / len(a | b) if a | b else 0.0


def index_of(units: Iterable[UnitTexts]) -> Index:
    """The index of all texts of the units; equal texts stand in it once."""
    owners: dict[frozenset[str], set[str]] = {}
    for unit in units:
        for text in unit.texts:
            if shingled := shingles(text):
                owners.setdefault(shingled, set()).add(unit.name)
    counted = Counter(shingle for shingled in owners for shingle in shingled)
    ranks = {s: rank for rank, s in enumerate(sorted(counted, key=lambda s: (counted[s], s)))}
    texts = [frozenset(ranks[s] for s in shingled) for shingled in owners]
    rarest: dict[int, list[int]] = {}
    for number, ranked in enumerate(texts):
        for rank in sorted(ranked)[: _prefix(len(ranked))]:
            rarest.setdefault(rank, []).append(number)
    return Index(ranks, texts, [frozenset(names) for names in owners.values()], rarest)


def across(drawn: Sequence[UnitTexts], corpus: Iterable[UnitTexts]) -> Found:
    """The near-duplicates across the coin: `drawn` are the units with a coin, `corpus` is all units, read
    once and one at a time.
    """
    index = index_of(drawn)
    outside = {unit.name for unit in drawn if not unit.member}
    members, nonmembers, alike, pairs = set[str](), set[str](), set[str](), 0
    for unit in corpus:
        near = {name for text in unit.texts for number in index.near(text) for name in index.owners[number]}
        met = near - {unit.name}
        alike |= met
        if unit.member is False:
            continue
        nonmembers |= met & outside
        if unit.member and met & outside:
            members.add(unit.name)
            pairs += len(met & outside)
    return Found(frozenset(members), frozenset(nonmembers), pairs, frozenset(alike))


def equal_across(secrets: Mapping[str, str], members: Mapping[str, bool]) -> Found:
    """Canaries whose secret another one has. They share a template, so that nothing but equal secrets
    counts.
    """
    holders: dict[str, list[str]] = {}
    for name, secret in secrets.items():
        holders.setdefault(secret, []).append(name)
    shared = [names for names in holders.values() if len(names) > 1]
    split = [([n for n in names if members[n]], [n for n in names if not members[n]]) for names in shared]
    both = [(inside, outside) for inside, outside in split if inside and outside]
    return Found(
        frozenset(name for inside, _ in both for name in inside),
        frozenset(name for _, outside in both for name in outside),
        sum(len(inside) * len(outside) for inside, outside in both),
        frozenset(name for names in shared for name in names),
    )


def _prefix(size: int) -> int:
    """How many of a set's rarest elements are enough to hold one that it shares with any similar set."""
    return size - math.ceil(THRESHOLD * size - _ROUNDING) + 1 if size else 0


def _similar(first_size: int, second_size: int, shared: int) -> bool:
    """Whether sets of these sizes have a Jaccard similarity of THRESHOLD or more."""
    return shared >= THRESHOLD * (first_size + second_size - shared) - _ROUNDING
