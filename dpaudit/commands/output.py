"""What a command prints on stdout: text, or one JSON object."""

from typing import Any

from dpaudit import terminal
from dpaudit.page import tables
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress
from dpaudit.training import ranks


def show(values: dict[str, Any], as_json: bool) -> None:
    """Prints them; under `torchrun` the first process alone does."""
    if ranks.leads():
        terminal.echo(terminal.as_json(values) if as_json else tables.as_text(values))


def show_of_run(
    run_dir: RunDir, plan: Plan, values: dict[str, Any], as_json: bool, written: str | None = None
) -> None:
    """Prints them under the run's name, its folder and its caveat, and says which page is older than them;
    `written` is the page that was written just now.
    """
    named = {"run": run_dir.name, "path": str(run_dir.path), "caveat": plan.caveat}
    show(named | values, as_json)
    if ranks.leads():
        from dpaudit.stages import page_age

        for line in page_age.told(run_dir, plan, written):
            Progress().say(line)
