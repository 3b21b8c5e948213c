"""`dpaudit init`: a suite drafted from a data file."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpaudit import terminal
from dpaudit.commands import options
from dpaudit.commands.output import show
from dpaudit.errors import UsageError
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.pipeline.drafting import Draft
    from dpaudit.pipeline.survey import Survey

OUT = Path("suite.yaml")
UNITS = ("record", "patient")
EXAMPLES = 3
MARKS = {"read": "  ", "learned": "> ", "cut": "- "}


@dataclass(frozen=True)
class Public:
    """The options that declare a value which would be computed from the data."""

    unit: Annotated[
        str | None,
        typer.Option("--unit", help="Whose presence is hidden: record or patient; default: by the data."),
    ] = None
    max_length: Annotated[
        int | None,
        typer.Option(
            "--max-length", metavar="N", min=2, help="Tokens of a record, in place of a number from the data."
        ),
    ] = None
    population: Annotated[
        int | None,
        typer.Option(
            "--population",
            metavar="N",
            min=1,
            help="Public number of units, in place of their count; batch and canaries follow from it.",
        ),
    ] = None
    languages: Annotated[
        str | None,
        typer.Option("--languages", metavar="NAMES", help="Of the records, in your words: for the page."),
    ] = None


@options.spread
def init(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="Dialogues: JSONL, JSON, CSV, Parquet, a folder or a hub id."),
    ],
    public: Public,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The suite to write; must not exist yet.")
    ] = OUT,
    model: options.Model = None,
    show_examples: Annotated[
        bool,
        typer.Option(
            "--show-examples",
            help="Also show three records in the terminal as the model reads them: training text.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Draft a suite from a data file: every setting with its reason."""
    from dpaudit.pipeline import drafting, plans, suite_file, survey

    _check(public, show_examples, as_json)
    suite_file.require_free(out)
    base = model or survey.EMBEDDED
    plans.fetch({"data.source": data}, weights=False)
    wanted = drafting.Wanted(data, base, public.unit, public.max_length, public.population, public.languages)
    with Progress().task("reading the data", survey.steps(data)) as advance:
        seen = survey.of(data, base, advance)
    made = drafting.draft(wanted, seen)
    commands = suite_file.commands(made, out)
    suite_file.write(made, out, commands)
    told, cautions = _told(made, out), drafting.warnings(made)
    if as_json:
        show({**told, "warnings": cautions, "next": commands}, as_json)
        return
    if show_examples:
        _show_examples(made)
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in told.items()]
    lines += [f"warning: {caution}" for caution in cautions] + [f"next: {line}" for line in commands]
    terminal.echo("\n".join(map(terminal.visible, lines)))


def _check(public: Public, show_examples: bool, as_json: bool) -> None:
    if public.unit is not None and public.unit not in UNITS:
        raise UsageError("--unit", " or ".join(UNITS), f"{public.unit:.40}")
    if show_examples and (as_json or not _is_terminal()):
        raise UsageError(
            "--show-examples",
            "a terminal: what it shows is training text, which belongs into no file",
            "--json" if as_json else "a file or a pipe",
            "leave it out, or type the command in a terminal",
        )


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _told(made: "Draft", out: Path) -> dict[str, str]:
    """What was found and proposed, in a line each, without any text of the data."""
    seen, sizes = made.survey, made.sizes
    named = (
        f"{seen.patients:,} patients named by {seen.patient_column}" if seen.patients else "no patient named"
    )
    unread = f"; not read: {seen.unread_names}" if seen.unread else ""
    first = seen.measured[:EXAMPLES]
    learned = ", ".join(f"{one.learned:,} of {one.tokens:,}" for one in first)
    return {
        "written": str(out),
        "data": f"{seen.records:,} records ({seen.shape}), {named}; {_written(seen)}{unread}",
        "tokens_a_record": _lengths(made),
        "learned": f"only what the assistant says: {learned} tokens of {len(first)} records "
        "(--show-examples prints them)",
        "proposed": f"unit {made.unit}, max_length {made.max_length} ({seen.cut(made.max_length):.1%} of the "
        f"records are cut), {sizes.canaries} canaries, batch {sizes.batch}",
    }


def _written(seen: "Survey") -> str:
    return f"{seen.script}, {seen.languages}" if seen.languages else seen.script


def _lengths(made: "Draft") -> str:
    seen, base = made.survey, made.wanted.base
    half, most, longest = (f"{seen.length(share):,}" for share in (0.5, 0.95, 1))
    of = f"of {len(seen.measured):,} random ones " if len(seen.measured) < seen.records else ""
    absent = "" if seen.counted_by == base else f", since {base} is not here: its numbers differ"
    return (
        f"{of}half at most {half}, 95 % at most {most}, the longest {longest}, by {seen.counted_by}{absent}"
    )


def _show_examples(made: "Draft") -> None:
    """Prints records as the model reads them; a mark at the left says what is learned, read or cut."""
    from dpaudit.pipeline import survey

    seen = made.survey
    for number, one in enumerate(seen.measured[:EXAMPLES], 1):
        terminal.echo(f"example {number} ({MARKS['learned']}learned, {MARKS['cut']}cut away, else only read)")
        for piece in survey.pieces(one.record, seen.counted_by, made.max_length):
            for line in piece.text.splitlines():
                terminal.echo(MARKS[piece.kind] + terminal.visible(line, len(line)))
        terminal.echo("")
