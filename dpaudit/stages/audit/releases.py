"""What private adapters spend that are released together: those of a run, of all runs on the same data, and
one arm in all runs that repeat each other.
"""

from collections.abc import Sequence

from dpaudit.errors import UsageError
from dpaudit.findings.together import Beside, Twice
from dpaudit.privacy import ledger as ledgers
from dpaudit.privacy.ledger import Ledger
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stages.audit.repeats import Page
from dpaudit.stages.integrity import siblings
from dpaudit.storage.rundir import PLAN, RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan


def of_run(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> float | None:
    """The epsilon of releasing all private arms, which learnt from the same units, at the run's delta."""
    if not arms:
        return None
    return _composed(plan, _mechanisms(run_dir, plan, arms))


def beside(run_dir: RunDir, plan: Plan) -> Beside | None:
    """The other runs on the same data, and what their private arms and this run's spend together; None where
    there is no such run.
    """
    others = siblings.on_same_data(run_dir)
    if not others:
        return None
    names = tuple(other.name for other in others)
    return spent_by([run_dir, *others], plan, names)


def spent_by(runs: Sequence[RunDir], plan: Plan, names: tuple[str, ...]) -> Beside:
    """What all private arms of `runs` spend together, at the delta of `plan`; `names` are said with it."""
    try:
        trained = [_trained(run) for run in runs]
    except UsageError:
        return Beside(names, None, None, "the ledger of one of them cannot be read")
    kept = [ledger for _, arms in trained for ledger in arms.values()]
    if why := _apart(kept):
        return Beside(names, None, None, why)
    every = [
        mechanism
        for run, (its_plan, arms) in zip(runs, trained, strict=True)
        for mechanism in _mechanisms(run, its_plan, list(arms))
    ]
    return Beside(names, _composed(plan, every), plan.suite.training.delta, None)


def twice(run_dir: RunDir, plan: Plan, pages: Sequence[Page], arms: Sequence[Arm]) -> tuple[Twice, ...]:
    """For each of the private arms what it spends in this run and in those that it repeats together."""
    if not pages:
        return ()
    found = []
    for arm in arms:
        kept = [ledgers.of_arm(run, arm.name) for run in (*(page.run_dir for page in pages), run_dir)]
        if _apart(kept) is None:
            every = [mechanism for ledger in kept for mechanism in ledger.mechanisms]
            found.append(Twice(arm.name, len(kept), _composed(plan, every), plan.suite.training.delta))
    return tuple(found)


def _trained(run_dir: RunDir) -> tuple[Plan, dict[Arm, Ledger]]:
    """The plan of a run, and the ledgers of the private arms that it has. Raises UsageError where they cannot
    be read.
    """
    plan = Plan.from_json(run_dir.read_json(PLAN), str(run_dir.file(PLAN)))
    there = [arm for arm in plan.suite.grid.arms if run_dir.file(ledgers.file_of(arm.name)).is_file()]
    return plan, {arm: ledgers.of_arm(run_dir, arm.name) for arm in there if arm.private}


def _apart(kept: Sequence[Ledger]) -> str | None:
    """Why these ledgers cannot be composed; None where they can."""
    if any(ledger.is_reproducible for ledger in kept):
        return "noise that can be drawn again claims no epsilon"
    if any(ledger.mechanism is None for ledger in kept):
        return "randomised response of labels is composed with nothing"
    if len({(ledger.claim.unit, ledger.claim.relation) for ledger in kept}) > 1:
        return "claims about different units are never composed"
    return None


def _mechanisms(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> list[Mechanism]:
    """What acted in a run. Each arm's own steps count once, and so does what the run's start had spent, which
    the ledgers of the arms that start from no other arm name.
    """
    kept = {arm: ledgers.of_arm(run_dir, arm.name) for arm in arms}
    first = [ledger for arm, ledger in kept.items() if plan.suite.grid.start_of(arm) is None]
    outside = first[0].mechanisms[:-1] if first else ()
    return [*outside, *(ledger.acting for ledger in kept.values() if ledger.mechanism)]


def _composed(plan: Plan, mechanisms: Sequence[Mechanism]) -> float:
    from dpaudit.privacy import accountants

    return accountants.compose(mechanisms, plan.suite.training.delta, plan.suite.training.relation)
