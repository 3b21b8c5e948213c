"""What is done with a report beside writing its page: other formats, `verify`, `diff`."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpaudit import terminal
from dpaudit.commands import options, output
from dpaudit.commands.lab import report_app
from dpaudit.errors import UsageError
from dpaudit.findings.counted import many
from dpaudit.page import tables
from dpaudit.page.formats import ABSENT, show
from dpaudit.pipeline import opening
from dpaudit.storage import run_store, whole_files
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.findings.public import PublicReport
    from dpaudit.findings.report import Report
    from dpaudit.stages.report_diff import Value

app = report_app
FAILED = 1  # a figure that its raw records do not give
NAMED = "A run; default: the run used last."
NOT_AGAIN = {"file": ("not made again", "text"), "why": ("because", "text")}
SETTINGS = {"setting": ("setting", "text"), "first": ("RUN1", "text"), "second": ("RUN2", "text")}
FIGURES = {
    "what": ("what", "text"),
    "of": ("of", "text"),
    "first": ("RUN1", "text"),
    "second": ("RUN2", "text"),
    "said": ("said", "text"),
}
Named = Annotated[str | None, typer.Argument(metavar="[RUN]", help=NAMED)]


@dataclass(frozen=True)
class Written:
    """The options of a format."""

    named: Named = None
    run: options.Run = None
    runs: options.Runs = run_store.RUNS
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write a file, whole or not at all; default: stdout."),
    ] = None
    public: options.Public = False


@app.command("md")
@options.spread
def report_md(asked: Written, lang: options.Lang = "en") -> None:
    """Print the page's decisions and tables as Markdown."""
    from dpaudit.stages import translated

    is_chinese = translated.language(lang) == "zh"

    def made(report: "Report | PublicReport") -> str:
        from dpaudit.findings.public import PublicReport
        from dpaudit.page import chinese, markdown, render

        page = render.render_public(report) if isinstance(report, PublicReport) else render.render(report)
        if not is_chinese:
            return markdown.of_page(page)
        told = chinese.page(page)
        Progress().say(chinese.foot(told.english))
        return markdown.of_page(told.text)

    _write(asked, made)


@app.command("csv")
@options.spread
def report_csv(asked: Written) -> None:
    """Print one row for each figure, with its key in report.json and its limits; curves are left out."""

    def made(report: "Report | PublicReport") -> str:
        from dpaudit.page import records

        return records.as_csv(report)

    _write(asked, made)


@app.command("junit")
@options.spread
def report_junit(asked: Written) -> None:
    """Print claims, release words and checks as test cases of a build server."""

    def made(report: "Report | PublicReport") -> str:
        from dpaudit.findings.public import PublicReport
        from dpaudit.page import records

        if isinstance(report, PublicReport):
            return records.public_junit(report)
        return records.as_junit(report)

    _write(asked, made)


@app.command("json")
@options.spread
def report_json(
    asked: Written,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of this version's reports, of no run.")
    ] = False,
) -> None:
    """Print all that the page shows as one JSON object."""
    if schema:
        from dpaudit.findings import json_schema
        from dpaudit.findings.public import PublicReport
        from dpaudit.findings.report import Report

        of = json_schema.of(PublicReport if asked.public else Report)
        _put(asked.out, json.dumps(of, ensure_ascii=False, indent=1) + "\n")
        return
    _write(asked, lambda report: json.dumps(report.to_json(), ensure_ascii=True, indent=1) + "\n")


@app.command("card")
def report_card(
    arm: Annotated[
        str | None, typer.Argument(metavar="[ARM]", help="A trained adapter; default: the one private one.")
    ] = None,
    run: options.Run = None,
    runs: options.Runs = run_store.RUNS,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a file; default: stdout.")
    ] = None,
) -> None:
    """Print the model card of an adapter: its claim, the audit's verdict, what it is meant for."""
    from dpaudit.stages import report_public

    _put(out, report_public.card(*opening.opened(run, runs), arm))


def _write(asked: Written, made: "Callable[[Report | PublicReport], str]") -> None:
    from dpaudit.stages import report, report_public

    run_dir, plan = opening.opened(_one("dpaudit report", asked.named, asked.run), asked.runs)
    present = report_public.present if asked.public else report.present
    _put(asked.out, made(present(run_dir, plan)))


