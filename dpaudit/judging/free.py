"""Measures of a free answer beside its reference, each in [0, 1]: what a task's YAML may name under
`metadata.measures`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dpaudit.findings.quality import Alone
from dpaudit.judging import fields
from dpaudit.judging.overlap import rouge_l, words
from dpaudit.judging.refusal import refuses


@dataclass(frozen=True)
class Measure:
    """What is measured of an answer and its reference, None where there is nothing to measure; `nothing` says
    what that means where it is so of all items. Only the reference decides whether there is something.
    """

    of: Callable[[str, str], float | None]
    higher_is_better: bool = True
    nothing: Alone = "no reference has it"


def _rouge_l(answer: str, reference: str) -> float | None:
    wanted = words(reference)
    return rouge_l(words(answer), wanted).f if wanted else None


def _field(name: str) -> Measure:
    """Whether the answer names the values of the reference in one field, and no other."""
    return Measure(lambda answer, reference: fields.match(answer, reference)[name].agreement)


def _invented(name: str) -> Measure:
    """Whether the answer names a value where the reference names none."""
    return Measure(
        lambda answer, reference: fields.match(answer, reference)[name].invented,
        higher_is_better=False,
        nothing="every reference has it",
    )


MEASURES: dict[str, Measure] = {
    "rouge_l": Measure(_rouge_l),
    "drug": _field("drug"),
    "drug_invented": _invented("drug"),
    "dose": _field("dose"),
    "dose_invented": _invented("dose"),
    "warning": _field("warning"),
    "number": _field("number"),
    "refusal": Measure(lambda answer, _: float(refuses(answer))),
}
