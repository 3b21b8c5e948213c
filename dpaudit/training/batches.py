"""Units in groups that fit into a forward pass: of similar length; units and examples are never split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpaudit.training.examples import Example, UnitExamples


@dataclass(frozen=True)
class Group:
    """Units that are clipped together, as forward passes of (example, index of its unit in the group)."""

    units: int
    passes: tuple[tuple[tuple[Example, int], ...], ...]


def grouped(units: Sequence[UnitExamples], micro_batch: int) -> Iterator[Group]:
    """The units in groups of at most `micro_batch` sequences, of similar length to save padding.

    Units stay whole: one that alone exceeds the bound is a group of several passes, whose gradients add up
    before the clip. The sequences of one example are never split.
    """
    waiting: list[tuple[Example, int]] = []
    count = 0
    for unit in sorted(units, key=_longest):
        if waiting and _rows(waiting) + sum(len(e.sequences) for e in unit) > micro_batch:
            yield Group(count, tuple(_passes(waiting, micro_batch)))
            waiting, count = [], 0
        waiting += [(example, count) for example in unit]
        count += 1
    if count:
        yield Group(count, tuple(_passes(waiting, micro_batch)))


def _passes(
    waiting: list[tuple[Example, int]], micro_batch: int
) -> Iterator[tuple[tuple[Example, int], ...]]:
    part: list[tuple[Example, int]] = []
    for item in waiting:
        if part and _rows(part) + len(item[0].sequences) > micro_batch:
            yield tuple(part)
            part = []
        part.append(item)
    yield tuple(part)


def _rows(items: Sequence[tuple[Example, int]]) -> int:
    return sum(len(example.sequences) for example, _ in items)


def _longest(unit: UnitExamples) -> int:
    return max(len(s.input_ids) for example in unit for s in example.sequences)
