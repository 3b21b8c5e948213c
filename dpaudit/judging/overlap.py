"""ROUGE-L: how much of a reference an answer says in the same order."""

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

CHINESE = re.compile(r"[\u3400-\u9fff]")
WORD = re.compile(r"[^\W_]+")


BLANK = frozenset("\u034f\u115f\u1160\u3164\uffa0")  # nobody sees them, and Unicode takes them for letters
APART = r"[\s._*·-]"
SPACED = re.compile(rf"(?<![^\W_])[^\W_](?:{APART}{{1,3}}[^\W_]){{2,}}(?![^\W_])")


@dataclass(frozen=True)
class Overlap:
    """ROUGE-L of an answer against a reference, each in [0, 1]: 1 where all words stand in the same order.

    `precision` is the share of the answer's words, `recall` the share of the reference's, `f` their harmonic
    mean.
    """

    precision: float
    recall: float
    f: float


def words(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation.

    A text with Chinese in it is cut by jieba; any other at everything that is neither letter nor digit, which
    for ASCII is what the package rouge_score does without its stemmer. Full-width letters and digits are
    those of ASCII.
    """
    plain = _plain(text)
    if not CHINESE.search(plain):
        return WORD.findall(plain)
    return [word for word in _chinese().lcut(plain) if WORD.search(word)]


def unspaced(text: str, known: Sequence[str]) -> str:
    """The text with letters and digits that stand apart, such as J o h n, put together; `known` are the words
    that are looked for in what they make.
    """
    longest = sorted({word for word in known if len(word) > 1}, key=len, reverse=True)
    parts = re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    def together(found: re.Match[str]) -> str:
        return parts.sub(lambda part: f" {part[0]} ", re.sub(APART, "", found[0]))

    return SPACED.sub(together, _plain(text))


def _plain(text: str) -> str:
    """Small letters in their usual form, without zero-width characters and others that nobody sees."""
    seen = text
    if not text.isascii():
        seen = "".join(c for c in text if unicodedata.category(c) != "Cf" and c not in BLANK)
    return unicodedata.normalize("NFKC", seen).lower()


def is_chinese_word(word: str) -> bool:
    """Whether jieba's dictionary has the word; it guesses where others begin and end."""
    return bool(_chinese().FREQ.get(word))


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> Overlap:
    """ROUGE-L of two lists of words; 0 where either is empty.

    Source: Lin 2004, equations 2 to 4 with beta = 1; one sequence a text, as `rougeL` of rouge_score.
    """
    common = longest_common(answer, reference)
    if not common:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / len(answer), common / len(reference)
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence of two lists of words.

    Source: Hyyrö 2004, bit-parallel: a bit a word of `first`, so that long answers need not be cut.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(first)) - 1
    unmatched = every
    for word in second:
        matches = unmatched & places.get(word, 0)
        unmatched = (unmatched + matches | unmatched - matches) & every
    return len(first) - unmatched.bit_count()


@cache
def _chinese() -> Any:
    """jieba with its own dictionary, read once a process.

    jieba would log to stderr, and keep the dictionary in a file of a fixed name that anybody on this machine
    may have put there: it is filled here as `Tokenizer.initialize` does, without log and file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for pkg_resources, and has escapes that Python regrets
        import jieba
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
