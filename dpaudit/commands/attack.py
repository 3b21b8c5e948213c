"""`dpaudit attack`: scores, then bounds and verdicts, on a trained run; and the list of recipes."""

from dataclasses import dataclass
from typing import Any

import typer

from dpaudit import content
from dpaudit.commands import attack, extracted, options, outcomes
from dpaudit.commands.groups import SETTINGS, show_help
from dpaudit.commands.output import show, show_of_run
from dpaudit.errors import UsageError
from dpaudit.machines import place
from dpaudit.pipeline import opening, sequence
from dpaudit.storage import run_store
from dpaudit.system.progress import Progress

RECIPE_KEYS = (  # of a recipe, as they are listed
    "name",
    "kind",
    "title",
    "access",
    "reference",
    "signal",
    "parameters",
    "minimum_canaries",
    "cost",
    "source",
)
app = typer.Typer(help="What an attacker can do: scores, then bounds and verdicts.", **SETTINGS)
app.callback()(show_help)


@dataclass(frozen=True)
class Attacked:
    """The options that all attacks share."""

    run: options.Run = None
    arm: options.Arms = None
    recipe: options.Recipes = None
    runs: options.Runs = run_store.RUNS
    as_json: options.Json = False


@app.command("mia")
@options.spread
def mia(
    asked: Attacked,
    shadows: options.Shadows = None,
    workers: options.Workers = None,
    on: options.On = None,
) -> None:
    """Membership inference on canaries and records."""
    where = place.typed(on, workers)
    if where is not None and shadows is None:
        raise UsageError(
            f"--on {where}",
            "--shadows beside it: nothing else of an attack is trained elsewhere",
            "no --shadows",
            "leave --on out, or add --shadows 16",
        )
    run_dir, plan = opening.opened(asked.run, asked.runs)
    sequence.attack(run_dir, plan, Progress(), "mia", asked.arm, asked.recipe, shadows, workers, where)
    verdicts = outcomes.narrowed(outcomes.verdict_rows(run_dir, plan), asked.arm, asked.recipe)
    inside = outcomes.narrowed(outcomes.inside_rows(run_dir, plan), asked.arm, None)
    answers = outcomes.narrowed(outcomes.answer_rows(run_dir), asked.arm, None)
    before = outcomes.narrowed(outcomes.before_rows(run_dir), asked.arm, None)
    values = {"verdicts": verdicts, **({"inside": inside} if inside else {}), "answers": answers}
    values["over_seeds"] = outcomes.seeds_rows(run_dir)
    values |= {"before": before} if before else {}
    show_of_run(run_dir, plan, values, asked.as_json)


@app.command("extract")
@options.spread
def extract(asked: Attacked) -> None:
    """Extraction: planted secrets by rank and by sampling, and personal fields of real records."""
    run_dir, plan = opening.opened(asked.run, asked.runs)
    sequence.attack(run_dir, plan, Progress(), "extract", asked.arm, asked.recipe)
    show_of_run(run_dir, plan, extracted.tables(run_dir, plan, asked.arm, asked.recipe), asked.as_json)


@app.command("preference")
@options.spread
def preference(asked: Attacked) -> None:
    """Membership of preference pairs in the training of DPO arms."""
    run_dir, plan = opening.opened(asked.run, asked.runs)
    sequence.attack(run_dir, plan, Progress(), "preference", asked.arm, asked.recipe)
    verdicts = outcomes.narrowed(outcomes.verdict_rows(run_dir, plan, "preference"), asked.arm, asked.recipe)
    show_of_run(run_dir, plan, {"verdicts": verdicts}, asked.as_json)


@app.command("list")
def recipes(as_json: options.Json = False) -> None:
    """List the attack recipes."""
    show({"recipes": attack.recipe_rows()}, as_json)


def recipe_rows() -> list[dict[str, Any]]:
    """A row for each attack recipe, shipped and own, with the file that it is read from."""
    from dpaudit.signals import recipe

    files, shipped = content.listing("attacks"), content.shipped("attacks")
    return [
        {
            **{key: getattr(known, key) for key in RECIPE_KEYS},
            "sees": known.threat,
            "least_shadows": known.least_shadows,
            "file": str(files[known.name]),
            "own": files[known.name].parent != shipped,
        }
        for known in recipe.load_all()
    ]
