"""What a run holds, read back from its directory: rows for `ls`, `show` and the lines that each command ends
with.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.storage import record_chain, rundir
from dpaudit.storage.rundir import RunDir, sidecar
from dpaudit.suite import declarations
from dpaudit.suite.plan import RECORDS, Plan

PAGE = "report/index.html"
Row = dict[str, Any]
Rows = list[Row]


def opened(name: str | None, runs: Path) -> tuple[RunDir, Plan]:
    """The run and its plan, once every file that they rest on is as it was written."""
    from dpaudit.stages.integrity import custody

    run_dir = rundir.find(name, runs)
    custody.require_run(run_dir)
    plan = declarations.plan_of(run_dir)
    custody.require(run_dir, plan)
    return run_dir, plan


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
        "stages": [stage for stage, state in stage_states(run_dir, plan).items() if state == "done"],
        "verdicts": {
            row["arm"]: row["verdict"]
            for row in verdict_rows(run_dir, plan)
            if row["primary"] and row["verdict"]
        },
        "caveat": plan.caveat,
    }


def caveat_of(rows: Rows) -> str | None:
    """The caveats of the runs in `rows` that have one, each with their names; None where there is none."""
    caveats = dict.fromkeys(row["caveat"] for row in rows if row["caveat"])
    named = {told: ", ".join(row["run"] for row in rows if row["caveat"] == told) for told in caveats}
    return "; ".join(f"{told} ({runs})" for told, runs in named.items()) or None


def stage_states(run_dir: RunDir, plan: Plan) -> dict[str, str]:
    """Stage -> "done" (all its outputs are there and current), "stale", "altered", "begun" or "open"."""
    names = [arm.name for arm in plan.suite.grid.arms]
    audited = [arm.name for arm in plan.suite.grid.arms if not arm.twin]
    wanted = {
        "prepare": ["corpus/manifest.json"],
        "train": [f"train/{name}/{file}" for name in names for file in ("privacy.json", "train.json")],
        "attack": [f"audit/{name}/{recipe}.json" for name in audited for recipe in _recipes(plan)],
        "eval": [f"evaluate/{name}.json" for name in ("base", *names)],
        "judge": ["judge/summary.json"] if plan.suite.judging else [],
        "report": ["report/report.json", sidecar(PAGE), PAGE],
    }
    return {stage: _state(run_dir, files) for stage, files in wanted.items() if files}


def _recipes(plan: Plan) -> list[str]:
    kinds = plan.suite.attacks
    mia = [plan.suite.primary] if "mia" in kinds or "preference" in kinds else []
    extract = ["extraction" if plan.suite.candidates.extraction else "pii"] if "extract" in kinds else []
    return mia + extract


def _state(run_dir: RunDir, files: Sequence[str]) -> str:
    present = [file for file in files if run_dir.file(file).is_file()]
    if not present:
        return "open"
    states = {_state_of(run_dir, file) for file in present} - {"current"}
    if states:
        return "stale" if states == {"stale"} else "altered"
    return "done" if len(present) == len(files) else "begun"


def is_current(run_dir: RunDir, relative: str) -> bool:
    """Whether a file was made from its inputs as they are now; a file that names no inputs counts as current.

    Raises UsageError for one that is not as the run wrote it.
    """
    if Path(relative).suffix not in (".json", ".parquet"):
        return True
    return run_dir.is_current(relative, run_dir.recorded_inputs(relative))


def arm_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm of the plan: what is claimed, with which mechanism, and what the ledger says was spent."""
    rows = []
    for arm in plan.suite.grid.arms:
        ledger = _optional(run_dir, f"train/{arm.name}/privacy.json")
        figures = _optional(run_dir, f"train/{arm.name}/train.json")
        mechanism = ledger.get("mechanism", {})
        rows.append(
            {
                "arm": arm.name,
                "epsilon": "inf" if not arm.private else arm.epsilon,
                "delta": plan.suite.training.claimed_delta if arm.private else None,
                "unit": plan.suite.training.unit,
                "noise_multiplier": mechanism.get("noise_multiplier"),
                "sampling_rate": mechanism.get("sampling_rate"),
                "steps": mechanism.get("steps"),
                "clip": mechanism.get("clip"),
                "epsilon_spent": ledger.get("epsilon_pld"),
                "sequences_truncated": figures.get("sequences_truncated"),
                "trained": run_dir.file(f"train/{arm.name}/adapter").is_dir(),
            }
        )
    return rows


