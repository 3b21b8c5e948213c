"""What a run will be able to say of each claim, by counts alone: told before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpaudit.evidence import family, planned
from dpaudit.evidence.verdict import share
from dpaudit.findings.answers import SHOWN
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Recipe
from dpaudit.stages.prepare import axes
from dpaudit.stages.train.forecast import Forecast
from dpaudit.suite.grid import Arm, nonprivate
from dpaudit.suite.plan import Plan

NONE = "no power, whatever comes"
UNSHOWN = "no power unless it is refuted: no arm without noise shows what the attack finds"
OUTSIDE = "from outside alone, if the control's guesses are right"
FEW = (
    "no power unless it is refuted: so few guesses find a training without noise with probability {power} "
    "at most"
)
CANARIES_MOST = 20_000  # that are proposed
_AXES = "at least {least} units, for canaries along axes of the weights to test the noise"


@dataclass(frozen=True)
class _Asked:
    """What the tests of a run's claims rest on, by counts alone."""

    plan: Plan
    found: Forecast
    made_by: Recipe
    members: int  # questions in the family of the page

    @property
    def level(self) -> float:
        return family.first_level(self.members)

    @property
    def guesses(self) -> int:
        """From outside; 0 where the suite asks for no attack that could refute a claim."""
        bound, canaries = self.made_by.bound, self.plan.suite.candidates.canaries
        is_asked = self.made_by.kind in self.plan.suite.attacks and canaries >= self.made_by.minimum_canaries
        return bound.guess.count(canaries) if bound is not None and is_asked else 0

    def reaches(self, claim: Claim) -> bool:
        """Whether guesses that are all right would refute the claim."""
        return bool(self.guesses) and planned.least(self.plan, self.made_by, claim) <= self.level

    def power(self, claim: Claim) -> float:
        """The chance to find no noise at all from outside, with the best control that there could be."""
        canaries = self.plan.suite.candidates.canaries
        return planned.power_at_most(canaries, self.made_by, claim, self.level)


def rows(plan: Plan, found: Forecast) -> list[dict[str, Any]]:
    """One row a claim on an arm of the forecast. `finds_half`, `finds_third`: the chance that canaries along
    axes of the weights refute a training with so much of its noise, at the first Holm step; None without such
    canaries. `ceiling`: the epsilon that the attack proves there if all guesses are right, in nats;
    `right_needed`: how many of its `guesses` must be right to refute the claim; None where all are too few;
    `finds_none`: the chance that they refute a training without noise, if all on the control are right.
    `answer` and `to_change`, what would give power where there is none, in words.
    """
    made_by = recipe.load(plan.suite.primary)
    asked = _Asked(plan, found, made_by, planned.members(plan, axes=found.axes > 0))
    told = {job.arm.name for job in found.jobs}
    return [_row(asked, arm, claim) for arm, claim in planned.claims(plan) if arm.name in told]


def warnings(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each claim that would end in *no power*, with what would change it."""
    return [
        f"{row['arm']}, epsilon {row['epsilon']:g}: {row['answer']}; what would change it: {row['to_change']}"
        for row in rows
        if row["to_change"]
    ]


def _row(asked: _Asked, arm: Arm, claim: Claim) -> dict[str, Any]:
    plan, found, reaches = asked.plan, asked.found, asked.reaches(claim)
    is_inside = found.axes > 0 and arm.private and claim.unit != "label"
    mechanism = next(job.mechanism for job in found.jobs if job.arm == arm)
    half, third = (
        axes.power(mechanism, found.axes, asked.level, share) if is_inside else None
        for share in (1 / 2, 1 / 3)
    )
    inside = max(half or 0.0, third or 0.0) >= SHOWN
    power = asked.power(claim) if reaches else None
    control = nonprivate(arm, plan.suite.grid.arms)
    is_shown = control is not None and (control.method, control.loss) == (arm.method, arm.loss)
    return {
        "arm": arm.name,
        "epsilon": claim.epsilon,
        "finds_half": half,
        "finds_third": third,
        "ceiling": _ceiling(asked, claim, reaches),
        "guesses": asked.guesses or None,
        "right_needed": _right_needed(asked, claim) if reaches else None,
        "finds_none": power,
        "answer": _answer(half, third, power, is_shown),
        "to_change": None
        if inside or (_suffices(power) and is_shown)
        else _to_change(asked, claim, _suffices(power), is_shown),
    }


def _suffices(power: float | None) -> bool:
    return power is not None and power >= SHOWN


def _ceiling(asked: _Asked, claim: Claim, reaches: bool) -> float | None:
    """At the level of the first step; where the question is left out, at the level that it would have had."""
    if not asked.guesses:
        return None
    canaries, members = asked.plan.suite.candidates.canaries, asked.members + (not reaches)
    return planned.ceiling(canaries, claim.delta, members, asked.made_by.name)


def _right_needed(asked: _Asked, claim: Claim) -> int | None:
    from dpaudit.stats.epsilon import least_right

    return least_right(
        canaries=asked.plan.suite.candidates.canaries,
        guesses=asked.guesses,
        epsilon=claim.epsilon,
        delta=claim.delta,
        error=asked.level,
    )


def _answer(half: float | None, third: float | None, power: float | None, is_shown: bool) -> str:
    if half is not None and half >= SHOWN:
        return "from inside: half of the noise would be found"
    if third is not None and third >= SHOWN:
        return "from inside: a third of the noise would be found, half of it less surely"
    if power is None:
        return NONE
    if not is_shown:
        return UNSHOWN
    return OUTSIDE if _suffices(power) else FEW.format(power=share(power))


def _to_change(asked: _Asked, claim: Claim, suffices: bool, is_shown: bool) -> str:
    """What would give the claim power, each way by itself; in words."""
    suite, ways = asked.plan.suite, list[str]()
    if claim.unit == "label":
        return "nothing here: a claim about labels alone is not tested"
    if asked.found.axes:
        ways.append("a larger claim, or more units: canaries along axes are then more")
    elif suite.candidates.gradient == 0:
        ways.append("--set candidates.gradient=auto, to test the noise from inside")
    else:
        ways.append(_AXES.format(least=family.AXES_LEAST * family.SHARE_MOST))
    if asked.made_by.kind not in suite.attacks:
        ways.append(f"attacks: {asked.made_by.kind} in the suite")
    elif suffices and not is_shown:
        ways.append("an arm without noise of the same kind (leave out --no-baseline)")
    elif (count := _canaries_needed(asked, claim)) is not None:
        ways.append(f"--set candidates.canaries={count}, whose guesses could find a training without noise")
    else:
        ways.append(f"a smaller claim: {CANARIES_MOST:,} canaries could not test {claim.epsilon:g}")
    return "; or ".join(ways)


def _canaries_needed(asked: _Asked, claim: Claim) -> int | None:
    """The least number of canaries, in hundreds, that could find a training without noise, with the family
    that a run of so many has; None above CANARIES_MOST.
    """

    def suffices(hundreds: int) -> bool:
        more = {"candidates.canaries": 100 * hundreds}
        plan = asked.plan.with_settings(more, "candidates.canaries")
        members = planned.members(plan, axes=asked.found.axes > 0)
        then = replace(asked, plan=plan, members=members)
        return then.reaches(claim) and _suffices(then.power(claim))

    low, high = 0, CANARIES_MOST // 100
    if not suffices(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return 100 * high
