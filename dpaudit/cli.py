"""The command line: parses, calls a stage, prints. Results go to stdout, progress and errors to stderr."""

import atexit
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dpaudit import __version__, later, pipeline, terminal
from dpaudit.commands import overview
from dpaudit.commands.options import (
    ArmOption,
    BaselineOption,
    ChainOption,
    ClaimOption,
    CommitmentOption,
    ConfidenceOption,
    DataOption,
    DeltaOption,
    DpoOption,
    DryOption,
    EgressOption,
    EpsOption,
    InsecureOption,
    JsonOption,
    KeyOption,
    LaterOption,
    MicroBatchOption,
    ModelOption,
    PublicOption,
    RateOption,
    RecipeOption,
    RowsOption,
    RubricOption,
    RunOption,
    RunsOption,
    SeedOption,
    SeedsOption,
    SetOption,
    ShadowsOption,
    StageOption,
    StartOption,
    StepsOption,
    SuiteArgument,
    SuiteOption,
    TaskOption,
    TextOption,
    TwinOption,
    UnitOption,
    WorkersOption,
)
from dpaudit.errors import GuardError, Mistakes, PartialError, UsageError, unread
from dpaudit.evidence import claims
from dpaudit.page import tables
from dpaudit.storage import custody, disk, rundir
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system import egress, faults, interrupts, libraries
from dpaudit.system.progress import Progress
from dpaudit.training import ranks

