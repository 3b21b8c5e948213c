"""How far a judge agrees with people."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion

FEW = 30  # prompts below which kappa tells little


@dataclass(frozen=True)
class HumanAgreement(Finding):
    """A judge's verdicts beside those of people on the same answers. What was judged otherwise in the two
    orders counts as a tie; what had no verdict is left out and counted.
    """

    FORMAT: ClassVar = "human/3"
    rubric: str
    kappa: float | None  # Cohen's; None where one verdict was given to everything
    lower: float | None
    upper: float | None
    agreement: Proportion  # verdicts that are equal
    agreement_lower: Proportion
    agreement_upper: Proportion
    verdicts: Count  # of people, that were compared
    prompts: Count  # different ones; verdicts on one prompt are one draw
    judged: Count  # different prompts that the judge compared
    unscored: Count  # verdicts of people that stand beside no verdict of the judge
    is_few: bool  # fewer prompts than tell anything
    counts: dict[str, dict[str, Count]]  # what people said -> what the judge said
