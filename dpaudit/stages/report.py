"""Puts what the other stages found into report/report.json and on one page. Copies; computes no number."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from dpaudit import schema
from dpaudit.data.canary import CORPUS_FAMILIES
from dpaudit.evidence import recipes, release
from dpaudit.findings import audits
from dpaudit.findings.audits import Audit
from dpaudit.findings.contamination import Contamination
from dpaudit.findings.declared import ClaimOfRun, ClaimsOfRun
from dpaudit.findings.extraction import Discoverable, Extraction, PersonalFields
from dpaudit.findings.finding import Finding
from dpaudit.findings.human import HumanAgreement
from dpaudit.findings.inside import Inside
from dpaudit.findings.judge_tries import JudgeTries
from dpaudit.findings.judgement import Judgement
from dpaudit.findings.membership import Membership
from dpaudit.findings.preferences import PreferenceResults, Preferences
from dpaudit.findings.quality import Comparisons, Measured, Quality, TasksAsked
from dpaudit.findings.release import Rule
from dpaudit.findings.report import (
    Adapter,
    Asked,
    Gone,
    Lost,
    Report,
    Run,
    Share,
    Spent,
    Stage,
    Stages,
    State,
    Steps,
    TrainingFigures,
    by_command,
)
from dpaudit.findings.together import Together
from dpaudit.findings.tries import Tries
from dpaudit.stages import identity, judge_tries, outputs, tries
from dpaudit.stages.audit import inside
from dpaudit.stages.integrity import custody, siblings
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.read_results import Reading, narrowed
from dpaudit.storage import notes, record_chain
from dpaudit.storage.exclusive import alone
from dpaudit.storage.remedies import missing
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import write_sealed
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import MARGIN, Release
from dpaudit.system.progress import Progress

F = TypeVar("F", bound=Finding)

PAGE, FIGURES = "report/index.html", "report/report.json"
CLAIMS = "audit/claims.json"  # the file that `verify --run` leaves
PEOPLE = "judge/human.json"  # the file that `judge validate --human` leaves
ASKED = ("evaluation", "judging")


@alone("report")
def run(run_dir: RunDir, plan: Plan, progress: Progress) -> Path:
    """Writes report/report.json and report/index.html; returns the page's path.

    A stage that has not run, or whose output is out of date, is named on the page. Raises UsageError where no
    arm is trained, or where an output is of another format or does not fit its format.
    """
    from dpaudit.page import render

    outputs.require(run_dir, plan)
    reading = Reading(run_dir)
    with progress.task("report: figures and page", total=2) as advance:
        report = assemble(reading, plan)
        report.write(run_dir, FIGURES, reading.files)
        advance(1)
        write_sealed(run_dir, PAGE, render.render(report), inputs=[FIGURES])
        advance(1)
    lacking = _lacking(report)
    if lacking:
        progress.say(f"not on the page: {'; '.join(lacking)}")
    progress.say(f"report: {run_dir.file(PAGE)}")
    return run_dir.file(PAGE)


def present(run_dir: RunDir, plan: Plan) -> Report:
    """What the page would show now; nothing is written. Raises UsageError as `run` does."""
    outputs.require(run_dir, plan)
    return assemble(Reading(run_dir), plan)


def _lacking(report: Report) -> list[str]:
    """What is not on the page that a command would bring there, and that command."""
    gone = report.run.repeats_gone
    lacking = [f"the run {name} that this run repeats, which is gone: restore its folder" for name in gone]
    for name, stage in vars(report.stages).items():
        if stage.state in ("partial", "out of date", "not run"):
            arms = f" of {', '.join(stage.absent)}" if stage.state == "partial" else ""
            lacking.append(f"{name}{arms}, {'out of date, ' if stage.stale else ''}type `{stage.command}`")
    for command, files in by_command(report.gone).items():
        others = f" and {len(files) - 1} more, which are" if len(files) > 1 else ", which is"
        lacking.append(f"{files[0]}{others} gone, type `{command}`")
    return lacking


def assemble(reading: Reading, plan: Plan) -> Report:
    """All that the page shows. Raises UsageError where no arm is trained."""
    grid, run_dir = plan.suite.grid, reading.run_dir
    arms = [entry for arm in grid.arms if not arm.twin and (entry := _arm(reading, plan, arm)) is not None]
    if not arms:
        raise missing(run_dir.file("train"), "dpaudit train")
    names = [entry.arm for entry in arms]
    audited = [audit for name in names for audit in _audits(reading, name)]
    models = ["base", *names, *(arm.name for arm in grid.arms if arm.twin)]
    quality = tuple(model for name in models if (model := _quality(reading, name)) is not None)
    tasks, judge = reading.finding(TasksAsked, "evaluate/tasks.json"), _judge(reading)
    tried = reading.finding(Tries, tries.FILE)
    judges = reading.finding(JudgeTries, judge_tries.FILE)
    insides = (reading.finding(Inside, inside.file_of(name)) for name in names)
    report = Report(
        run=_run(run_dir, plan, arms),
        identity=identity.of(run_dir, plan, arms),
        rule=_rule(reading, plan),
        release=(),
        arms=tuple(arms),
        audits=_only(Membership, audited),
        recipes=recipes.corrected(_only(Membership, audited)),
        inside=tuple(finding for finding in insides if finding is not None),
        together=reading.finding(Together, "audit/summary.json"),
        extraction=_only(Extraction, audited),
        discoverable=_only(Discoverable, audited),
        pii=_only(PersonalFields, audited),
        quality=quality,
        skipped=() if tasks is None else tasks.skipped,
        comparisons=reading.finding(Comparisons, "evaluate/summary.json"),
        asked_how={} if tasks is None else {task: asked.how for task, asked in tasks.tasks.items()},
        tried=tries.counted(tried.tries if tried else ()),
        margins_before=_margins(reading),
        contamination=reading.finding(Contamination, "evaluate/contamination.json"),
        preferences=_preferences(reading),
        judge=judge,
        people=reading.finding(HumanAgreement, PEOPLE) if judge else None,
        judges_tried=judges.tries if judges else (),
        asked={**{record: _asked(reading, record) for record in ASKED}, "margin": _margin(reading)},
        claims=_claims(reading),
        gone=tuple(Gone(file, command) for file, command in run_dir.gone().items()),
        records_lost=tuple(Lost(**vars(loss)) for loss in declarations.lost(run_dir)),
        stages=_stages(run_dir.name, plan, reading.stale, names, audited, quality, judge),
    )
    return replace(report, release=release.decide(report, report.rule))


def _only(cls: type[F], findings: Sequence[Finding]) -> tuple[F, ...]:
    return tuple(finding for finding in findings if isinstance(finding, cls))


def _run(run_dir: RunDir, plan: Plan, arms: Sequence[Adapter]) -> Run:
    suite = plan.suite
    manifest = run_dir.read_json(custody.CORPUS) if run_dir.file(custody.CORPUS).is_file() else {}
    file = str(run_dir.file(custody.CORPUS))
    share = schema.convert(dict[str, Share], manifest.get("canary_share", {}), file=file, key="canary_share")
    return Run(
        name=run_dir.name,
        title=f"{_short(suite.model.base)}, fine-tuned on {_short(suite.data.source)}",
        suite=suite.name,
        description=suite.description,
        model=suite.model.base,
        data=suite.data.source,
        max_length=suite.model.max_length,
        unit=suite.training.unit,
        relation=suite.training.claimed_relation,
        delta=suite.training.claimed_delta,
        primary=suite.primary,
        margin=suite.evaluation.loss_tested,
        seed=plan.seed,
        insecure_seed=plan.insecure_seed,
        corpus_words=suite.candidates.family in CORPUS_FAMILIES,
        canary_share=share,
        random_weights=suite.model.is_random,
        assumed_public=suite.model.start is not None and suite.model.assume_public,
        reproducible_noise=any(arm.privacy.reproducible_noise for arm in arms),
        versions=plan.versions,
        custody=custody.seal_state(run_dir),
        commitment=manifest.get("commitment"),
        repeats=tuple(known.run for known in plan.repeats),
        repeats_gone=siblings.gone(run_dir),
        repeated_by=tuple(siblings.repeats_of(run_dir)),
        same_data=tuple(other.name for other in siblings.on_same_data(run_dir)),
    )


def _short(source: str) -> str:
    """A model or data source as a title names it: the last part of a path or hub id; a builtin as it is."""
    return source if source.startswith("builtin:") else Path(source).name or source


def _arm(reading: Reading, plan: Plan, arm: Arm) -> Adapter | None:
    trained = TrainedArm(reading.run_dir, arm.name)
    figures = reading.part(TrainingFigures, trained.figures_file)
    if figures is None or not reading.is_there(trained.ledger_file):
        return None
    ledger = trained.ledger()
    digest = custody.adapter_digest(reading.run_dir, arm.name)
    return Adapter(
        arm=arm.name,
        method=arm.method,
        loss=arm.loss,
        epsilon=arm.epsilon,
        seed=arm.seed,
        starts_from=_start(plan, arm),
        private=arm.private,
        privacy=narrowed(Spent, ledger.to_json(), str(ledger.file)),
        training=figures,
        schedule=identity.stepped(plan, arm),
        steps=_steps(reading, trained.steps_file),
        adapter_sha256=digest,
        trainings=len({digest, *notes.trained(reading.run_dir, arm.name)}),
    )


def _start(plan: Plan, arm: Arm) -> str:
    """What the arm continues from: another arm of the run, the adapter that the run was given, or the base
    model.
    """
    earlier = plan.suite.grid.start_of(arm)
    if earlier is not None:
        return earlier.name
    return "the base model" if plan.suite.model.start is None else "the adapter that the run began with"


def _steps(reading: Reading, file: str) -> Steps:
    if not reading.run_dir.file(file).is_file():
        return Steps()
    rows = reading.run_dir.read_lines(file)
    reading.files.append(file)
    columns = {field.name: [row.get(field.name) for row in rows] for field in fields(Steps)}
    return schema.build(Steps, columns, file=str(reading.run_dir.file(file)))


def _audits(reading: Reading, arm: str) -> list[Audit]:
    """What the recipes found on an arm, the primary one first."""
    files = [
        f"audit/{arm}/{path.name}" for path in sorted(reading.run_dir.file(f"audit/{arm}").glob("*.json"))
    ]
    findings = [audits.read(reading.run_dir, file) for file in files if reading.is_there(file)]
    return sorted(findings, key=lambda audit: not (isinstance(audit, Membership) and audit.primary))


def _quality(reading: Reading, arm: str) -> Quality | None:
    return cast(Quality | None, reading.field(Measured, f"evaluate/{arm}.json", "quality"))


def _preferences(reading: Reading) -> PreferenceResults | None:
    found = reading.field(Preferences, "evaluate/preferences.json", "results")
    return cast(PreferenceResults | None, found)


def _judge(reading: Reading) -> Judgement | None:
    """The judge's passport, and the win rates if it is fit: an unfit judge's win rates are not shown
    anywhere.
    """
    judgement = reading.finding(Judgement, "judge/summary.json")
    return judgement if judgement is None or judgement.fit else replace(judgement, pairs=())


def _asked(reading: Reading, record: str) -> Asked:
    last = declarations.entries(reading.run_dir, record)[-1]
    reading.files.append(record_chain.file_of(record))
    return Asked(last.mark, last.date)


def _margin(reading: Reading) -> Asked:
    """Since when the margin in force stands."""
    entries, values = declarations.entries(reading.run_dir, "evaluation"), _margins_asked(reading)
    since = next((at for at in range(len(values), 0, -1) if values[at - 1] != values[-1]), 0)
    return Asked(entries[since].mark, entries[since].date)


def _margins(reading: Reading) -> tuple[float, ...]:
    """The margins that were asked for before the one in force, each once, oldest first."""
    values = [MARGIN if value is None else float(value) for value in _margins_asked(reading)]
    return tuple(dict.fromkeys(value for value in values if value != values[-1]))


def _margins_asked(reading: Reading) -> list[Any]:
    """The margin of every entry of the record, oldest first; None for the default."""
    entries = declarations.entries(reading.run_dir, "evaluation")
    return [(entry.settings.get("evaluation") or {}).get("margin") for entry in entries]


def _rule(reading: Reading, plan: Plan) -> Rule:
    asked, most = _asked(reading, "release"), plan.suite.release.epsilon
    return Rule(most, most == Release().epsilon, asked.mark, asked.date)


def _claims(reading: Reading) -> tuple[ClaimOfRun, ...]:
    """The run's own claims, each with its mark; with its verdict where `verify --run` has looked since."""
    reading.files.append(record_chain.file_of(declarations.CLAIMS))
    looked_at = reading.finding(ClaimsOfRun, CLAIMS)
    if looked_at is not None:
        return looked_at.claims
    return tuple(
        ClaimOfRun(claim.arm, claim.epsilon, claim.delta, entry.mark, entry.date)
        for claim, entry in declarations.claims(reading.run_dir)
    )


