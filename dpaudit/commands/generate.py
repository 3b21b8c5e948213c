"""Batch answers to a file of prompts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpaudit.commands import options
from dpaudit.commands.output import show
from dpaudit.errors import UsageError
from dpaudit.pipeline import opening
from dpaudit.storage import run_store
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.stages.generate import Answerers


@dataclass(frozen=True)
class Answering:
    """The options that name who answers."""

    model: Annotated[
        str | None,
        typer.Option("--model", metavar="DIR", help="A whole model, such as a merged one or a base."),
    ] = None
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="DIR", help="An adapter, with its base.")
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="DIR", help="The adapter's base; default: the one that its files name."
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="NAME", help="A run in place of a model: its arms and its base."),
    ] = None
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", metavar="ARM", help="With --run: only this arm, or base; may be given again."),
    ] = None
    runs: options.Runs = run_store.RUNS


@dataclass(frozen=True)
class Drawn:
    """The options that say how answers are drawn."""

    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="greedy; sampled (temperature 0.7, top-p 0.9, repetition penalty 1.1); conservative (0.6, "
            "0.85, 1.15, no three tokens twice).",
        ),
    ] = "greedy"
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", min=1, max=100_000, help="Of an answer at most.")
    ] = 256
    seed: options.Seed = 0
    backend: Annotated[
        str, typer.Option("--backend", help="hf (Transformers), or vllm where it is installed.")
    ] = "hf"


@options.spread
def generate(
    prompts: Annotated[
        Path,
        typer.Argument(metavar="PROMPTS", help="Prompts or dialogues: JSON lines, JSON, CSV or Parquet."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="FILE.jsonl for one model, or a folder with a file for each model."
        ),
    ],
    answering: Answering,
    drawn: Drawn,
    as_json: options.Json = False,
) -> None:
    """Answer a file of prompts by a model, an adapter or the arms of a run."""
    from dpaudit.stages import generate as stage

    way = stage.way(drawn.preset, drawn.max_new_tokens, drawn.seed, drawn.backend)
    rows = stage.run(prompts, _answerers(answering), out, way, Progress())
    show({"generated": rows}, as_json)


def _answerers(answering: Answering) -> "Answerers":
    from dpaudit.stages import generate as stage

    if answering.run is None:
        if answering.arm:
            raise UsageError("--arm", "--run beside it", "no --run", "--run NAME")
        return stage.of_model(answering.adapter, answering.model, answering.base)
    given = [name for name in ("model", "adapter", "base") if getattr(answering, name) is not None]
    if given:
        raise UsageError("--run", "a run or a model", f"--{given[0]} beside it", "leave one out")
    return stage.of_run(*opening.opened(answering.run, answering.runs), answering.arm or [])
