"""The calculators: `account`, noise for an epsilon and back, and `bound`, what an attack's guesses prove."""

from pathlib import Path
from typing import Annotated

import typer

from dpaudit import terminal
from dpaudit.commands import options
from dpaudit.commands.groups import SETTINGS, show_help
from dpaudit.commands.output import show
from dpaudit.system.progress import Progress

bound_app = typer.Typer(help="Calculate: the epsilon that an attack's guesses prove.", **SETTINGS)
bound_app.callback()(show_help)


def account(
    delta: options.ClaimedDelta,
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", metavar="S", help="Noise multiplier; prints the epsilon it spends."),
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option("--eps", metavar="E", help="Epsilon; prints the noise multiplier it needs."),
    ] = None,
    rate: options.RateOrNone = None,
    batch: Annotated[
        float | None, typer.Option("--batch", metavar="B", help="Expected units per step; with --population.")
    ] = None,
    population: Annotated[
        int | None, typer.Option("--population", metavar="N", help="Number of units.")
    ] = None,
    steps: options.StepsOrNone = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            metavar="sigma=S,rate=Q,steps=T",
            help="An earlier stage on the same units, composed; may be given again.",
        ),
    ] = None,
    relation: Annotated[
        str, typer.Option("--relation", help="Neighbouring relation: add_or_remove or replace.")
    ] = "add_or_remove",
    everything: Annotated[
        bool, typer.Option("--all", help="Show two other accountants beside the answer.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Calculate: epsilon of a noise multiplier, or the noise for an epsilon."""
    from dpaudit.privacy import accounting

    question = accounting.Question(
        delta, sigma, eps, rate, batch, population, steps, relation, tuple(stage or ())
    )
    values = accounting.answer(question, everything)
    if warning := accounting.warning(delta, population):
        terminal.echo(warning, error=True)
    if everything and relation != "add_or_remove":
        terminal.echo("note: the other accountants know the relation add_or_remove only", error=True)
    show(values, as_json)


@bound_app.command("one-run")
def bound_one_run(
    canaries: Annotated[
        int, typer.Option("--canaries", metavar="M", help="Canaries, each put in or left out by a coin.")
    ],
    guesses: Annotated[
        int, typer.Option("--guesses", metavar="R", help="How many of the coins (in or out) were guessed.")
    ],
    correct: Annotated[int, typer.Option("--correct", metavar="V", help="Guesses that were right.")],
    delta: options.ClaimedDelta,
    confidence: options.Confidence = 0.95,
    method: Annotated[
        str, typer.Option("--method", help="one-run, or f-dp: inside the Gaussian family.")
    ] = "one-run",
    rate: options.RateOrNone = None,
    steps: options.StepsOrNone = None,
    as_json: options.Json = False,
) -> None:
    """From the counts of one training run, with its ceiling."""
    from dpaudit.evidence import bounds

    sampled = bounds.sampled(rate, steps)
    show(bounds.one_run(canaries, guesses, correct, delta, confidence, method, sampled), as_json)


@bound_app.command("scores")
def bound_scores(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or Parquet with columns score, included.")
    ],
    delta: options.ClaimedDelta,
    method: Annotated[
        str, typer.Option("--method", help="one-run, f-dp, clopper-pearson or bayes.")
    ] = "one-run",
    guesses: Annotated[
        int | None,
        typer.Option(
            "--guesses", metavar="R", help="One run: number of highest scores to guess; default 40 %."
        ),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            "--threshold", metavar="T", help="Many runs: a threshold declared beforehand; may be given again."
        ),
    ] = None,
    confidence: options.Confidence = 0.95,
    rate: options.RateOrNone = None,
    steps: options.StepsOrNone = None,
    as_json: options.Json = False,
) -> None:
    """From anybody's scores and coins."""
    from dpaudit.evidence import bounds

    values = bounds.of_scores(
        file, method, delta, confidence, guesses, threshold or (), bounds.sampled(rate, steps)
    )
    show(values, as_json)


@bound_app.command("power")
def bound_power(
    eps: Annotated[float, typer.Option("--eps", metavar="E", help="The claimed epsilon.")],
    rate: options.Rate,
    steps: options.Steps,
    delta: options.ClaimedDelta,
    violation: Annotated[
        str,
        typer.Option(
            "--violation", help="The violation to detect: noise/2, rate*4, steps*3, or other numbers."
        ),
    ] = "noise/2",
    canaries: Annotated[
        list[int] | None,
        typer.Option("--canaries", metavar="M", min=20, help="Number of canaries; may be given again."),
    ] = None,
    confidence: options.Confidence = 0.95,
    as_json: options.Json = False,
) -> None:
    """How many canaries and guesses would detect a violation."""
    from dpaudit.evidence import planning

    plan, counts = planning.AuditPlan(eps, delta, rate, steps, violation), canaries or planning.CANARIES
    with Progress().task("power of each number of canaries", len(counts)) as advance:
        values = planning.power(plan, counts, confidence, advance)
    show(values, as_json)