def unfinished_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm that is not trained: from which step the same command goes on, of how many; empty before any
    training.
    """
    from dpaudit.stages.train import jobs

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
    from dpaudit.commands import again
    from dpaudit.storage import lock

    rows = unfinished_rows(run_dir, plan)
    if not rows:
        return {}
    if lock.is_held(run_dir.path, "train"):
        return {"training": "at work now", "unfinished": rows}
    words = again.command_of(plan, run_dir.path.parent)
    command = words or "the command that began this run, with the same options"
    return {"training": "stopped before its end", "unfinished": rows, "to_go_on_type": command}


def inside_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm with canaries along axes: what the mechanism test and conformance say of its ledger."""
    from dpaudit.stages.audit import inside

    rows = []
    for arm in plan.suite.grid.arms:
        found = _optional(run_dir, inside.file_of(arm.name))
        if found:
            test = found["mechanism_test"]
            rows.append(
                {
                    "arm": arm.name,
                    "claim": found["claim"]["epsilon"],
                    "noise_multiplier": found["noise_multiplier"],
                    **{key: test[key] for key in ("noise_upper", "epsilon_lower", "p_value", "notion")},
                    "failed": sum(check["outcome"] == "fail" for check in found["conformance"]),
                    "ledger": found["ledger"],
                }
            )
    return rows


def verdict_rows(run_dir: RunDir, plan: Plan, kind: str = "mia") -> Rows:
    """Per arm and recipe of a kind: the claim, the lower bound with its ceiling, the AUC of canaries and of
    real units, the verdict.

    "control_verdict" is what the same attack says of the same claim on the arm without noise: where that is
    not "refuted", "not refuted" tells nothing.
    """
    rows, controls = [], _controls(run_dir)
    for arm, name, found in _audits(run_dir, plan):
        if "bound" not in found or found.get("kind", "mia") != kind:
            continue
        bound, canaries = found["bound"] or {}, found.get("canaries") or {}
        rows.append(
            {
                "arm": arm,
                "recipe": name,
                "primary": bool(found.get("primary")),
                "claim": (found.get("claim") or {}).get("epsilon"),
                "epsilon_lower": bound.get("epsilon_lower"),
                "ceiling": bound.get("ceiling"),
                "notion": bound.get("notion"),
                "confidence": bound.get("confidence"),
                **{key: canaries.get(key) for key in ("auc", "auc_lower", "auc_upper")},
                **_of_records(found.get("records") or {}),
                "blind_auc": (found.get("blind") or {}).get("auc"),
                "blind_alarm": bool((found.get("blind") or {}).get("alarm")),
                "verdict": (found.get("verdict") or {}).get("verdict"),
                "control_verdict": controls.get(arm) if found.get("primary") else None,
            }
        )
    return rows


def _controls(run_dir: RunDir) -> dict[str, str | None]:
    file = "audit/summary.json"
    if not (run_dir.file(file).is_file() and is_current(run_dir, file)):
        return {}
    return {claim["arm"]: claim["control_verdict"] for claim in run_dir.read_json(file).get("claims", [])}


def _of_records(records: Row) -> Row:
    """The AUC of real units with its limits, how many they are, and the AUC without those that have
    near-duplicates.
    """
    near, blind = records.get("near_duplicates") or {}, records.get("blind") or {}
    return {
        **{f"records_{key}": records.get(key) for key in ("n", "auc", "auc_lower", "auc_upper")},
        "records_auc_without_near_duplicates": near.get("auc_without"),
        "records_blind_auc": blind.get("auc"),
    }


