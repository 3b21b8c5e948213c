"""The scorecard of the first origin system, from files of answers or from a finished run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from dpaudit.commands import options
from dpaudit.commands.groups import EXAMPLES
from dpaudit.commands.output import show, show_of_run
from dpaudit.errors import UsageError
from dpaudit.pipeline import opening
from dpaudit.storage import run_store


def scorecard(
    answers: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Answers by name_key: JSON lines, JSON, CSV or Parquet."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", metavar="FILE", help="References by the same names; default: in the same rows."
        ),
    ] = None,
    win: Annotated[
        float | None,
        typer.Option("--win", metavar="RATE", help="The win rate that a judge gave these answers, 0 to 1."),
    ] = None,
    longest: Annotated[
        int | None,
        typer.Option(
            "--longest",
            metavar="N",
            min=1,
            help="Characters beyond which an answer does not count as private; default 2048.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="NAME", help="A finished run in place of FILE: what its arms answered."
        ),
    ] = None,
    arms: options.Arms = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Score answers as score.py did, without its faults: those of a file, or of a finished run."""
    of_files = {"--reference": reference, "--win": win, "--longest": longest}
    _check(answers, run, of_files, arms)
    if answers is not None:
        from dpaudit.judging import scored_files

        show(scored_files.values(answers, reference, win, longest), as_json)
    else:
        from dpaudit.stages import scored_run

        run_dir, plan = opening.opened(run, runs)
        show_of_run(run_dir, plan, scored_run.values(run_dir, plan, arms), as_json)


def _check(
    answers: Path | None, run: str | None, of_files: Mapping[str, object], arms: Sequence[str] | None
) -> None:
    """Raises UsageError for neither a file nor a run, for both, and for options that have no effect."""
    if (answers is None) == (run is None):
        got = "neither" if run is None else "both"
        example = f"for example: {EXAMPLES['dpaudit scorecard']}"
        raise UsageError("dpaudit scorecard", "FILE, or --run NAME", got, example)
    if answers is not None and arms:
        raise UsageError("--arm", "a run, with --run", "a file", "leave it out")
    typed = [option for option, value in of_files.items() if value is not None]
    if run is not None and typed:
        raise UsageError(typed[0], "a file of answers", f"--run {run}", "leave it out: the run has its own")
