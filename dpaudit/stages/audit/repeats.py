"""The runs that a run repeats with fresh coins: their findings, for one family with its own.

Nothing of theirs is copied: they must be there, as they were written, whenever the repeat is audited.
"""

from dataclasses import dataclass

from dpaudit.errors import UsageError
from dpaudit.findings.membership import Membership
from dpaudit.findings.together import Together
from dpaudit.signals import recipe
from dpaudit.stages.audit.members import audit_file
from dpaudit.stages.integrity import custody
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan, Repeated

SUMMARY = "audit/summary.json"


@dataclass(frozen=True)
class Page:
    """A repeated run, what the primary recipe found on each arm, and the verdicts of its own page."""

    run_dir: RunDir
    plan: Plan
    audits: dict[Arm, Membership]
    found: Together


def pages(run_dir: RunDir, plan: Plan) -> tuple[Page, ...]:
    """The runs that this one repeats, oldest first. Raises UsageError where one of them is gone, altered, not
    the run that was repeated, or not audited.
    """
    return tuple(_page(RunDir(run_dir.path.parent / known.run), known) for known in plan.repeats)


def _page(run_dir: RunDir, known: Repeated) -> Page:
    if not run_dir.path.is_dir():
        raise UsageError(
            str(run_dir.path),
            "the run that this one repeats: both are tested in one family",
            "no such folder",
            "restore it from a copy",
        )
    custody.require_run(run_dir)
    if repeated(run_dir) != known:
        raise run_dir.refused(custody.CORPUS, "a run with other coins", "the run that was repeated")
    return page_of(run_dir, declarations.plan_of(run_dir))


def repeated(run_dir: RunDir) -> Repeated:
    """How the plan of a repeat names this run, which has its corpus."""
    return Repeated(run_dir.name, run_dir.read_json(custody.CORPUS).get("commitment"))


def page_of(run_dir: RunDir, plan: Plan) -> Page:
    """A run with the verdicts of its page. Raises UsageError where it was altered, or has no verdict on an
    arm, or an outdated one.
    """
    custody.require(run_dir, plan)
    command = f"dpaudit attack {recipe.load(plan.suite.primary).kind} --run {run_dir.name}"
    audits = {}
    for arm in plan.suite.grid.named(None, twins=False):
        file = audit_file(arm.name, plan.suite.primary)
        for needed in (file, SUMMARY):
            if not run_dir.file(needed).is_file():
                raise UsageError(
                    f"{run_dir.name}: {arm.name}",
                    "an audited arm: a repeat is tested in one family with what it repeats",
                    "no verdict",
                    f"type `{command}`" if run_dir.file(f"train/{arm.name}").is_dir() else "train it first",
                )
        run_dir.require_current(file, run_dir.recorded_inputs(file), command)
        audits[arm] = Membership.read(run_dir, file)
    run_dir.require_current(SUMMARY, run_dir.recorded_inputs(SUMMARY), command)
    return Page(run_dir, plan, audits, Together.read(run_dir, SUMMARY))


def inputs_of(plan: Plan) -> list[str]:
    """What the repeat's answers rest on, as inputs of its own files: the verdicts of the runs beside it."""
    return [f"../{known.run}/{SUMMARY}#answers" for known in plan.repeats]
