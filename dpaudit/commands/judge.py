"""`judge`: the arms of a finished run, or two files of answers by anybody, compared in pairs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from dpaudit.commands import judged, options
from dpaudit.commands.groups import SETTINGS, has_command
from dpaudit.commands.output import show, show_of_run
from dpaudit.errors import UsageError
from dpaudit.pipeline import later, opening
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.stages.judge_outside import Request, Result
    from dpaudit.stages.judge_replies import Way

UNFIT = 4  # the exit code for a judge that failed its controls
OUT = Path("judged")  # folder of the result of two files
judge_app = typer.Typer(
    help="Compare the arms' answers in pairs, or two files of answers.\n\nOf a run, each arm's answers are "
    "compared with those of others. With --answers FILE --against FILE: two files by anybody, without a run. "
    "Exit code 4 if the judge is unfit; then there is no win rate.",
    **SETTINGS,
)


@dataclass(frozen=True)
class Asked:
    """The options that `judge` and `judge validate` share."""

    run: options.Run = None
    rubric: options.Rubric = None
    settings: options.Later = None
    allow_egress: options.Egress = None
    max_tokens_total: options.MaxTokens = None
    runs: options.Runs = run_store.RUNS
    as_json: options.Json = False

    def changed(
        self, prompts: int | None = None, against: Sequence[str] = (), criteria: Path | None = None
    ) -> dict[str, Any]:
        """Dotted keys of the suite's judging that these options change."""
        file = None if criteria is None else str(criteria)
        named = {
            "rubric": self.rubric,
            "prompts": prompts,
            "against": list(against) or None,
            "criteria": file,
        }
        typed = {f"judging.{key}": value for key, value in named.items() if value is not None}
        return typed | dict(loading.parse_override(setting) for setting in self.settings or ())

    @property
    def way(self) -> "Way":
        """How the judge is asked."""
        from dpaudit.stages.judge_replies import Way

        return Way(self.allow_egress or (), self.max_tokens_total, again=True)


@dataclass(frozen=True)
class Compared:
    """The options of `judge` alone: what is compared."""

    prompts: options.JudgedPrompts = None
    criteria: Annotated[
        Path | None,
        typer.Option(
            "--criteria",
            metavar="FILE",
            help="Prompts that each have criteria of their own, as HealthBench writes them. A run's models "
            "answer these prompts, and it keeps the file's name for later calls.",
        ),
    ] = None
    against: options.Against = None
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers", metavar="FILE", help="No run: a file of answers; --against names the other."
        ),
    ] = None
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions", metavar="FILE", help="With --answers: prompts and right answers by its ids."
        ),
    ] = None
    controls: Annotated[
        str | None,
        typer.Option(
            "--controls",
            metavar="FILE",
            help="With --answers: dialogues with right answers, to check the judge on; or builtin:clinic.",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the result of --answers; default judged/."),
    ] = None
    dry_run: options.JudgeDryRun = False


Folder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="No run: the folder that --answers wrote.")
]


Human = Annotated[
    Path | None,
    typer.Option(
        "--human",
        metavar="FILE",
        help="People's verdicts on what was judged: a CSV file with the columns prompt and winner.",
    ),
]


@judge_app.callback()
@options.spread
def judge(context: typer.Context, asked: Asked, compared: Compared) -> None:
    """Compares the arms of a run, or two files; a subcommand does its own work."""
    if has_command(context, asked != Asked(), compared != Compared()):
        return
    if compared.answers is not None:
        _judge_files(asked, compared)
        return
    for name in ("questions", "controls", "out"):
        if getattr(compared, name) is not None:
            raise UsageError(f"--{name}", "--answers beside it", "no --answers", f"leave --{name} out")
    _judge_run(asked, compared)


def _judge_run(asked: Asked, compared: Compared) -> None:
    from dpaudit.stages import judge, judge_forecast

    run_dir, plan = opening.opened(asked.run, asked.runs)
    changed = asked.changed(compared.prompts, compared.against or (), compared.criteria)
    plan = later.judging(run_dir, plan, changed, asked.way, is_kept=not compared.dry_run)
    settings = later.require_judging(run_dir.name, plan)
    if compared.dry_run:
        found = judge_forecast.forecast(run_dir, plan, settings, asked.way)
        show_of_run(run_dir, plan, asdict(found), asked.as_json)
        return
    before = _replies(run_dir)
    judged.say_hidden(run_dir, judge.rules_of(plan.suite, settings), Progress())
    judge.run(run_dir, plan, Progress(), way=asked.way)
    _show_judged(run_dir, plan, asked.as_json, before)


def _replies(run_dir: RunDir) -> int:
    """How many replies of judges a run has kept."""
    from dpaudit.stages import judge_replies

    return judge_replies.count(judge_replies.kept_of(run_dir).file)


def _show_judged(run_dir: RunDir, plan: Plan, as_json: bool, before: int) -> NoReturn:
    """Prints what the judge said, and ends with the exit code of its fitness. `before` are the replies that
    were there when the command began.
    """
    summary = judged.of_run(run_dir, _replies(run_dir) - before, as_json)
    if plan.suite.judging is not None:
        summary |= judged.in_force(run_dir, plan.suite.judging)
    show_of_run(run_dir, plan, summary, as_json)
    raise typer.Exit(0 if summary["fit"] else UNFIT)


def _judge_files(asked: Asked, compared: Compared) -> None:
    from dpaudit.stages import judge_folder, judge_outside, judge_replies

    request = _request(asked, compared)
    if compared.dry_run:
        show(asdict(judge_outside.forecast(request)), asked.as_json)
        return
    file = request.out / judge_folder.REPLIES
    before = judge_replies.count(file)
    result = judge_outside.run(request, Progress())
    _show_files(result, request.out, asked.as_json, judge_replies.count(file) - before)