def _one(command: str, named: str | None, run: str | None) -> str | None:
    """The run that is named, as a word or by --run."""
    if None not in (named, run) and named != run:
        raise UsageError(command, "one run", f"{named} and --run {run}", "leave one out")
    return named or run


def _put(out: Path | None, text: str) -> None:
    if out is None:
        terminal.echo(text.removesuffix("\n"))
        return
    if out.is_dir():
        raise UsageError(f"--out {out}", "a file", "a folder", "name a file in it")
    whole_files.write_text(out, text)
    Progress().say(f"written: {out}")


# ---- verify


@app.command("verify")
def report_verify(
    named: Named = None,
    commitment: options.Commitment = None,
    run: options.Run = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Make every figure of the report again from the raw records, and compare.

    Exit code 0: all agree; 1: the first that differs is named, or a file is not as written; 2: no report, one
    of another version, or one that is out of date. No model is loaded and nothing in the run changes.
    """
    from dpaudit.stages import verify_report

    run_dir = run_store.find(_one("dpaudit report verify", named, run), runs)
    found = verify_report.check(run_dir, commitment, Progress())
    values = {"run": run_dir.name, "path": str(run_dir.path), "verified": found.difference is None}
    if as_json:
        output.show({**values, **asdict(found)}, as_json=True)
    else:
        terminal.echo(_told(values, found))
    if found.difference is not None:
        raise typer.Exit(FAILED)


def _told(values: dict[str, Any], found: Any) -> str:
    if found.difference is not None:
        there = {name.replace("_", " "): value for name, value in asdict(found.difference).items() if value}
        return tables.as_text({**values, **there})
    files = many(len(found.recomputed), "file")
    counts = {
        "figures_made_again": f"{found.figures:,}, all as they stand in {files}",
        "commitment": found.commitment,
        "custody": found.custody.partition(";")[0],  # of the coins it says what the page looked at
        "coins": found.coins,
        "not_there": found.not_there,
    }
    rows = [{"file": file, "why": why} for file, why in found.hash_checked.items()]
    return f"{tables.as_text({**values, **counts})}\n\n{tables.table(rows, NOT_AGAIN, _width())}"


def _width() -> int:
    return max(60, shutil.get_terminal_size((tables.WIDTH, 24)).columns)


# ---- diff


@app.command("diff")
def report_diff(
    first: Annotated[str, typer.Argument(metavar="RUN1", help="A run.")],
    second: Annotated[str, typer.Argument(metavar="RUN2", help="Another run of the same folder.")],
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Show how two runs differ: settings, verdicts, bounds, quality, or why a figure cannot be compared."""
    from dpaudit.stages import report_diff as stage

    one, two = (stage.side(*opening.opened(name, runs)) for name in (first, second))
    settings, figures = stage.settings(one, two), stage.figures(one, two)
    if as_json:
        rows = [asdict(row) for row in figures]
        output.show(
            {"runs": [one.run_dir.name, two.run_dir.name], "settings": settings, "figures": rows},
            as_json=True,
        )
        return
    told = [
        {**asdict(row), "first": _value(row.first), "second": _value(row.second)}
        for row in figures
        if row.said != stage.SAME
    ]
    plain = [{key: _short(value) for key, value in row.items()} for row in settings]
    names = {"RUN1": one.run_dir.name, "RUN2": two.run_dir.name}
    same = f"{len(figures) - len(told)} of {len(figures)} words and figures are the same"
    tops = {**names, "settings": None if settings else "the same", "figures": same}
    parts = [
        tables.as_text(tops),
        tables.table(plain, SETTINGS, _width()),
        tables.table(told, FIGURES, _width()),
    ]
    terminal.echo("\n\n".join(filter(None, parts)))


def _short(value: object) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return ABSENT if value is None else str(value)


def _value(value: "Value | None") -> str:
    if value is None or value.value is None:
        return ABSENT
    text = value.value if isinstance(value.value, str) else show(value.value, "three")
    if value.lower is None or value.upper is None:
        return text
    return f"{text} [{show(value.lower, 'three_down')}, {show(value.upper, 'three_up')}]"
