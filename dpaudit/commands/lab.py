"""The lab: `demo`, `run` and `train` make a run; `eval` and `report` work on a finished one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from dpaudit.commands import options, outcomes, overview, release
from dpaudit.commands.asked import Asked
from dpaudit.commands.groups import SETTINGS, has_command
from dpaudit.commands.judge import UNFIT
from dpaudit.commands.output import show, show_of_run
from dpaudit.commands.plan import placed, planned, tell
from dpaudit.errors import UsageError
from dpaudit.machines import place
from dpaudit.pipeline import later, opening, plans, sequence
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

report_app = typer.Typer(help="Write the page of a run, verify it, compare two runs.", **SETTINGS)


def demo(
    seed: options.Seed = 0,
    insecure_seed: options.InsecureSeed = None,
    workers: options.Workers = None,
    on: options.On = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Run the whole lab on the embedded teaching model and clinic."""
    where = place.typed(on, workers)
    plan = plans.resolve("demo", {}, seed, insecure_seed)
    run_dir = sequence.everything(plan, runs, Progress(), workers=workers, on=where)
    show_of_run(run_dir, plan, overview.results(run_dir, plan), as_json)


@options.spread
def run(
    suite: options.SuiteName,
    asked: Asked,
    seed: options.SeedOrNone = None,
    insecure_seed: options.InsecureSeed = None,
    dry_run: options.DryRun = False,
    no_measure: options.NoMeasure = False,
    check: options.Check = False,
    micro_batch: options.MicroBatch = None,
    allow_egress: options.RunEgress = None,
    workers: options.Workers = None,
    on: options.On = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Run every stage of a suite; typed again, it resumes."""
    where = place.typed(on, workers)
    plan = planned(suite, asked, seed, insecure_seed, dry_run, runs)
    if check and not (plan.suite.claims or any(arm.private for arm in plan.suite.grid.arms)):
        raise UsageError("--check", "a private arm, or a claim of the suite", "neither", "add --eps E")
    if dry_run:
        from dpaudit.pipeline.ahead import Wanted

        wanted = Wanted(workers, where, not no_measure, allow_egress=allow_egress or ())
        tell(placed(plan, micro_batch), wanted, runs, as_json)
        return
    plans.allow_items(plan.suite, allow_egress or ())
    run_dir = sequence.everything(plan, runs, Progress(), allow_egress or (), workers, micro_batch, where)
    show_of_run(run_dir, plan, overview.results(run_dir, plan), as_json)
    if check:
        raise typer.Exit(_checked(run_dir, plan))


def _checked(run_dir: RunDir, plan: Plan) -> int:
    """The exit code that the run's claims and its judge call for: 1 outranks 4."""
    from dpaudit.findings.judgement import Judgement
    from dpaudit.stages import declared, judge, verify

    code = verify.exit_code([claim.verdict for claim in declared.verdicts(run_dir, plan) if claim.verdict])
    is_unfit = plan.suite.judging is not None and not Judgement.read(run_dir, judge.SUMMARY).fit
    return UNFIT if is_unfit and code == 0 else code


@options.spread
def train(
    asked: Asked,
    suite: options.Suite = None,
    seed: options.SeedOrNone = None,
    insecure_seed: options.InsecureSeed = None,
    dry_run: options.DryRun = False,
    no_measure: options.NoMeasure = False,
    arm: options.Arms = None,
    micro_batch: options.MicroBatch = None,
    allow_egress: options.Items = None,
    workers: options.Workers = None,
    on: options.On = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Train one adapter for each epsilon, and the non-private arm."""
    where = place.typed(on, workers)
    plan = planned(suite, asked, seed, insecure_seed, dry_run, runs)
    if dry_run:
        from dpaudit.pipeline.ahead import Wanted

        tell(placed(plan, micro_batch), Wanted(workers, where, not no_measure, False, arm), runs, as_json)
        return
    plans.allow_items(plan.suite, allow_egress or ())
    run_dir = sequence.train(plan, runs, Progress(), arm, workers, micro_batch, on=where)
    commitment = run_dir.read_json("corpus/manifest.json").get("commitment")
    arms, took = overview.arm_rows(run_dir, plan), overview.took_rows(run_dir, plan)
    values = {"arms": arms, "took": took, "commitment": commitment}
    show_of_run(run_dir, plan, values, as_json)


@dataclass(frozen=True)
class Elsewhere:
    """The options that name a model that no run trained."""

    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="No run: an adapter trained elsewhere."),
    ] = None
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="DIR", help="No run: a whole model; with --base it is compared."),
    ] = None
    base: Annotated[
        str | None, typer.Option("--base", metavar="DIR", help="The model that was fine-tuned.")
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for quality.json of that model; default quality/."),
    ] = None


@options.spread
def evaluate(
    elsewhere: Elsewhere,
    run: options.Run = None,
    task: options.Tasks = None,
    settings: options.Evaluated = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Measure quality: benchmarks and held-out bits per byte."""
    from dpaudit.stages import evaluate

    if elsewhere.adapter is not None or elsewhere.model is not None:
        _evaluate_elsewhere(elsewhere, run, task or (), settings or (), as_json)
        return
    for name in ("base", "out"):
        if getattr(elsewhere, name) is not None:
            raise UsageError(
                f"--{name}", "--adapter or --model beside it", "neither", f"leave --{name} out, or name one"
            )
    run_dir, plan = opening.opened(run, runs)
    plan = later.evaluation(run_dir, plan, task or (), settings or ())
    evaluate.run(run_dir, plan, Progress())
    values = {"quality": outcomes.quality_rows(run_dir, plan), **outcomes.compared_tables(run_dir)}
    show_of_run(run_dir, plan, values, as_json)


def _evaluate_elsewhere(
    elsewhere: Elsewhere, run: str | None, task: Sequence[str], settings: Sequence[str], as_json: bool
) -> None:
    from dpaudit.stages import evaluate_outside
    from dpaudit.stages.audited import Audited

    if run is not None:
        raise UsageError("--run", "a run, or a model trained elsewhere", "both", "leave one out")
    asked = later.outside(task, settings)
    model = Audited(elsewhere.adapter, elsewhere.model, base=elsewhere.base)
    out = elsewhere.out or Path("quality")
    found = evaluate_outside.run(evaluate_outside.Request(model, asked, out), Progress())
    file = str(out / evaluate_outside.FILE)
    tables = outcomes.compared(found.compared, found.changes, found.margin, found.fewest)
    told = {"quality": evaluate_outside.rows(found), **tables, "written": file}
    show({**found.to_json(), "written": file} if as_json else told, as_json)


@dataclass(frozen=True)
class Page:
    """The options of `report` and `report html`."""

    run: options.Run = None
    runs: options.Runs = run_store.RUNS
    as_json: options.Json = False
    public: options.Public = False
    lang: options.Lang = "en"


@report_app.callback()
@options.spread
def report(context: typer.Context, asked: Page) -> None:
    """Write the page: one HTML file that needs no network."""
    if not has_command(context, asked != Page()):
        _write_page(asked)


@report_app.command("html")
@options.spread
def report_html(asked: Page) -> None:
    """Write the page, as `dpaudit report` alone does."""
    _write_page(asked)


def _write_page(asked: Page) -> None:
    from dpaudit.stages import report, report_public, translated

    is_chinese = translated.language(asked.lang) == "zh"
    run_dir, plan = opening.opened(asked.run, asked.runs)
    if asked.public:
        page, edition = report_public.run(run_dir, plan)
        values: dict[str, object] = {
            **release.rows(map(asdict, edition.release)),
            "edition": edition.edition,
        }
    else:
        page = report.run(run_dir, plan, Progress())
        values = {**release.lines(run_dir)}
    written = report_public.PAGE if asked.public else report.PAGE
    if is_chinese:
        page = translated.write(run_dir, written, Progress())
        values = values if asked.as_json else release.in_chinese(values)
    show_of_run(run_dir, plan, {**values, "page": str(page)}, asked.as_json, written)
