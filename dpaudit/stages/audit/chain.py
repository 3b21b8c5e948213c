"""The trainings that an arm's claim rests on, its own and those before it, and which of them nobody looked at
from inside.
"""

from collections.abc import Iterator

from dpaudit.privacy import ledger as ledgers
from dpaudit.stages.audit import inside
from dpaudit.stages.prepare import axes
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, is_noised
from dpaudit.suite.plan import Plan


def trainings(plan: Plan, arm: Arm) -> tuple[Arm, ...]:
    """The arms of this run that a claim on `arm` rests on, its own first."""
    found = [arm]
    while (earlier := plan.suite.grid.start_of(found[-1])) is not None:
        found.append(earlier)
    return tuple(found)


def unseen(run_dir: RunDir, plan: Plan, arm: Arm) -> tuple[str, ...]:
    """The trainings of an arm's claim that no mechanism test looked at, each with why: those of this run that
    had no canaries along axes, and all that came before it.
    """
    chain = trainings(plan, arm)
    own = (
        f"{stage.name} ({_why(run_dir, plan, stage)})"
        for stage in chain
        if not inside.is_tested(run_dir, stage.name)
    )
    return (*own, *_before(run_dir, arm, len(chain)))


def _why(run_dir: RunDir, plan: Plan, stage: Arm) -> str:
    if not is_noised(stage, plan.suite.training.unit):
        return "it added no noise"
    if axes.count_of(run_dir):
        return "what was released along its canaries is not there"
    short = axes.short_of(run_dir)
    return f"no canaries along axes: {short}" if short else "no canaries along axes were asked for"


def _before(run_dir: RunDir, arm: Arm, own: int) -> Iterator[str]:
    """What the run began with, as the arm's ledger tells."""
    ledger = ledgers.of_arm(run_dir, arm.name)
    before = len(ledger.mechanisms) - own
    if before > 0:
        stages = "a training" if before == 1 else f"{before} trainings"
        yield f"{stages} before this run, of which the ledger alone is known"
    if ledger.is_start_assumed_public:
        yield "the adapter that this run began with, which has no ledger and was taken as public"
