"""In which script a text is written, told by its characters, and in which language where its script or its
commonest words show that. Latin without English words may be any of many languages.
"""

import re

from dpaudit.data.common_words import FUNCTION_WORDS

# one Han or kana character counts as a word of the others
WORDS = {
    "Latin": r"[A-Za-z\u00c0-\u024f]+",
    "Han": r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]",
    "kana": r"[\u3041-\u30ff]",
    "Hangul": r"[\uac00-\ud7af]+",
    "Cyrillic": r"[\u0400-\u04ff]+",
    "Greek": r"[\u0370-\u03ff]+",
    "Arabic": r"[\u0600-\u06ff]+",
    "Hebrew": r"[\u0590-\u05ff]+",
    "Devanagari": r"[\u0900-\u097f]+",
    "Thai": r"[\u0e00-\u0e7f]+",
}
OTHER = "other"
ENGLISH = 0.25  # of the words, from which on a text is English; other languages share few of its words
JAPANESE = 0.1  # kana beside Han, from which on a text is not Chinese
ALONE = {"kana": "Japanese", "Hangul": "Korean", "Greek": "Greek", "Hebrew": "Hebrew", "Thai": "Thai"}
_WORD = re.compile("|".join(f"(?P<{name}>{words})" for name, words in WORDS.items()))


def script_of(text: str) -> str:
    """The script with most words in `text`; the first of WORDS where several have as many, `other` without
    any.
    """
    counts = _counts(text)
    most = max(counts, key=lambda name: counts[name])
    return most if counts[most] else OTHER


def language_of(text: str) -> str | None:
    """The language of `text` in English, or None where its script and commonest words do not show it."""
    script = script_of(text)
    if script == "Han":
        counts = _counts(text)
        return "Chinese" if counts["kana"] < JAPANESE * counts["Han"] else "Japanese"
    if script == "Latin":
        words = re.findall(WORDS["Latin"], text.lower())
        return "English" if sum(map(FUNCTION_WORDS.__contains__, words)) >= ENGLISH * len(words) else None
    return ALONE.get(script)


def _counts(text: str) -> dict[str, int]:
    """Words of each script."""
    counts = dict.fromkeys(WORDS, 0)
    for word in _WORD.finditer(text):
        counts[word.lastgroup or OTHER] += 1
    return counts
