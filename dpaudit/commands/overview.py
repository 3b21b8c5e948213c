"""A run in rows, for `ls`, `show` and the lines that each command ends with."""

from collections.abc import Iterator

from dpaudit.commands import again, extracted, judged, outcomes, release, states
from dpaudit.commands.states import PAGE, Row, Rows, read_if_there
from dpaudit.errors import UsageError
from dpaudit.privacy.ledger import FIGURES
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.storage import record_chain
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.plan import RECORDS, Plan


def run_row(run_dir: RunDir) -> Row:
    """One line of `dpaudit ls`: run, suite, arms trained of those planned, stages begun or done, verdicts.

    Of a run that cannot be read it says why, in place of a caveat.
    """
    from dpaudit.stages import outputs
    from dpaudit.stages.integrity import custody

    try:
        custody.require_run(run_dir)
        plan = declarations.plan_of(run_dir)
        outputs.require(run_dir, plan)
        return _run_row(run_dir, plan)
    except (UsageError, OSError) as error:
        return {
            "run": run_dir.name,
            "suite": None,
            "arms": None,
            "stages": [],
            "verdicts": {},
            "caveat": str(error),
        }


def _run_row(run_dir: RunDir, plan: Plan) -> Row:
    trained = [arm for arm in arm_rows(run_dir, plan) if arm["trained"]]
    return {
        "run": run_dir.name,
        "suite": plan.suite.name,
        "arms": f"{len(trained)}/{len(plan.suite.grid.arms)}",
        "stages": [stage for stage, state in states.stage_states(run_dir, plan).items() if state == "done"],
        "verdicts": {
            row["arm"]: row["verdict"]
            for row in outcomes.verdict_rows(run_dir, plan)
            if row["primary"] and row["verdict"]
        },
        "caveat": "; ".join(_caveats(run_dir, plan)) or None,
    }


def _caveats(run_dir: RunDir, plan: Plan) -> Iterator[str]:
    from dpaudit.stages.integrity import custody, siblings

    if plan.caveat:
        yield plan.caveat
    if names := siblings.repeats_of(run_dir):
        yield f"repeated with fresh coins, both in one family: {', '.join(names)}"
    if custody.seal_state(run_dir) != custody.SEALED:
        yield custody.seal_state(run_dir)
    if count := len(run_dir.gone()):
        word = "result is" if count == 1 else "results are"
        yield f"{count} {word} gone, `dpaudit show {run_dir.name}` names them"


def caveat_of(rows: Rows) -> str | None:
    """The caveats of the runs in `rows` that have one, each with their names; None where there is none."""
    caveats = dict.fromkeys(row["caveat"] for row in rows if row["caveat"])
    named = {text: ", ".join(row["run"] for row in rows if row["caveat"] == text) for text in caveats}
    return "; ".join(f"{text} ({runs})" for text, runs in named.items()) or None


def arm_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm of the plan: what is claimed, with which mechanism, and what the ledger says was spent."""
    rows = []
    for arm in plan.suite.grid.arms:
        trained = TrainedArm(run_dir, arm.name)
        has_ledger = run_dir.file(trained.ledger_file).is_file()
        figures = read_if_there(run_dir, trained.figures_file)
        rows.append(
            {
                "arm": arm.name,
                "epsilon": "inf" if not arm.private else arm.epsilon,
                "delta": plan.suite.training.claimed_delta if arm.private else None,
                "unit": plan.suite.training.unit,
                **(trained.ledger().figures() if has_ledger else dict.fromkeys(FIGURES)),
                "sequences_truncated": figures.get("sequences_truncated"),
                "trained": trained.adapter.is_dir(),
            }
        )
    return rows


def took_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per trained arm: where it was trained, with how long sequences, and what that took."""
    keys = ("device", "devices", "longest", "peak_memory_mb", "tokens_per_second", "seconds")
    files = {arm.name: TrainedArm(run_dir, arm.name).figures_file for arm in plan.suite.grid.arms}
    figures = {name: read_if_there(run_dir, file) for name, file in files.items()}
    return [{"arm": arm, **{key: at.get(key) for key in keys}} for arm, at in figures.items() if at]