FAILED = 1
UNFIT = 4
READER_LEFT = 141  # as a shell tells SIGPIPE
REFUSED: dict[type[OSError], str] = {
    NotADirectoryError: "a folder",
    IsADirectoryError: "a file",
    FileNotFoundError: "an existing path",
    PermissionError: "a path with permission to read and write",
}
ORDER = (
    "demo",
    "run",
    "train",
    "attack",
    "eval",
    "judge",
    "report",
    "plant",
    "verify",
    "account",
    "bound",
    "merge",
    "doctor",
    "ls",
    "show",
)  # as the work goes
SETTINGS: dict[str, Any] = {
    "invoke_without_command": True,
    "add_completion": False,
    "rich_markup_mode": None,
    # its tracebacks can show local variables, and those hold patients' texts
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


EXAMPLES = {  # a whole command for each that cannot do without an option
    "dpaudit run": "dpaudit run demo",
    "dpaudit plant": "dpaudit plant data.jsonl --out planted.jsonl --key key.json",
    "dpaudit verify": f"dpaudit verify --adapter DIR --key FILE {claims.EXAMPLE}",
    "dpaudit account": "dpaudit account --delta 1e-5 --sigma 1 --rate 0.01 --steps 1000",
    "dpaudit bound one-run": "dpaudit bound one-run --canaries 1000 --guesses 400 --correct 260 --delta 1e-5",
    "dpaudit bound scores": "dpaudit bound scores scores.csv --delta 1e-5",
    "dpaudit bound power": "dpaudit bound power --eps 8 --rate 0.01 --steps 1000 --delta 1e-5",
    "dpaudit merge": "dpaudit merge --arm sft-eps8 --out model",
}


class InOrder(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    cls=InOrder, help="Verifies the differential-privacy claim of a fine-tuned language model.", **SETTINGS
)
attack_app = typer.Typer(help="What an attacker can do: scores, then bounds and verdicts.", **SETTINGS)
judge_app = typer.Typer(help="Compare the arms' answers in pairs.", **SETTINGS)
report_app = typer.Typer(help="The page of a run.", **SETTINGS)
bound_app = typer.Typer(help="Calculate: the epsilon that an attack's guesses prove.", **SETTINGS)
app.add_typer(attack_app, name="attack")
app.add_typer(judge_app, name="judge")
app.add_typer(report_app, name="report")
app.add_typer(bound_app, name="bound")


def _version(wanted: bool) -> None:
    if wanted:
        terminal.echo(f"dpaudit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Verifies the differential-privacy claim of a fine-tuned language model."""
    if ranks.count() > 1 and context.invoked_subcommand != "train":
        raise UsageError(
            "torchrun",
            "dpaudit train, the one command that several processes share",
            f"dpaudit {context.invoked_subcommand or ''}".strip(),
            "type it without torchrun",
        )
    _help(context)


@attack_app.callback()
@report_app.callback()
@bound_app.callback()
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        terminal.echo(context.get_help())


@app.command()
def demo(
    seed: SeedOption = 0,
    insecure_seed: InsecureOption = None,
    workers: WorkersOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Run the whole lab on the embedded teaching model and clinic."""
    plan = pipeline.resolve("demo", {}, seed, insecure_seed)
    _tell_run(pipeline.everything(plan, runs, Progress(), workers=workers), plan, as_json)


@app.command()
def run(
    suite: SuiteArgument,
    eps: EpsOption = None,
    dpo: DpoOption = None,
    model: ModelOption = None,
    data: DataOption = None,
    rows: RowsOption = None,
    text: TextOption = None,
    unit: UnitOption = None,
    seed: SeedOption = 0,
    insecure_seed: InsecureOption = None,
    settings: SetOption = None,
    no_baseline: BaselineOption = False,
    stage: StageOption = None,
    chain: ChainOption = None,
    seeds: SeedsOption = None,
    start: StartOption = None,
    assume_public: PublicOption = False,
    allow_delta: DeltaOption = False,
    twin: TwinOption = False,
    dry_run: DryOption = False,
    micro_batch: MicroBatchOption = None,
    allow_egress: EgressOption = None,
    workers: WorkersOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Run every stage of a suite; typed again, it resumes."""
    changed = pipeline.overrides(
        eps,
        dpo,
        model,
        data,
        unit,
        not no_baseline,
        settings or (),
        pipeline.Grid(stage, chain, seeds, start, assume_public, allow_delta, twin),
        rows,
        text,
    )
    plan = pipeline.resolve(suite, changed, seed, insecure_seed)
    pipeline.fetch(changed, weights=not dry_run)
    if dry_run:
        _forecast(plan, runs, as_json)
        return
    run_dir = pipeline.everything(plan, runs, Progress(), allow_egress or (), workers, micro_batch)
    _tell_run(run_dir, plan, as_json)


@app.command()
def train(
    eps: EpsOption = None,
    dpo: DpoOption = None,
    suite: SuiteOption = "demo",
    model: ModelOption = None,
    data: DataOption = None,
    rows: RowsOption = None,
    text: TextOption = None,
    unit: UnitOption = None,
    seed: SeedOption = 0,
    insecure_seed: InsecureOption = None,
    settings: SetOption = None,
    no_baseline: BaselineOption = False,
    stage: StageOption = None,
    chain: ChainOption = None,
    seeds: SeedsOption = None,
    start: StartOption = None,
    assume_public: PublicOption = False,
    allow_delta: DeltaOption = False,
    twin: TwinOption = False,
    dry_run: DryOption = False,
    arm: ArmOption = None,
    micro_batch: MicroBatchOption = None,
    workers: WorkersOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Train one adapter for each epsilon, and the non-private arm."""
    changed = pipeline.overrides(
        eps,
        dpo,
        model,
        data,
        unit,
        not no_baseline,
        settings or (),
        pipeline.Grid(stage, chain, seeds, start, assume_public, allow_delta, twin),
        rows,
        text,
    )
    plan = pipeline.resolve(suite, changed, seed, insecure_seed)
    pipeline.fetch(changed, weights=not dry_run)
    if dry_run:
        _forecast(plan, runs, as_json)
        return
    run_dir = pipeline.train(plan, runs, Progress(), arm, workers, micro_batch)
    noted = run_dir.read_json("corpus/manifest.json").get("commitment")
    _tell(run_dir, plan, {"arms": overview.arm_rows(run_dir, plan), "commitment": noted}, as_json)


@attack_app.command("mia")
def attack_mia(
    run: RunOption = None,
    arm: ArmOption = None,
    recipe: RecipeOption = None,
    shadows: ShadowsOption = None,
    workers: WorkersOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Membership inference on canaries and records."""
    run_dir, plan = _opened(run, runs)
    pipeline.attack(run_dir, plan, Progress(), "mia", arm, recipe, shadows, workers)
    found = overview.narrowed(overview.verdict_rows(run_dir, plan), arm, recipe)
    inside = overview.narrowed(overview.inside_rows(run_dir, plan), arm, None)
    _tell(run_dir, plan, {"verdicts": found, **({"inside": inside} if inside else {})}, as_json)


@attack_app.command("extract")
def attack_extract(
    run: RunOption = None,
    arm: ArmOption = None,
    recipe: RecipeOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Extraction: planted secrets by rank and by sampling, and personal fields of real records."""
    run_dir, plan = _opened(run, runs)
    pipeline.attack(run_dir, plan, Progress(), "extract", arm, recipe)
    _tell(run_dir, plan, overview.extract_tables(run_dir, plan, arm, recipe), as_json)


@attack_app.command("preference")
def attack_preference(
    run: RunOption = None,
    arm: ArmOption = None,
    recipe: RecipeOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Membership of preference pairs in the training of DPO arms."""
    run_dir, plan = _opened(run, runs)
    pipeline.attack(run_dir, plan, Progress(), "preference", arm, recipe)
    found = overview.narrowed(overview.verdict_rows(run_dir, plan, "preference"), arm, recipe)
    _tell(run_dir, plan, {"verdicts": found}, as_json)


@attack_app.command("list")
def attack_list(as_json: JsonOption = False) -> None:
    """List the attack recipes."""
    _print({"recipes": overview.recipe_rows()}, as_json)


@app.command("eval")
def evaluate(
    run: RunOption = None,
    task: TaskOption = None,
    settings: LaterOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Measure quality: benchmarks and held-out bits per byte."""
    from dpaudit.stages import evaluate

    run_dir, plan = _opened(run, runs)
    plan = later.evaluation(run_dir, plan, task or (), settings or ())
    evaluate.run(run_dir, plan, Progress())
    _tell(run_dir, plan, {"quality": overview.quality_rows(run_dir, plan)}, as_json)


@judge_app.callback()
def judge(
    context: typer.Context,
    run: RunOption = None,
    rubric: RubricOption = None,
    settings: LaterOption = None,
    allow_egress: EgressOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Compare the arms' answers in pairs, in both orders."""
    if context.invoked_subcommand is not None:
        if any((run, rubric, settings, allow_egress, as_json, runs != rundir.RUNS)):
            raise UsageError(
                "dpaudit judge",
                f"options behind the word {context.invoked_subcommand}",
                "some before it",
                f"dpaudit judge {context.invoked_subcommand} OPTIONS",
            )
    else:
        from dpaudit.stages import judge

        run_dir, plan = _opened(run, runs)
        plan = later.judging(run_dir, plan, rubric, settings or (), allow_egress or ())
        if plan.suite.judging is None:
            raise UsageError(
                f"{run_dir.name}: judging", "a rubric to judge by", "none", "dpaudit judge --rubric NAME"
            )
        judge.run(run_dir, plan, Progress(), allow_egress=allow_egress or ())
        _tell(run_dir, plan, overview.judge_summary(run_dir), as_json)


@judge_app.command("validate")
def judge_validate(
    run: RunOption = None,
    rubric: RubricOption = None,
    settings: LaterOption = None,
    allow_egress: EgressOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Check the judge on planted faults; exit code 4 where it is unfit."""
    from dpaudit.stages import judge

    run_dir, plan = _opened(run, runs)
    plan = later.judging(run_dir, plan, rubric, settings or (), allow_egress or (), are_arms_judged=False)
    fit = judge.validate(run_dir, plan, Progress(), allow_egress=allow_egress or ())
    _tell(run_dir, plan, {"fit": fit, "controls": overview.control_rows(run_dir)}, as_json)
    raise typer.Exit(0 if fit else UNFIT)


@report_app.command("html")
def report_html(run: RunOption = None, runs: RunsOption = rundir.RUNS, as_json: JsonOption = False) -> None:
    """Write the page: one HTML file that needs no network."""
    from dpaudit.stages import report

    run_dir, plan = _opened(run, runs)
    _tell(run_dir, plan, {"page": str(report.run(run_dir, plan, Progress()))}, as_json)


@app.command()
def plant(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="JSONL: ShareGPT, messages, Alpaca, prompts, pairs or text."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The data to train on; not there yet.")],
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="The coins and secrets; keep it from the trainer.")
    ],
    canaries: Annotated[
        int, typer.Option("--canaries", metavar="M", help="How many, 100 to 20,000; about half go in.")
    ] = 500,
    unit: Annotated[
        str, typer.Option("--unit", help="What a canary is one of: record, patient or pair.")
    ] = "record",
    family: Annotated[
        str, typer.Option("--family", help="What a secret is made of: invented words, or common words.")
    ] = "invented",
    as_json: JsonOption = False,
) -> None:
    """Put canaries into data that somebody else will train on."""
    from dpaudit.planting import plant

    _print(plant.plant(data, out, key, canaries, unit, family), as_json)


@app.command()
def verify(
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="DIR", help="The adapter that came out.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="DIR", help="A merged model, with --base; of an endpoint, its name."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="An OpenAI-compatible server with prompt log-probs."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="DIR", help="What was fine-tuned; of an endpoint, its name there."),
    ] = None,
    key: KeyOption = None,
    claim: ClaimOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="The planted file: checks that the key fits."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the page goes; else verification/.")
    ] = None,
    conformance: Annotated[
        Path | None,
        typer.Option("--conformance", metavar="FILE", help="What dpaudit.callback recorded, for the page."),
    ] = None,
    allow_egress: EgressOption = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", metavar="DIR", help="Of an endpoint: whose chat template to ask in."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="A run, for its own claims.")
    ] = None,
    arm: Annotated[
        str | None,
        typer.Option("--arm", metavar="ARM", help="With --run: the arm of a --claim that is added later."),
    ] = None,
    commitment: CommitmentOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Test a claim: exit code 1 refuted, 4 no power, 0 not refuted."""
    from dpaudit.stages import declared, verify
    from dpaudit.stages.integrity import custody as chain

    if run is not None:
        if any(option is not None for option in (adapter, model, endpoint, base, tokenizer, key)):
            raise UsageError("--run", "the claims of a run, alone", "options of another model")
        run_dir, plan = _opened(run, runs)
        noted = chain.noted(run_dir, commitment) if commitment else {}
        alone = claim is None and not plan.suite.claims
        if noted and (alone or noted["noted_before"] == custody.ANOTHER):  # asked first: it needs no attack
            _tell(run_dir, plan, noted, as_json)
            raise typer.Exit(FAILED if noted["noted_before"] == custody.ANOTHER else 0)
        plan = later.claim(run_dir, plan, arm, claim)
        found = declared.verdicts(run_dir, plan)
        lost = overview.lost_rows(run_dir)
        _tell(
            run_dir, plan, {"declared": found, **({"records_lost": lost} if lost else {}), **noted}, as_json
        )
        said = [row[key] for row in found for key in ("verdict", "ledger") if row[key]]
        raise typer.Exit(verify.exit_code(said))
    if arm is not None:
        raise UsageError("--arm", "--run with it, whose arm it is", "none", "--run NAME")
    if key is None or claim is None:
        raise UsageError(
            "dpaudit verify",
            "--key FILE and --claim, or --run NAME",
            "no --key" if key is None else "no --claim",
            f"for example: {EXAMPLES['dpaudit verify']}; or: dpaudit verify --run NAME",
        )
    audited = verify.Audited(adapter, model, endpoint, base, tuple(allow_egress or ()), tokenizer)
    told = verify.run(audited, key, claims.parse(claim), Progress(), out, data, conformance, commitment)
    _print(told if as_json else verify.summary(told), as_json)
    kept = told.get("noted_before") != custody.ANOTHER
    raise typer.Exit(verify.exit_code([told["verdict"]["verdict"]]) if kept else FAILED)


@app.command()
def account(
    delta: Annotated[float, typer.Option("--delta", metavar="D", help="The claim's delta.")],
    sigma: Annotated[
        float | None, typer.Option("--sigma", metavar="S", help="Noise multiplier: tells its epsilon.")
    ] = None,
    eps: Annotated[
        float | None, typer.Option("--eps", metavar="E", help="Epsilon: tells the noise multiplier it needs.")
    ] = None,
    rate: RateOption = None,
    batch: Annotated[
        float | None, typer.Option("--batch", metavar="B", help="Expected units a step; with --population.")
    ] = None,
    population: Annotated[
        int | None, typer.Option("--population", metavar="N", help="Number of units.")
    ] = None,
    steps: StepsOption = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            metavar="sigma=S,rate=Q,steps=T",
            help="An earlier stage on the same units, composed; may be given again.",
        ),
    ] = None,
    relation: Annotated[
        str, typer.Option("--relation", help="What neighbours are: add_or_remove or replace.")
    ] = "add_or_remove",
    everything: Annotated[
        bool, typer.Option("--all", help="Two other accountants beside the answer.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Calculate: epsilon of a noise multiplier, or the noise for an epsilon."""
    from dpaudit.privacy import accounting

    question = accounting.Question(
        delta, sigma, eps, rate, batch, population, steps, relation, tuple(stage or ())
    )
    found = accounting.answer(question, everything)
    if told := accounting.warning(delta, population):
        terminal.echo(told, error=True)
    if everything and relation != "add_or_remove":
        terminal.echo("note: the other accountants know the relation add_or_remove alone", error=True)
    _print(found, as_json)


@bound_app.command("one-run")
def bound_one_run(
    canaries: Annotated[int, typer.Option("--canaries", metavar="M", help="Canaries with a coin each.")],
    guesses: Annotated[int, typer.Option("--guesses", metavar="R", help="Coins that were guessed.")],
    correct: Annotated[int, typer.Option("--correct", metavar="V", help="Guesses that were right.")],
    delta: Annotated[float, typer.Option("--delta", metavar="D", help="The claim's delta.")],
    confidence: ConfidenceOption = 0.95,
    method: Annotated[
        str, typer.Option("--method", help="one-run, or f-dp: inside the Gaussian family.")
    ] = "one-run",
    rate: RateOption = None,
    steps: StepsOption = None,
    as_json: JsonOption = False,
) -> None:
    """From the counts of one training run, with its ceiling."""
    from dpaudit.evidence import bounds

    sampled = bounds.sampled(rate, steps)
    _print(bounds.one_run(canaries, guesses, correct, delta, confidence, method, sampled), as_json)


@bound_app.command("scores")
def bound_scores(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or Parquet with columns score, included.")
    ],
    delta: Annotated[float, typer.Option("--delta", metavar="D", help="The claim's delta.")],
    method: Annotated[
        str, typer.Option("--method", help="one-run, f-dp, clopper-pearson or bayes.")
    ] = "one-run",
    guesses: Annotated[
        int | None,
        typer.Option("--guesses", metavar="R", help="One run: how many of the highest scores; else 40 %."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option("--threshold", metavar="T", help="Many runs: declared beforehand; may be given again."),
    ] = None,
    confidence: ConfidenceOption = 0.95,
    rate: RateOption = None,
    steps: StepsOption = None,
    as_json: JsonOption = False,
) -> None:
    """From anybody's scores and coins."""
    from dpaudit.evidence import bounds

    found = bounds.of_scores(
        file, method, delta, confidence, guesses, threshold or (), bounds.sampled(rate, steps)
    )
    _print(found, as_json)


@bound_app.command("power")
def bound_power(
    eps: Annotated[float, typer.Option("--eps", metavar="E", help="The claimed epsilon.")],
    rate: Annotated[
        float, typer.Option("--rate", metavar="Q", help="Probability of a unit to be in a step.")
    ],
    steps: Annotated[int, typer.Option("--steps", metavar="T", help="Number of steps.")],
    delta: Annotated[float, typer.Option("--delta", metavar="D", help="The claim's delta.")],
    violation: Annotated[
        str, typer.Option("--violation", help="What is wrong: noise/2, rate*4, steps*3, or other numbers.")
    ] = "noise/2",
    canaries: Annotated[
        list[int] | None,
        typer.Option("--canaries", metavar="M", min=20, help="So many canaries; may be given again."),
    ] = None,
    confidence: ConfidenceOption = 0.95,
    as_json: JsonOption = False,
) -> None:
    """How many canaries and guesses would detect a violation."""
    from dpaudit.evidence import planning

    plan = planning.Plan(eps, delta, rate, steps, violation)
    _print(planning.power(plan, canaries or planning.CANARIES, confidence), as_json)


@app.command()
def merge(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the model goes; not there yet.")],
    arm: Annotated[str | None, typer.Option("--arm", metavar="ARM", help="The arm of the run.")] = None,
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="An adapter folder outside a run, in place of --arm."),
    ] = None,
    model: ModelOption = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32 or bfloat16; without it the base's.")
    ] = None,
    shard_size: Annotated[
        str, typer.Option("--shard-size", metavar="SIZE", help="Largest file of weights, such as 500MB.")
    ] = "2GB",
    assume_public: Annotated[
        bool, typer.Option("--assume-public", help="Take an adapter without a ledger for public.")
    ] = False,
    run: RunOption = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Merge an adapter into its base, with its ledger."""
    from dpaudit.stages.train import merge

    if (arm is None) == (adapter is None):
        raise UsageError(
            "dpaudit merge",
            "--arm of a run, or --adapter",
            "both" if arm else "neither",
            f"for example: {EXAMPLES['dpaudit merge']}",
        )
    pipeline.fetch({"model.base": model})
    if adapter is not None:
        source = merge.of_folder(adapter, model, dtype, assume_public)
    else:
        run_dir, plan = _opened(run, runs)
        source = merge.of_run(run_dir, plan, str(arm), model, dtype)
    _print(merge.run(source, out, shard_size, Progress()), as_json)


@app.command()
def doctor(
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test", help="Audit the auditor: the engine and every broken trainer, without a model."
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Another one draws other runs of the self-test.")] = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Processes; without it one a core.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the machine, or with --self-test the auditor itself."""
    from dpaudit.commands import doctor

    if not self_test:
        _print(doctor.machine(), as_json)
        return
    from dpaudit.commands import selftest

    found = selftest.run(Progress(), seed, workers or doctor.cores())
    _print(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


@app.command("ls")
def list_runs(runs: RunsOption = rundir.RUNS, as_json: JsonOption = False) -> None:
    """List the runs, the one used last at the end."""
    rows = [overview.run_row(run_dir) for run_dir in rundir.existing(runs)]
    _print({"runs": rows, "caveat": overview.caveat_of(rows)}, as_json)


@app.command()
def show(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; without it the one used last.")
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter", metavar="DIR", help="An adapter that lies anywhere: which arm of a run it is."
        ),
    ] = None,
    runs: RunsOption = rundir.RUNS,
    as_json: JsonOption = False,
) -> None:
    """Show a run: its plan, its arms, which outputs are current, its page."""
    if adapter is not None:
        from dpaudit.stages.integrity import custody as chain

        among = rundir.existing(runs) if run is None else [rundir.find(run, runs)]
        found = chain.origins(adapter, among)
        _print({"adapter": str(adapter), "sha256": found[0]["sha256"], "origins": found}, as_json)
        return
    run_dir, plan = _opened(run, runs)
    _tell(run_dir, plan, overview.details(run_dir, plan), as_json)


def _opened(name: str | None, runs: Path) -> tuple[RunDir, Plan]:
    """The run and its plan, once every file that they rest on is found to be as it was written."""
    from dpaudit.stages.integrity import custody as chain

    run_dir = rundir.find(name, runs)
    chain.require_run(run_dir)
    plan = overview.plan_of(run_dir)
    chain.require(run_dir, plan)
    return run_dir, plan


def _forecast(plan: Plan, runs: Path, as_json: bool) -> None:
    from dpaudit.stages.train import forecast

    pipeline.tell_earlier(plan, runs, Progress())
    pipeline.check(plan, is_forecast=True)
    _print({"forecast": forecast.rows(plan, Progress()), "caveat": plan.caveat}, as_json)


def _tell_run(run_dir: RunDir, plan: Plan, as_json: bool) -> None:
    _tell(run_dir, plan, overview.results(run_dir, plan), as_json)


def _tell(run_dir: RunDir, plan: Plan, found: dict[str, Any], as_json: bool) -> None:
    named = {"run": run_dir.name, "path": str(run_dir.path), "caveat": plan.caveat}
    _print(named | found, as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if ranks.leads():
        terminal.echo(terminal.as_json(found) if as_json else tables.as_text(found))


def main() -> None:
    """The entry point: runs the command and turns its end into an exit code, which is never a verdict by
    accident.
    """
    libraries.hush()
    if ranks.leads():
        libraries.announce(lambda line: terminal.echo(line, error=True))
    alone = ranks.count() == 1
    if not alone:
        interrupts.end_with_parent(os.getppid())
    listening = interrupts.heard() if alone else nullcontext()  # torchrun ends its others by SIGTERM
    with listening:
        code = _ended()
        if code == interrupts.CODE:
            _failed(["interrupted; the same command resumes"], interrupts.CODE)
        if not code:
            ranks.leave()
        atexit.register(interrupts.hear_no_more)  # what is said is said: the code is to be that of the work
    sys.exit(code)


def _ended() -> int:
    """The exit code of the command; a failure is told."""
    try:
        _check_words(sys.argv[1:])
        with egress.closed():
            return int(app(prog_name="dpaudit", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return interrupts.CODE
    except BaseException as error:  # noqa: BLE001 (the outermost border; a panic of Rust is no Exception, an exit of a library neither)
        if interrupts.came() and not isinstance(error, PartialError):  # which says what an interrupt left
            return interrupts.CODE
        told = _told(error)
        return _failed(*told) if told else _fault_of_ours(error)


def _check_words(words: list[str]) -> None:
    """Raises UsageError for bytes that are no text: no JSON of a run could name such a file."""
    for word in words:
        if not word.isascii() and any("\udc80" <= character <= "\udcff" for character in word):
            raise UsageError(
                word, "words in UTF-8, names of files too", "bytes that are none", "rename the file"
            )


def _told(error: BaseException) -> tuple[list[str], int] | None:
    """The lines and the exit code of an error that is a user's to mend; None for any other."""
    if type(error).__name__ == "MissingParameter":
        return [_missing(error)], UsageError.exit_code
    if isinstance(error, typer.TyperException):  # an unknown command or option
        return [error.format_message()], error.exit_code
    if isinstance(error, Mistakes):
        return list(map(str, error.found)), error.exit_code
    found: BaseException | None = error
    if not isinstance(error, UsageError | PartialError | GuardError) and (got := disk.is_full(error)):
        found = PartialError(
            f"the disk: expected room for what is written, got {got}; make room and type the same command "
            f"again"
        )
    elif isinstance(error, OSError):
        found = _refused(error)
    elif isinstance(error, ValueError):
        found = _broken(error)
    return (
        ([str(found)], found.exit_code) if isinstance(found, UsageError | PartialError | GuardError) else None
    )


def _missing(error: Any) -> str:
    """What a command lacks, with a command that lacks nothing."""
    typed = error.ctx.command_path
    return f"{error.format_message().rstrip('.')}; for example: {EXAMPLES.get(typed, f'{typed} --help')}"


def _fault_of_ours(error: BaseException) -> int:
    """Leaves a log and a line that names it; of several processes, that which fails first does."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        return READER_LEFT  # Typer's own way, while it prints help
    ranks.fail(
        lambda: terminal.echo(f"dpaudit: {terminal.visible(faults.told(faults.report(error)))}", error=True)
    )
    return faults.EXIT_CODE


def _refused(error: OSError) -> UsageError | None:
    """What the system would not do with a path; None where it is not about a path, which is a fault of
    ours.
    """
    if error.filename is None or error.strerror is None:
        return None
    expected = next((words for kind, words in REFUSED.items() if isinstance(error, kind)), "a usable path")
    return unread(error.filename, expected, error)


def _broken(error: ValueError) -> UsageError | None:
    """A file of a run that is not what a stage wrote; None for any other fault. Never quotes the file."""
    if isinstance(error, json.JSONDecodeError):
        expected, got = "JSON", f"a syntax error in line {error.lineno}"
    elif type(error).__name__ == "ArrowInvalid" and type(error).__module__ == "pyarrow.lib":
        expected, got = "Parquet", "something else"
    else:
        return None
    return UsageError(
        "a file of the run",
        expected,
        got,
        "delete the file (`dpaudit show` names it) and type the command again",
    )


def _failed(messages: Sequence[str], code: int) -> int:
    """Prints a line for each message, once however many processes fail with it, and returns the code."""
    lines = [terminal.visible(f"dpaudit: {' '.join(message.split())}") for message in messages]

    def tell() -> None:
        for line in lines:
            terminal.echo(line, error=True)

    ranks.fail(tell)
    return code


if __name__ == "__main__":
    main()
