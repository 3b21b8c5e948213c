"""Whether a page of a run was written before results that it does not tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dpaudit.errors import UsageError
from dpaudit.stages import report, report_public
from dpaudit.stages.read_results import Reading
from dpaudit.storage.custody import sidecar
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

PUBLIC = report_public.PAGE
COMMANDS = {report.PAGE: "dpaudit report html", PUBLIC: "dpaudit report html --public"}  # that write a page
MADE = {report.PAGE: report.FIGURES, PUBLIC: sidecar(PUBLIC)}  # page -> file that names what it was made from


@dataclass(frozen=True)
class Older:
    """A page that is older than the results: the first that it does not tell as it is now, how many more
    there are, and the command that writes the page again.
    """

    page: str
    first: str
    more: int
    command: str

    def __str__(self) -> str:
        more = f" and {self.more} more" if self.more else ""
        return f"{self.page} is older than {self.first}{more}: type `{self.command}`, which writes it again"


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files that were others when a page was made, that came since, or that are gone."""
    return [name for name in dict.fromkeys((*now, *then)) if now.get(name) != then.get(name)]


def older(run_dir: RunDir, plan: Plan, written: str | None = None) -> Iterator[Older]:
    """The pages of a run that do not tell its results as they are now; none where there is no page. Where one
    was `written` just now, the other is compared with it.

    Raises UsageError where a page or a result cannot be read.
    """
    there = [page for page, made in MADE.items() if _is_there(run_dir, page, made)]
    if all(page == written for page in there):
        return
    now = run_dir.recorded_inputs(MADE[written]) if written else _now(run_dir, plan)
    for page in there:
        if other := changed(run_dir.recorded_inputs(MADE[page]), now):
            yield Older(page, other[0], len(other) - 1, of_run(COMMANDS[page], run_dir.name))


def _now(run_dir: RunDir, plan: Plan) -> dict[str, str]:
    reading = Reading(run_dir)
    report.assemble(reading, plan)
    return run_dir.digests(reading.files)


def _is_there(run_dir: RunDir, *files: str) -> bool:
    return all(run_dir.file(file).is_file() for file in files)


def told(run_dir: RunDir, plan: Plan, written: str | None = None) -> list[str]:
    """A line for each page that is older than the results, or that cannot be compared with them."""
    try:
        return list(map(str, older(run_dir, plan, written)))
    except UsageError as error:
        first = getattr(error, "errors", (error,))[0]
        return [f"whether the page is older than the results cannot be told: {first}"]