def unfinished_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm that is not trained: from which step the same command continues, of how many; empty before any
    training.
    """
    from dpaudit.stages.prepare import jobs

    if not run_dir.file("corpus/manifest.json").is_file():
        return []
    return [
        {
            "arm": arm.name,
            "steps_done": _steps_kept(run_dir, arm.name),
            "steps": jobs.schedule_of(plan.suite.training, arm).steps,
        }
        for arm in plan.suite.grid.arms
        if not run_dir.file(f"train/{arm.name}/adapter").is_dir()
    ]


def _steps_kept(run_dir: RunDir, arm: str) -> int:
    """The steps after which an arm's last checkpoint was written (see `stages/checkpoints`, which loads
    torch); 0 where there is none.
    """
    folder = run_dir.file(f"train/.{arm}.partial")
    return max((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), default=0)


def _unfinished(run_dir: RunDir, plan: Plan) -> Row:
    """What `show` says of a training that has not come to its end, and what to type."""
    from dpaudit.storage import lock

    rows = unfinished_rows(run_dir, plan)
    if not rows:
        return {}
    if lock.is_held(run_dir.path, "train"):
        return {"training": "at work now", "unfinished": rows}
    words = again.command_of(plan, run_dir.path.parent)
    command = words or "the command that began this run, with the same options"
    return {"training": "stopped before its end", "unfinished": rows, "to_go_on_type": command}


def record_rows(run_dir: RunDir) -> Rows:
    """What the run was asked beside its training, entry by entry: when, by what, and whether before training.

    Lost records are listed too.
    """
    asked: Rows = [
        {"record": record, "date": entry.date, "mark": entry.mark, "by": entry.source}
        for record in RECORDS
        for entry in declarations.entries(run_dir, record)
    ]
    return [*asked, *({**row, "by": "suite"} for row in lost_rows(run_dir))]


def lost_rows(run_dir: RunDir) -> Rows:
    """The records and notes of the run that were lost and written again."""
    return [
        {
            "record": loss.record,
            "date": loss.date,
            "mark": f"written again: {_lost(loss)}",
        }
        for loss in declarations.lost(run_dir)
    ]


def _lost(loss: record_chain.Loss) -> str:
    if loss.record.startswith("custody/"):
        return "what was deleted before is not noticed"
    if loss.entries is None:
        return "entries of the earlier record lost"
    return f"{loss.entries} {'entry' if loss.entries == 1 else 'entries'} of the earlier record lost"


def results(run_dir: RunDir, plan: Plan) -> Row:
    """What a finished run found, as `run` and `demo` print it."""
    return {
        "arms": arm_rows(run_dir, plan),
        "verdicts": [row for row in outcomes.verdict_rows(run_dir, plan) if row["primary"]],
        "answers": outcomes.answer_rows(run_dir),
        "over_seeds": outcomes.seeds_rows(run_dir),
        **({"before": before} if (before := outcomes.before_rows(run_dir)) else {}),
        **extracted.tables(run_dir, plan),
        "quality": outcomes.quality_rows(run_dir, plan),
        **outcomes.compared_tables(run_dir),
        **outcomes.judge_summary(run_dir),
        **judged.tried(run_dir),
        **release.lines(run_dir),
        "page": str(run_dir.file(PAGE)),
    }


def gone(run_dir: RunDir) -> Row:
    """The results that a run had and has not, each with what to type; no key where there is none."""
    rows = [{"file": file, "type": command} for file, command in run_dir.gone().items()]
    return {"gone": rows} if rows else {}


def _other_runs(run_dir: RunDir, plan: Plan) -> Row:
    """The runs that it repeats, those that repeat it, and all on the same data; no key without any."""
    from dpaudit.stages.integrity import siblings

    named = {
        "repeat_of": [known.run for known in plan.repeats],
        "repeated_by": siblings.repeats_of(run_dir),
        "same_data": [other.name for other in siblings.on_same_data(run_dir)],
    }
    return {key: names for key, names in named.items() if names}


def details(run_dir: RunDir, plan: Plan) -> Row:
    """What `show` prints: the plan in short, its arms, every output's state, the page where there is one.

    Raises UsageError where a result is not as the run wrote it.
    """
    from dpaudit.stages import outputs
    from dpaudit.stages.integrity import custody

    outputs.require(run_dir, plan)
    chosen = plan.suite
    return {
        "suite": chosen.name,
        "model": chosen.model.base,
        "data": chosen.data.source,
        "seed": plan.seed,
        "insecure_seed": plan.insecure_seed,
        "stages": states.stage_states(run_dir, plan),
        "custody": custody.seal_state(run_dir),
        "commitment": read_if_there(run_dir, "corpus/manifest.json").get("commitment"),
        **_other_runs(run_dir, plan),
        "records": record_rows(run_dir),
        "arms": arm_rows(run_dir, plan),
        "took": took_rows(run_dir, plan),
        **_unfinished(run_dir, plan),
        **gone(run_dir),
        "outputs": states.output_rows(run_dir),
        "page": str(run_dir.file(PAGE)) if run_dir.file(PAGE).is_file() else None,
    }