def extraction_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm: planted secrets that came out, never-planted ones that did, with the upper limit of each rate;
    their exposures.

    `extrapolated` counts the secrets whose exposure rests on a sample of their space. The medians, in bits,
    are those of exact exposures, and of extrapolated ones where there is no exact one.
    """
    return [
        {
            "arm": arm,
            "recipe": name,
            **_kept(found),
            **_exposures(found),
            "extrapolated": _extrapolated(found),
        }
        for arm, name, found in _audits(run_dir, plan)
        if "planted_found" in found
    ]


def _kept(found: Row) -> Row:
    kept = ("planted", "planted_found", "found_upper", "controls", "controls_found", "controls_upper")
    return {key: found.get(key) for key in kept}


def _exposures(found: Row) -> Row:
    exact = found.get("exposure") or {}
    is_exact = bool(exact.get("planted") or exact.get("controls"))
    told = exact if is_exact else found.get("exposure_extrapolated") or {}
    return {key: told.get(key) for key in ("median_planted", "median_control", "space_bits")}


def _extrapolated(found: Row) -> int:
    told = found.get("exposure_extrapolated") or {}
    return len(told.get("planted", ())) + len(told.get("controls", ()))


def discoverable_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm and number of attempts: secrets that come out with the recipe's probability or more."""
    return [
        {"arm": arm, "recipe": name, "queries": rate["queries"], "p": found["p"], **_kept(rate)}
        for arm, name, found in _audits(run_dir, plan)
        if found.get("signal") == "discoverable"
        for rate in found["rates"]
    ]


def pii_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm: personal fields that were completed, of units trained on and of units left out; a row a kind,
    then all.
    """
    rows = []
    for arm, name, found in _audits(run_dir, plan):
        if found.get("signal") == "pii_fields":
            for part in (*found["by_kind"], {"field": "all", **found}):
                members, others = part["members"], part["non_members"]
                rows.append(
                    {
                        "arm": arm,
                        "recipe": name,
                        "field": part["field"],
                        "completed": members["completed"],
                        "fields": members["fields"],
                        "upper": members["upper"]
                        if members["fields"]
                        else None,  # nothing tried, nothing known
                        "others_completed": others["completed"],
                        "others_fields": others["fields"],
                        "given": members["given"] + others["given"],
                        "units_out": members.get("units_out"),
                    }
                )
    return rows


def extract_tables(
    run_dir: RunDir, plan: Plan, arms: Sequence[str] | None = None, recipes: Sequence[str] | None = None
) -> dict[str, Rows]:
    """What the recipes of kind extract found, a table for each that found anything."""
    tables = {"extraction": extraction_rows, "discoverable": discoverable_rows, "pii": pii_rows}
    found = {key: narrowed(rows(run_dir, plan), arms, recipes) for key, rows in tables.items()}
    return {key: rows for key, rows in found.items() if rows or key == "extraction"}


def narrowed(rows: Rows, arms: Sequence[str] | None, recipes: Sequence[str] | None) -> Rows:
    """The rows of the named arms and recipes; None names all."""
    asked = (("arm", arms), ("recipe", recipes))
    return [row for row in rows if all(names is None or row[key] in names for key, names in asked)]


def _audits(run_dir: RunDir, plan: Plan) -> Iterable[tuple[str, str, Row]]:
    """Arm, recipe and findings of every audit that is current: a stale one speaks of an adapter that is
    gone.
    """
    for arm in plan.suite.grid.arms:
        for file in sorted(run_dir.file(f"audit/{arm.name}").glob("*.json")):
            relative = f"audit/{arm.name}/{file.name}"
            if is_current(run_dir, relative):
                yield arm.name, file.stem, run_dir.read_json(relative)


def quality_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm and measure: held-out bits per byte (lower is better) and each benchmark's accuracy, with 95 %
    limits.
    """
    rows: Rows = []
    for arm in ("base", *(arm.name for arm in plan.suite.grid.arms)):
        found = _optional(run_dir, f"evaluate/{arm}.json").get("quality", {})
        bits = found.get("bits_per_byte")
        if bits:
            rows.append(
                {"arm": arm, "measure": "bits per byte", "items": bits.get("records"), **_limits(bits, "")}
            )
        for figures in found.get("tasks", ()):
            row = {"arm": arm, "measure": figures["task"], "items": figures["items"]}
            rows.append(row | _limits(figures, "accuracy") | {"uninformative": figures["uninformative"]})
    return rows


def _limits(figures: Row, stem: str) -> Row:
    lower, upper = (f"{stem}_lower", f"{stem}_upper") if stem else ("lower", "upper")
    return {"value": figures.get(stem or "value"), "lower": figures.get(lower), "upper": figures.get(upper)}


