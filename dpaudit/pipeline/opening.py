"""A run of a folder, opened where its files are as they were written."""

from pathlib import Path

from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.plan import Plan


def opened(name: str | None, runs: Path) -> tuple[RunDir, Plan]:
    """The run and its plan, once every file that they rest on is as it was written. Raises UsageError for one
    that is not, and where there is no such run.
    """
    run_dir = run_store.find(name, runs)
    return run_dir, plan_of(run_dir)


def plan_of(run_dir: RunDir) -> Plan:
    """The plan of a run with what was added later, checked as `opened` does."""
    from dpaudit.stages.integrity import custody

    custody.require_run(run_dir)
    plan = declarations.plan_of(run_dir)
    custody.require(run_dir, plan)
    return plan