# ---- how far each stage is


def _stages(
    run: str,
    plan: Plan,
    stale: Sequence[str],
    names: Sequence[str],
    audited: Sequence[Finding],
    quality: Sequence[Quality],
    judge: Judgement | None,
) -> Stages:
    """For each section whether its stage is done, for which arms it is not, and what to type."""
    from dpaudit.signals import recipe  # it loads NumPy

    kind = recipe.load(plan.suite.primary).kind
    whole = [arm.name for arm in plan.suite.grid.arms if not arm.twin]
    primary = [audit.arm for audit in _only(Membership, audited) if audit.primary and audit.bound]
    secrets = [entry.arm for entry in _only(Extraction, audited)]
    out = secrets if plan.suite.candidates.extraction else [pii.arm for pii in _only(PersonalFields, audited)]
    measured = [model.arm for model in quality]
    train = _stage("dpaudit train", whole, names, _within("train/", stale))
    audit = _stage(f"dpaudit attack {kind} --run {run}", names, primary, _within("audit/", stale))
    judged = _stage(f"dpaudit judge --run {run}", names, names if judge else (), _within("judge/", stale))
    if plan.suite.training.unit == "label":
        audit = replace(audit, state="not applicable", absent=())
    if plan.suite.judging is None:
        judged = replace(judged, state="not planned", absent=())
    return Stages(
        train=train,
        audit=audit,
        extraction=_stage(f"dpaudit attack extract --run {run}", names, out, _within("audit/", stale)),
        quality=_stage(f"dpaudit eval --run {run}", ["base", *names], measured, _within("evaluate/", stale)),
        judge=judged,
    )


def _within(folder: str, files: Sequence[str]) -> tuple[str, ...]:
    return tuple(file for file in files if file.startswith(folder))


def _stage(command: str, expected: Sequence[str], present: Sequence[str], stale: tuple[str, ...]) -> Stage:
    absent = tuple(arm for arm in expected if arm not in present)
    state: State = "not run"
    if not absent:
        state = "done"
    elif present:
        state = "partial"
    elif stale:
        state = "out of date"
    return Stage(state, command, absent, stale)
