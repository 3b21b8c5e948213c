"""What a run will be able to say of each claim, by counts alone: told before anything is spent."""

from typing import Any

from dpaudit.evidence import family, planned
from dpaudit.findings.answers import SHOWN
from dpaudit.signals import recipe
from dpaudit.stages.prepare import axes
from dpaudit.stages.train.forecast import Forecast
from dpaudit.suite.plan import Plan

NONE = "no power, whatever comes"
OUTSIDE = "from outside alone, if the control proves more than that"


def rows(plan: Plan, found: Forecast) -> list[dict[str, Any]]:
    """One row a claim. `finds_half`, `finds_third`: the chance that canaries along axes of the weights refute
    a training with so much of its noise, at the first Holm step; None without such canaries. `ceiling`: the
    epsilon that the attack proves there if all guesses are right, in nats. `answer`: in words.
    """
    members = planned.members(plan, axes=found.axes > 0)
    level, canaries = family.first_level(members), plan.suite.candidates.canaries
    mechanisms = {job.arm.name: job.mechanism for job in found.jobs}
    made_by, told = recipe.load(plan.suite.primary), []
    for arm, claim in planned.claims(plan):
        is_inside = found.axes > 0 and arm.private and claim.unit != "label"
        half, third = (
            axes.power(mechanisms[arm.name], found.axes, level, share) if is_inside else None
            for share in (1 / 2, 1 / 3)
        )
        reaches = planned.least(plan, made_by, claim) <= level
        told.append(
            {
                "arm": arm.name,
                "epsilon": claim.epsilon,
                "finds_half": half,
                "finds_third": third,
                "ceiling": planned.ceiling(canaries, claim.delta, members, made_by.name),
                "answer": _answer(half, third, reaches),
            }
        )
    return told


def _answer(half: float | None, third: float | None, reaches: bool) -> str:
    if half is not None and half >= SHOWN:
        return "from inside: half of the noise would be found"
    if third is not None and third >= SHOWN:
        return "from inside: a third of the noise would be found, half of it less surely"
    return OUTSIDE if reaches else NONE
