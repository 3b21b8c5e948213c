"""Whether a page of a run was written before results that it does not tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dpaudit.errors import UsageError
from dpaudit.stages import report, report_public, translated
from dpaudit.stages.read_results import Reading
from dpaudit.storage.custody import file_digest, sidecar
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import require_sealed
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
    """The pages of a run that do not tell its results as they are now, and the Chinese ones that are of
    another page than the English one beside them; none where there is no page. Where one was `written` just
    now, the other is compared with it.

    Raises UsageError where a page or a result cannot be read, or a page is not the one that was written.
    """
    there = [page for page in MADE if run_dir.file(page).is_file() and page != written]
    if there:
        now = run_dir.recorded_inputs(MADE[written]) if written else _now(run_dir, plan)
        for page in there:
            other = changed(run_dir.recorded_inputs(MADE[page]), now) or _begun(run_dir, page)
            if other:
                yield Older(page, other[0], len(other) - 1, _command(run_dir, page))
    for page in MADE:
        chinese = translated.beside(page)
        if run_dir.file(chinese).is_file() and _is_of_another(run_dir, chinese, page):
            yield Older(chinese, page, 0, _command(run_dir, page))


def _command(run_dir: RunDir, page: str) -> str:
    """What writes a page again, with the Chinese one where there is one."""
    is_chinese = run_dir.file(translated.beside(page)).is_file()
    return of_run(COMMANDS[page] + " --lang zh" * is_chinese, run_dir.name)


def _begun(run_dir: RunDir, page: str) -> list[str]:
    """What a killed command wrote in place of a page whose old text still stands there."""
    require_sealed(run_dir, page)
    beside = sidecar(page)
    if page == report.PAGE and _is_of_another(run_dir, page, report.FIGURES):
        return [report.FIGURES]
    is_new = run_dir.read_json(beside)["sha256"][0] == file_digest(run_dir.file(page))
    return [] if is_new else [beside]


def _is_of_another(run_dir: RunDir, page: str, source: str) -> bool:
    """Whether `page` was made from another state of `source`, which may be gone."""
    now = run_dir.digests([source]) if run_dir.file(source).is_file() else {}
    return bool(changed(run_dir.recorded_inputs(sidecar(page)), now))


def _now(run_dir: RunDir, plan: Plan) -> dict[str, str]:
    reading = Reading(run_dir)
    report.assemble(reading, plan)
    return run_dir.digests(reading.files)


def told(run_dir: RunDir, plan: Plan, written: str | None = None) -> list[str]:
    """A line for each page that is older than the results, or that cannot be compared with them."""
    try:
        return list(map(str, older(run_dir, plan, written)))
    except UsageError as error:
        first = getattr(error, "errors", (error,))[0]
        return [f"whether the page is older than the results cannot be told: {first}"]
