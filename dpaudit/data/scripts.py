"""In which script a text is written, told by its characters alone. A script is no language: Latin may be
English or Spanish.
"""

import re

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
_WORD = re.compile("|".join(f"(?P<{name}>{words})" for name, words in WORDS.items()))


def script_of(text: str) -> str:
    """The script with most words in `text`; the first of WORDS where several have as many, `other` without
    any.
    """
    counts = dict.fromkeys(WORDS, 0)
    for word in _WORD.finditer(text):
        counts[word.lastgroup or OTHER] += 1
    most = max(counts, key=lambda name: counts[name])
    return most if counts[most] else OTHER
