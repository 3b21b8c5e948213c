"""`dpaudit plan`: what a suite will do, spend, take and be able to say, before anything is spent."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpaudit import terminal
from dpaudit.commands import options
from dpaudit.commands.asked import Asked
from dpaudit.commands.output import show
from dpaudit.errors import UsageError
from dpaudit.machines import place
from dpaudit.pipeline import gate, plans, repeat, sequence
from dpaudit.storage import run_store
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress
from dpaudit.training import ranks

if TYPE_CHECKING:
    from dpaudit.pipeline.ahead import Wanted

DEFAULT = "demo"  # the suite where none is named


@options.spread
def plan(
    asked: Asked,
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUITE]", help="As --suite, which may be left out.", autocompletion=options.suites
        ),
    ] = None,
    suite: options.Suite = None,
    seed: options.SeedOrNone = None,
    insecure_seed: options.InsecureSeed = None,
    no_measure: options.NoMeasure = False,
    arm: options.Arms = None,
    micro_batch: options.MicroBatch = None,
    allow_egress: options.RunEgress = None,
    workers: options.Workers = None,
    on: options.On = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Show what a suite will do, take and be able to prove; nothing is trained."""
    from dpaudit.pipeline.ahead import Wanted

    where = place.typed(on, workers)
    if named is not None and suite not in (None, named):
        raise UsageError("--suite", "one suite", f"{named} and {suite}", "leave one out")
    made = planned(named or suite, asked, seed, insecure_seed, is_forecast=True, runs=runs)
    wanted = Wanted(workers, where, not no_measure, True, arm, allow_egress or ())
    tell(placed(made, micro_batch), wanted, runs, as_json)


def planned(
    suite: str | None,
    asked: Asked,
    seed: int | None,
    insecure_seed: int | None,
    is_forecast: bool,
    runs: Path,
) -> Plan:
    """The plan of what was typed, with the model and the data that were typed at hand; of a forecast only
    what it looks at.
    """
    changed = asked.overrides()
    if asked.repeat_of is None:
        made = plans.resolve(suite or DEFAULT, changed, seed or 0, insecure_seed)
    else:
        made = repeat.plan_of(asked.repeat_of, runs, suite, changed, seed, insecure_seed)
    if suite is not None and ranks.leads() and not changed.keys() & {"name", "data.source"}:
        _tell_name(suite, made)
    plans.fetch(changed, weights=not is_forecast)
    return made


def _tell_name(suite: str, made: Plan) -> None:
    """Says what a run is called whose suite bears another name than its file, as a copy of one does."""
    if made.suite.name != Path(suite).stem:
        Progress().say(f"note: the run is called {made.suite.name}, as `name:` in {suite} says")


def placed(made: Plan, micro_batch: int | None) -> Plan:
    """The plan with what was typed for a forward pass, which is no part of plan.json."""
    if micro_batch is None:
        return made
    return made.with_settings({"training.micro_batch": micro_batch}, "--micro-batch")


def tell(made: Plan, wanted: "Wanted", runs: Path, as_json: bool) -> None:
    """Prints what the plan comes to; of `plan` and of `--dry-run`."""
    from dpaudit.pipeline import ahead
    from dpaudit.stages.train import forecast

    made.suite.grid.named(wanted.only)
    sequence.tell_earlier(made, runs, Progress())
    gate.check(made, is_forecast=True)
    sequence.tell_ahead(made, runs, Progress())
    found = ahead.told(made, wanted, runs, Progress())
    trained = wanted.on.told() if wanted.on is not None else forecast.here(made, wanted.workers)
    beside = {"arms_train": trained, "caveat": made.caveat}
    if as_json:
        show({**found, **beside}, as_json)
        return
    warnings = found.pop("warnings")
    show({**found, **beside}, as_json)
    for warning in warnings:
        terminal.echo(terminal.visible(f"warning: {warning}"))
