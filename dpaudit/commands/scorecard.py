"""The scorecard of the first origin system, from files of answers."""

from pathlib import Path
from typing import Annotated

import typer

from dpaudit.commands import options
from dpaudit.commands.output import show


def scorecard(
    answers: Annotated[
        Path, typer.Argument(metavar="FILE", help="Answers by name_key: JSON lines, JSON, CSV or Parquet.")
    ],
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
    as_json: options.Json = False,
) -> None:
    """Score a file of answers as score.py did, without its faults."""
    from dpaudit.judging import scored_files

    show(scored_files.values(answers, reference, win, longest), as_json)
