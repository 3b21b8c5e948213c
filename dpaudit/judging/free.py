"""Measures of a free answer beside its reference, each in [0, 1], more being better: what a task's YAML may
name under `metadata.measures`.
"""

from collections.abc import Callable

from dpaudit.judging import fields
from dpaudit.judging.overlap import rouge_l, words
from dpaudit.judging.refusal import refuses

Measure = Callable[[str, str], float | None]  # of an answer and its reference; None: nothing to measure


def _rouge_l(answer: str, reference: str) -> float | None:
    wanted = words(reference)
    return rouge_l(words(answer), wanted).f if wanted else None


def _field(name: str) -> Measure:
    """Whether the answer names the values of the reference in one field, and no other."""
    return lambda answer, reference: fields.match(answer, reference)[name].agreement


def _refusal(answer: str, _: str) -> float:
    return float(refuses(answer))


MEASURES: dict[str, Measure] = {
    "rouge_l": _rouge_l,
    "drug": _field("drug"),
    "dose": _field("dose"),
    "warning": _field("warning"),
    "number": _field("number"),
    "refusal": _refusal,
}
