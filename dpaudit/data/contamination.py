"""Benchmark items that stand in the training text: what a model answers there it may have read.

An item counts where 70 % or more of the runs of WIDTH words of one of its texts stand in the training text
(Chowdhery et al. 2022, arXiv 2204.02311, section 8). A text of fewer words is one run; one of fewer than
SHORTEST tells nothing.
"""

from collections.abc import Iterable, Mapping, Sequence

from dpaudit.data.near_duplicates import words_of

WIDTH, SHORTEST = 8, 5  # words; letters where a script sets no blanks
SHARE = 0.7

Runs = frozenset[str]


def contaminated(items: Mapping[str, Sequence[str]], training: Iterable[str]) -> list[str]:
    """The names of the items that stand in the training texts, which are read once and one at a time."""
    runs = {name: [_runs(text) for text in texts] for name, texts in items.items()}
    wanted = {run for texts in runs.values() for found in texts for run in found}
    widths = sorted({run.count(" ") + 1 for run in wanted})
    seen: set[str] = set()
    for text in training:
        words = words_of(text)
        for width in widths:
            seen.update(run for run in _of_width(words, width) if run in wanted)
    return [name for name, texts in runs.items() if any(_is_seen(found, seen) for found in texts)]


def repeating(texts: Mapping[str, str], known: Mapping[str, str], training: Iterable[str]) -> frozenset[str]:
    """The names of the texts of which a run of WIDTH words, or a shorter text as a whole, stands in the
    training texts and not in what is `known` under the same name. Training texts are read once.
    """
    runs = {}
    for name, text in texts.items():
        words, told = words_of(text), words_of(known[name])
        width = min(WIDTH, len(words))
        runs[name] = (
            frozenset(_of_width(words, width)) - frozenset(_of_width(told, width)) if words else set()
        )
    wanted = {run for found in runs.values() for run in found}
    widths = sorted({run.count(" ") + 1 for run in wanted})
    seen: set[str] = set()
    for text in training:
        words = words_of(text)
        seen.update(run for width in widths for run in _of_width(words, width) if run in wanted)
    return frozenset(name for name, found in runs.items() if found & seen)


def can_be_found(texts: Sequence[str]) -> bool:
    """Whether one of an item's texts is long enough to be looked for."""
    return any(len(words_of(text)) >= SHORTEST for text in texts)


def _is_seen(runs: Runs, seen: set[str]) -> bool:
    return bool(runs) and len(runs & seen) >= SHARE * len(runs)


def _runs(text: str) -> Runs:
    words = words_of(text)
    if len(words) < SHORTEST:
        return frozenset()
    return frozenset(_of_width(words, min(WIDTH, len(words))))


def _of_width(words: Sequence[str], width: int) -> Iterable[str]:
    return (" ".join(words[at : at + width]) for at in range(len(words) - width + 1))
