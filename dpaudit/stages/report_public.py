"""The public edition of a run's report: made from what the page shows, by what is known to be public."""

from datetime import UTC, datetime
from pathlib import Path

from dpaudit.errors import UsageError
from dpaudit.evidence import public
from dpaudit.findings.public import PublicReport
from dpaudit.findings.quality import TasksAsked
from dpaudit.findings.report import Report
from dpaudit.models import model_card
from dpaudit.models.model_card import Audited
from dpaudit.signals import recipe
from dpaudit.stages import outputs, report
from dpaudit.stages.benchmarks import TASKS
from dpaudit.stages.integrity import custody as chain
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.read_results import Reading
from dpaudit.storage.remedies import missing
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import write_sealed
from dpaudit.suite.plan import Plan

PAGE = "report/public.html"
SIGNALS = ("loss", "min_k", "min_k_pp", "zlib", "lowercase")  # of the text that is asked about, and no other


def present(run_dir: RunDir, plan: Plan) -> PublicReport:
    """The public edition as it is now; nothing is written. Raises UsageError as `report.run` does."""
    return _made(run_dir, plan)[0]


def run(run_dir: RunDir, plan: Plan) -> tuple[Path, PublicReport]:
    """Writes report/public.html; returns its path and what it shows. Raises UsageError as `report.run`
    does.
    """
    from dpaudit.page import render

    edition, files = _made(run_dir, plan)
    write_sealed(run_dir, PAGE, render.render_public(edition), inputs=files)
    return run_dir.file(PAGE), edition


def _made(run_dir: RunDir, plan: Plan) -> tuple[PublicReport, list[str]]:
    outputs.require(run_dir, plan)
    reading = Reading(run_dir)
    return of_report(reading, report.assemble(reading, plan), plan), reading.files


def of_report(reading: Reading, whole: Report, plan: Plan) -> PublicReport:
    """The public edition of what the page shows."""
    asked = reading.finding(TasksAsked, TASKS)
    tasks = asked.tasks.items() if asked else ()
    # a task without a configuration of ours is lm-eval's own, with its items
    outside = public.Outside({name for name, task in tasks if task.config is None}, _recipes(plan))
    return public.of(whole, outside)


def _recipes(plan: Plan) -> set[str]:
    """The primary attack, if it asks the audited model and its base about the text alone."""
    primary = recipe.load(plan.suite.primary)
    is_alone = primary.signal in SIGNALS and primary.reference in ("none", "base")
    return {primary.name} if is_alone else set()


def audited(run_dir: RunDir, plan: Plan, arm: str) -> Audited | None:
    """What the run says of the claim that an arm was trained for; None where nobody tested it."""
    return _verdict(present(run_dir, plan), plan, arm)


def _verdict(edition: PublicReport, plan: Plan, arm: str) -> Audited | None:
    claimed = plan.suite.grid.named([arm])[0].epsilon
    answer = next((row for row in edition.answers if row.arm == arm and row.epsilon == claimed), None)
    if answer is None:
        return None
    able = (row.side for row in answer.questions if row.shown_able or row.refutes)
    return Audited(
        answer.verdict, tuple(dict.fromkeys(able)), f"{datetime.now(UTC):%Y-%m-%d}", edition.run.name
    )


def card(run_dir: RunDir, plan: Plan, named: str | None) -> str:
    """The public model card of an arm, with what the run says of its claim now. Raises UsageError for an arm
    that is unknown or not trained, and where none is named among several that are private.
    """
    private = [arm.name for arm in plan.suite.grid.arms if arm.private and not arm.twin]
    if named is None and len(private) != 1:
        raise UsageError(
            "dpaudit report card", "the name of an arm", f"none, of {', '.join(private) or 'no private arm'}"
        )
    arm = named or private[0]
    plan.suite.grid.named([arm])
    chain.require(run_dir, plan)
    edition, trained = present(run_dir, plan), TrainedArm(run_dir, arm)
    if arm not in {adapter.arm for adapter in edition.adapters}:
        raise missing(run_dir.file(trained.folder), "dpaudit train")
    told = _verdict(edition, plan, arm)
    return model_card.model_card(trained.ledger(), plan.suite.model.base, audited=told)
