"""How many canaries along axes of the weights private arms have: as many as the run's claims need."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dpaudit.evidence import family
from dpaudit.evidence.family import AXES_LEAST, SHARE_MOST
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import is_noised
from dpaudit.suite.plan import Plan

if TYPE_CHECKING:
    from dpaudit.privacy.mechanism import Mechanism

AXES_MOST = 1000
POWER = 0.9  # against half of the noise, at the first Holm step
LADDER = (100, 125, 150, 200, 250, 300, 400, 500, 650, 800, 1000)
_DRAWS = 2000  # of a power


@dataclass(frozen=True)
class Axes:
    """How many axes, and why not as many as the claims need; None where they are enough, or were asked
    for.
    """

    count: int
    short: str | None = None


def axis_names(count: int) -> list[str]:
    """What the coins call the canaries along axes of the weights."""
    return [f"axis-{number:06d}" for number in range(count)]


def count_of(run_dir: RunDir) -> int:
    """How many the run has."""
    return int(run_dir.read_json("corpus/manifest.json")["counts"]["gradient"])


def short_of(run_dir: RunDir) -> str | None:
    """Why it has fewer than its claims need; None where they are enough, or were asked for."""
    short: str | None = run_dir.read_json("corpus/manifest.json").get("axes_short")
    return short


def needed(plan: Plan, counts: dict[str, int]) -> Axes:
    """The axes of a plan whose arms learn from so many units; `counts` has the expected number of each
    lesson.

    A number in the suite is taken as it is. Else the least number that every private arm needs to find half
    of its noise missing with a chance of POWER, at least AXES_LEAST, at most AXES_MOST and a fifth of the
    units.
    """
    from dpaudit.evidence import planned  # it loads SciPy
    from dpaudit.stages.prepare import jobs

    unit, asked = plan.suite.training.unit, plan.suite.candidates.gradient
    noised = [arm for arm in plan.suite.grid.arms if is_noised(arm, unit)]
    if asked != "auto" or not noised:
        return Axes(asked if asked != "auto" and noised else 0)
    units = min(plan.suite.training.population or counts[arm.lesson] for arm in noised)
    most = min(AXES_MOST, units // SHARE_MOST)
    if most < AXES_LEAST:
        return Axes(
            0,
            f"{units} units: a fifth of them, the most that such canaries may be, is below {AXES_LEAST}",
        )
    level = family.first_level(planned.members(plan, axes=True))
    acting = {job.mechanism for job in jobs.jobs_of(plan, noised, counts)}
    wanted = max(_least(mechanism, level) or AXES_MOST + 1 for mechanism in acting)
    if wanted <= most:
        return Axes(wanted)
    return Axes(most, f"{units} units: to find half of the noise in {POWER:.0%} of runs more are needed")


def _least(acting: "Mechanism", level: float) -> int | None:
    """The least number of axes on the ladder that finds half of the noise; None where none does."""
    return next((count for count in LADDER if power(acting, count, level) >= POWER), None)


def power(claimed: "Mechanism", count: int, level: float, share: float = 0.5) -> float:
    """The chance that so many axes refute a training with `share` of the noise at `level`."""
    from dpaudit.stats import mechanism as mechanism_test

    of = mechanism_test.SampledGaussian(claimed.noise_multiplier, claimed.sampling_rate, claimed.steps)
    less = replace(of, noise_multiplier=of.noise_multiplier * share)
    return mechanism_test.power(less, of, count, 1 - level, _DRAWS)
