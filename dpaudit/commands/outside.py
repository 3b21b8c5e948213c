"""Training by others: `plant` puts canaries into their data, `verify` tests the claim on what came out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpaudit import schema
from dpaudit.commands import observed, options, outcomes, overview
from dpaudit.commands.groups import EXAMPLES
from dpaudit.commands.output import show, show_of_run
from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.pipeline import later, opening
from dpaudit.storage import custody, run_store
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.stages.audited import Audited
    from dpaudit.stages.verify import Request

FAILED = 1  # another commitment than was noted down


@dataclass(frozen=True)
class UnderCoins:
    """The options that say what coins are thrown for."""

    canaries: Annotated[
        int | None,
        typer.Option(
            "--canaries",
            metavar="M",
            help="Number of canaries (planted rows), 100 to 20,000, 500 unless named; about half go in.",
        ),
    ] = None
    hold_out: Annotated[
        int | None,
        typer.Option(
            "--hold-out",
            metavar="N",
            help="No canaries: leave each of N units of the data out by a coin; N from 100 to 20,000.",
        ),
    ] = None
    unit: Annotated[
        str, typer.Option("--unit", help="What a coin is thrown for: record, patient or pair.")
    ] = "record"
    family: Annotated[
        str | None,
        typer.Option(
            "--family",
            help="What secrets are made of: invented (words that nobody uses, unless named) or words (common "
            "words), which stand out; natural (random words in rows like the file's own), which hardly does.",
        ),
    ] = None
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop",
            metavar="COLUMN",
            help="Leave a column out of the file to write, such as free text that no canary can have; may be "
            "given again.",
        ),
    ] = None


@options.spread
def plant(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="JSONL, JSON, CSV, Parquet or texts, also gzipped, or a folder of such files.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="The data file to write, for training; must not exist yet."
        ),
    ],
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            metavar="FILE",
            help="The key file to write: which rows are in (the coins), secrets. Keep it from the trainer.",
        ),
    ],
    thrown: UnderCoins,
    as_json: options.Json = False,
) -> None:
    """Put canaries into data for training elsewhere."""
    from dpaudit.planting import hold_out
    from dpaudit.planting import plant as planting

    units, canaries, family = thrown.hold_out, thrown.canaries, thrown.family
    with Progress().task("planting", total=1) as advance:
        if units is None:
            count, drop = 500 if canaries is None else canaries, thrown.drop or ()
            told = planting.plant(data, out, key, count, thrown.unit, family or "invented", drop)
        elif canaries is not None or family is not None or thrown.drop:
            raise UsageError(
                "--hold-out",
                "canaries or units to hold out",
                "both",
                "leave out --hold-out, or --canaries, --family and --drop",
            )
        else:
            told = hold_out.hold_out(data, out, key, units, thrown.unit)
        advance(1)
    show(told, as_json)


@dataclass(frozen=True)
class Outside:
    """The options that name a model of others, and what it is audited by."""

    adapter: Annotated[
        list[Path] | None,
        typer.Option(
            "--adapter",
            metavar="DIR",
            help="The adapter to test; may be given again, each with its --claim or all with one.",
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR",
            help="A merged model (with --base), or the model's name at the endpoint.",
        ),
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="An OpenAI-compatible server with prompt log-probs."),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="DIR", help="The model that was fine-tuned, or its name at the endpoint."
        ),
    ] = None
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="DIR",
            help="The folder whose chat template to use; default: the model's own, at an endpoint none.",
        ),
    ] = None
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The key that `dpaudit plant` wrote.")
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="The planted file: checks that the key fits. Of --hold-out, the original.",
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the page; default verification/.")
    ] = None
    send_real_rows: Annotated[
        bool,
        typer.Option("--send-real-rows", help="With a key of --hold-out: send real rows to the --endpoint."),
    ] = False
    conformance: Annotated[
        Path | None,
        typer.Option(
            "--conformance", metavar="FILE", help="The record of dpaudit.callback, to show on the page."
        ),
    ] = None
    observed: Annotated[
        Path | None,
        typer.Option(
            "--observed",
            metavar="FILE",
            help="The record of dpaudit.observe, in place of a model; --key is the key it wrote.",
        ),
    ] = None
    mechanism: Annotated[
        str | None,
        typer.Option(
            "--mechanism",
            metavar="SPEC",
            help="With --observed: what is claimed to have run, sigma=S,rate=R,steps=N.",
        ),
    ] = None
    lang: options.Lang = "en"
    allow_egress: options.Egress = None
    control: Annotated[
        Path | None,
        typer.Option("--control", metavar="DIR", help="An adapter trained on the same file without noise."),
    ] = None
    train_control: Annotated[
        bool,
        typer.Option("--train-control", help="Train such an adapter first, into the folder of the page."),
    ] = False
    control_steps: Annotated[
        int | None,
        typer.Option(
            "--control-steps",
            metavar="N",
            help="Its training steps, 8 rows in each; default: as many as three epochs take.",
        ),
    ] = None
    control_rate: Annotated[
        float | None,
        typer.Option("--control-rate", metavar="RATE", help="Its learning rate; default 0.001."),
    ] = None


@dataclass(frozen=True)
class OfRun:
    """The options that name a run, whose own claims are tested."""

    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="NAME", help="A run: checks claims under claims: of its suite or added later."
        ),
    ] = None
    arm: Annotated[
        str | None,
        typer.Option(
            "--arm",
            metavar="ARM",
            help="With --run: the arm (trained adapter) of a --claim that you add later.",
        ),
    ] = None
    runs: options.Runs = run_store.RUNS


@options.spread
def verify(
    outside: Outside,
    of_run: OfRun,
    claim: options.Claims = None,
    commitment: options.Commitment = None,
    as_json: options.Json = False,
) -> None:
    """Test claims: exit code 1 refuted, 4 no power, 0 not refuted.

    Also 1 for another key or run than --commitment names, 2 for a mistake, 3 where a server gave no answer.
    """
    if of_run.run is None:
        if of_run.runs != run_store.RUNS:
            raise UsageError("--runs", "--run beside it, a run of this folder", "no --run", "--run NAME")
        _verify_outside(outside, claim or [], of_run, commitment, as_json)
        return
    given = [name for name, value in vars(outside).items() if value not in (None, False, [], "en")]
    if given:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(
            "--run", "only the claims of a run", told, f"leave {'it' if len(given) == 1 else 'them'} out"
        )
    if claim and len(claim) > 1:
        raise UsageError(
            "--claim",
            "one claim with --run",
            f"{len(claim)} claims",
            "type the command once for each of them",
        )
    _verify_run(of_run, claim[0] if claim else None, commitment, as_json)


def _verify_run(of_run: OfRun, claim: str | None, commitment: str | None, as_json: bool) -> None:
    from dpaudit.stages import declared, outputs, verify
    from dpaudit.stages.integrity import custody as chain

    run_dir, plan = opening.opened(of_run.run, of_run.runs)
    outputs.require(run_dir, plan)
    noted = chain.noted(run_dir, commitment) if commitment else {}
    is_another = noted.get("noted_before") == custody.ANOTHER
    is_all = claim is None and not plan.suite.claims
    if noted and (is_all or is_another):  # asked first: it needs no attack
        show_of_run(run_dir, plan, noted, as_json)
        raise typer.Exit(FAILED if is_another else 0)
    plan = later.claim(run_dir, plan, of_run.arm, claim)
    claims = declared.verdicts(run_dir, plan)
    lost = overview.lost_rows(run_dir)
    before = [row for c in claims for row in outcomes.before_of(c.arm, c.claim, c.before)]
    values = {
        "declared": [schema.plain(claim) for claim in claims],
        **({"before": before} if before else {}),
        **({"records_lost": lost} if lost else {}),
        **overview.gone(run_dir),
        **noted,
    }
    show_of_run(run_dir, plan, values, as_json)
    verdicts = [claim.verdict for claim in claims if claim.verdict]
    raise typer.Exit(verify.exit_code(verdicts))


def _verify_outside(
    outside: Outside, claim: list[str], of_run: OfRun, commitment: str | None, as_json: bool
) -> None:
    from dpaudit.stages import translated, verify, verify_control, verify_folder

    if of_run.arm is not None:
        raise UsageError("--arm", "--run beside it, the run of this arm", "no --run", "--run NAME")
    if outside.observed is not None or outside.mechanism is not None:
        observed.verify(vars(outside), claim, commitment, as_json)
        return
    if outside.key is None or not claim:
        raise UsageError(
            "dpaudit verify",
            "--key FILE and --claim, or --run NAME",
            "no --key" if outside.key is None else "no --claim",
            f"for example: {EXAMPLES['dpaudit verify']}; or: dpaudit verify --run NAME",
        )
    is_chinese = translated.language(outside.lang) == "zh"
    request = verify.Request(
        claims.paired(_models(outside), [claims.parse(text) for text in claim]),
        outside.key,
        outside.out or verify_folder.OUT,
        outside.data,
        outside.conformance,
        commitment,
        outside.send_real_rows,
    )
    checked = verify.check(request)  # before a control is trained
    if checked.noted_before == custody.ANOTHER:  # another key than was noted down: nothing need be asked
        show({"commitment": checked.commitment, "noted_before": checked.noted_before}, as_json)
        raise typer.Exit(FAILED)
    if outside.train_control:
        verify_control.require_use(checked.key, [claim for _, claim in request.claims])
    verification = verify.run(checked, Progress(), _control(outside, request))
    page = request.out / verify_folder.PAGE
    if is_chinese:
        page = translated.write_beside(page, Progress())
    whole = {**verification.to_json(), "page": str(page)}
    show(whole if as_json else verify.summary(verification, page), as_json)
    raise typer.Exit(verify.exit_code([answer.verdict for answer in verification.answers]))


def _models(outside: Outside) -> "list[Audited]":
    """What is audited, in the order typed."""
    from dpaudit.stages import audited

    hosts = tuple(outside.allow_egress or ())
    named = audited.Audited(None, outside.model, outside.endpoint, outside.base, hosts, outside.tokenizer)
    return audited.each(outside.adapter or [], named)


def _control(outside: Outside, request: "Request") -> Path | None:
    """The control that was named, or one that is trained now."""
    from dpaudit.pipeline import control

    if not outside.train_control:
        if outside.control_steps is not None or outside.control_rate is not None:
            raise UsageError(
                "--control-steps, --control-rate",
                "--train-control beside them",
                "no --train-control",
                "add --train-control, or leave them out",
            )
        return outside.control
    if outside.control is not None:
        raise UsageError("--train-control", "--control or --train-control", "both", "leave one out")
    wanted = control.Wanted(outside.control_steps, outside.control_rate)
    base = None if outside.endpoint else outside.base
    adapters, out = request.adapters, request.out
    return control.train(adapters, base, request.key_file, outside.data, out, wanted, Progress())