def judge_summary(run_dir: RunDir) -> Row:
    """The judge's fitness and its win rates, or why it is unfit and none; empty where nothing was judged."""
    found = _optional(run_dir, "judge/summary.json")
    if not found:
        return {}
    told = {"rubric": found.get("rubric"), "fit": found.get("fit")}
    return told | ({"pairs": found.get("pairs")} if found.get("fit") else {"reason": found.get("reason")})


def control_rows(run_dir: RunDir) -> Rows:
    """The judge's passport: per kind of planted fault or twin, how many of them it got right."""
    passport = _optional(run_dir, "judge/passport.json")
    kinds = {**passport.get("faults", {}), **passport.get("twins", {})}
    if passport.get("swap"):
        kinds["order swap"] = passport["swap"]
    return [{"control": kind, **figures} for kind, figures in kinds.items()]


def record_rows(run_dir: RunDir) -> Rows:
    """What the run was asked beside its training, entry by entry: when, by what, and whether before training.

    What was lost of it is told too.
    """
    asked: Rows = [
        {"record": record, "date": entry.date, "mark": entry.mark, "by": entry.source}
        for record in RECORDS
        for entry in declarations.entries(run_dir, record)
    ]
    return [*asked, *({**row, "by": "suite"} for row in lost_rows(run_dir))]


def lost_rows(run_dir: RunDir) -> Rows:
    """The records of the run that were written anew because what was there was lost."""
    return [
        {"record": loss.record, "date": loss.date, "mark": f"written anew: {_lost(loss)} before it lost"}
        for loss in declarations.lost(run_dir)
    ]


def _lost(loss: record_chain.Loss) -> str:
    if loss.entries is None:
        return "entries"
    return f"{loss.entries} {'entry' if loss.entries == 1 else 'entries'}"


def output_rows(run_dir: RunDir) -> Rows:
    """Every output that names its inputs, with "current" or "stale"."""
    files = [
        p
        for part in ("corpus", "train", "attack", "audit", "evaluate", "judge", "report")
        for p in sorted(run_dir.file(part).rglob("*"))
        if p.is_file() and p.suffix in (".json", ".parquet")
    ]
    named = [file.relative_to(run_dir.path).as_posix() for file in files if "adapter" not in file.parts]
    return [
        {"file": name, "state": _state_of(run_dir, name)}
        for name in named
        if not name.endswith(".custody.json")
    ]


def _state_of(run_dir: RunDir, relative: str) -> str:
    try:
        return "current" if is_current(run_dir, relative) else "stale"
    except UsageError as error:
        return error.got


def _optional(run_dir: RunDir, relative: str) -> Row:
    return run_dir.read_json(relative) if run_dir.file(relative).is_file() else {}


def recipe_rows() -> Rows:
    """One line per attack recipe, shipped and own, with the file that it is read from."""
    from dpaudit import content
    from dpaudit.signals import recipe

    kept = (
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
    files, ours = content.listing("attacks"), content.shipped("attacks")
    return [
        {
            **{key: getattr(found, key) for key in kept},
            "sees": found.threat,
            "least_shadows": found.least_shadows,
            "file": str(files[found.name]),
            "own": files[found.name].parent != ours,
        }
        for found in recipe.load_all()
    ]


def results(run_dir: RunDir, plan: Plan) -> Row:
    """What a finished run found, as `run` and `demo` print it."""
    return {
        "arms": arm_rows(run_dir, plan),
        "verdicts": [row for row in verdict_rows(run_dir, plan) if row["primary"]],
        **extract_tables(run_dir, plan),
        "quality": quality_rows(run_dir, plan),
        **judge_summary(run_dir),
        "page": str(run_dir.file(PAGE)),
    }


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
        "stages": stage_states(run_dir, plan),
        "custody": custody.seal_state(run_dir),
        "commitment": _optional(run_dir, "corpus/manifest.json").get("commitment"),
        "records": record_rows(run_dir),
        "arms": arm_rows(run_dir, plan),
        **_unfinished(run_dir, plan),
        **(
            {"gone": [{"file": file, "type": command} for file, command in run_dir.gone().items()]}
            if run_dir.gone()
            else {}
        ),
        "outputs": output_rows(run_dir),
        "page": str(run_dir.file(PAGE)) if run_dir.file(PAGE).is_file() else None,
    }