def _request(asked: Asked, compared: Compared) -> "Request":
    from dpaudit.stages.judge_outside import Request

    if asked.run is not None:
        raise UsageError("--run", "a run, or --answers", "both", "leave one out")
    against = compared.against or []
    if len(against) != 1:
        raise UsageError(
            "--against", "one file of answers beside --answers", f"{len(against)} files", "--against FILE"
        )
    assert compared.answers is not None
    return Request(
        compared.answers,
        Path(against[0]),
        compared.questions,
        compared.criteria,
        compared.controls,
        later.judging_outside(asked.changed()),
        compared.out or OUT,
        compared.prompts,
        asked.way,
    )


def _show_files(result: "Result", out: Path, as_json: bool, asked_now: int = 0) -> NoReturn:
    """Prints what the judge says of two files, and ends with the exit code of its fitness."""
    judgement = result.judgement
    told = judged.of(judgement, asked_now)
    if judgement.fit:
        pair = judgement.pairs[0]
        bounds = {"unscored_all_lost": pair.win_rate_worst, "unscored_all_won": pair.win_rate_best}
        told |= {"distinct_prompts": result.prompts} | (bounds if pair.unscored else {})
        told |= judged.cut(result.cut)
    written = {"written": f"{out}/"}
    whole = {
        **judgement.to_json(),
        "distinct_prompts": result.prompts,
        **written,
        "asked_now": asked_now,
    }
    tried = judged.tried_in(out)
    show(whole | tried if as_json else told | tried | written, as_json)
    raise typer.Exit(0 if judgement.fit else UNFIT)


@judge_app.command("validate")
@options.spread
def judge_validate(
    asked: Asked, human: Human = None, out: Folder = None, dry_run: options.JudgeDryRun = False
) -> None:
    """Check the judge on planted faults; exit code 4 if it is unfit."""
    from dpaudit.stages import judge, judge_human

    if dry_run and (human, out) != (None, None):
        beside = "--human" if out is None else "--out"
        raise UsageError(
            "--dry-run", "a judge that is asked", f"{beside}, which asks nobody", "leave one out"
        )
    if out is not None:
        _validate_files(asked, human, out)
    run_dir, plan = _opened(asked.run, asked.runs)
    if dry_run:
        _forecast_controls(run_dir, plan, asked)
        return
    plan = later.judging(run_dir, plan, asked.changed(), asked.way, are_arms_judged=False)
    people = None if human is None else judge_human.of_run(run_dir, human)  # refused before anybody is asked
    rules = judge.rules_of(plan.suite, plan.suite.judging or Judging())
    judged.say_hidden(run_dir, rules, Progress())
    before = _replies(run_dir)
    fit = judge.validate(run_dir, plan, Progress(), way=asked.way)
    if people is not None:
        if run_dir.file(judge_human.FILE).is_file():
            Progress().say(f"note: {judge_human.FILE} takes the place of the comparison before")
        judge_human.write(run_dir, people)
    told = judged.passport_of_run(run_dir, rules, _replies(run_dir) - before, asked.as_json)
    told |= judged.people(people)
    show_of_run(run_dir, plan, told, asked.as_json)
    raise typer.Exit(0 if fit else UNFIT)


def _opened(run: str | None, runs: Path) -> tuple[RunDir, Plan]:
    """A run and its plan. Raises UsageError that names --out where two files were judged here and there is no
    run.
    """
    from dpaudit.stages import judge_folder

    if run is None and (OUT / judge_folder.TASK).is_file() and not run_store.existing(runs):
        raise UsageError(f"{runs}/", "a run", "no run", f"--out {OUT} names the result of two files")
    return opening.opened(run, runs)


def _forecast_controls(run_dir: RunDir, plan: Plan, asked: Asked) -> None:
    from dpaudit.stages import judge_forecast

    plan = later.judging(run_dir, plan, asked.changed(), asked.way, are_arms_judged=False, is_kept=False)
    found = judge_forecast.of_controls(run_dir, plan, plan.suite.judging or Judging(), asked.way)
    show_of_run(run_dir, plan, asdict(found), asked.as_json)


def _validate_files(asked: Asked, human: Path | None, out: Path) -> NoReturn:
    from dpaudit.stages import judge_outside

    if replace(asked, as_json=False) != Asked():
        raise UsageError("--out", "--human and --json alone beside it", "another option", "leave it out")
    passport, people = judge_outside.validate(out, human, Progress())
    task, _ = judge_outside.read(out)
    told = judged.passport(
        passport, task.rubric, asked.as_json, judged.replies_in(out), (judge_outside.KNOWN_TRIES,)
    )
    told |= judged.tried_in(out) | judged.people(people, (task.answers, task.against))
    show(told | {"written": f"{out}/"}, asked.as_json)
    raise typer.Exit(0 if passport.fit else UNFIT)


@judge_app.command("replay")
def judge_replay(
    run: options.Run = None,
    out: Folder = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Make the judge's passport and win rates again from its kept replies, with no model and no server; exit
    code 4 if it is unfit.
    """
    from dpaudit.stages import judge, judge_outside
    from dpaudit.stages.judge_replies import Way

    if out is not None:
        if run is not None:
            raise UsageError("--run", "a run, or --out", "both", "leave one out")
        _show_files(judge_outside.replay(out, Progress()), out, as_json)
    run_dir, plan = _opened(run, runs)
    later.require_judging(run_dir.name, plan)
    judge.run(run_dir, plan, Progress(), way=Way(is_offline=True))
    _show_judged(run_dir, plan, as_json, _replies(run_dir))
