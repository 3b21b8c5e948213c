"""What the stages of a run found, read back as rows: verdicts, extraction, quality, judging."""

from collections.abc import Iterable, Sequence

from dpaudit.commands.states import Row, Rows, is_current, read_if_there
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan


def verdict_rows(run_dir: RunDir, plan: Plan, kind: str = "mia") -> Rows:
    """Per arm and recipe of a kind: the claim, the lower bound with its ceiling, the AUC of canaries and of
    real units, the verdict.

    "control_verdict" is what the same attack says of the same claim on the arm without noise: where that is
    not "refuted", "not refuted" tells nothing.
    """
    rows, controls = [], _controls(run_dir)
    for arm, name, finding in _audits(run_dir, plan):
        if "bound" not in finding or finding.get("kind", "mia") != kind:
            continue
        bound, canaries = finding["bound"] or {}, finding.get("canaries") or {}
        rows.append(
            {
                "arm": arm,
                "recipe": name,
                "primary": bool(finding.get("primary")),
                "claim": (finding.get("claim") or {}).get("epsilon"),
                "epsilon_lower": bound.get("epsilon_lower"),
                "ceiling": bound.get("ceiling"),
                "notion": bound.get("notion"),
                "confidence": bound.get("confidence"),
                **{key: canaries.get(key) for key in ("auc", "auc_lower", "auc_upper")},
                **_of_records(finding.get("records") or {}),
                "blind_auc": (finding.get("blind") or {}).get("auc"),
                "blind_alarm": bool((finding.get("blind") or {}).get("alarm")),
                "verdict": (finding.get("verdict") or {}).get("verdict"),
                "control_verdict": controls.get(arm) if finding.get("primary") else None,
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


def inside_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm with canaries along axes: what the mechanism test and conformance say of its ledger."""
    from dpaudit.stages.audit import inside

    rows = []
    for arm in plan.suite.grid.arms:
        finding = read_if_there(run_dir, inside.file_of(arm.name))
        if finding:
            test = finding["mechanism_test"]
            rows.append(
                {
                    "arm": arm.name,
                    "claim": finding["claim"]["epsilon"],
                    "noise_multiplier": finding["noise_multiplier"],
                    **{key: test[key] for key in ("noise_upper", "epsilon_lower", "p_value", "notion")},
                    "failed": sum(check["outcome"] == "fail" for check in finding["conformance"]),
                    "ledger": finding["ledger"],
                }
            )
    return rows


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
            **_kept(finding),
            **_exposures(finding),
            "extrapolated": _extrapolated(finding),
        }
        for arm, name, finding in _audits(run_dir, plan)
        if "planted_found" in finding
    ]


def _kept(finding: Row) -> Row:
    kept = ("planted", "planted_found", "found_upper", "controls", "controls_found", "controls_upper")
    return {key: finding.get(key) for key in kept}


def _exposures(finding: Row) -> Row:
    exact = finding.get("exposure") or {}
    is_exact = bool(exact.get("planted") or exact.get("controls"))
    exposure = exact if is_exact else finding.get("exposure_extrapolated") or {}
    return {key: exposure.get(key) for key in ("median_planted", "median_control", "space_bits")}


def _extrapolated(finding: Row) -> int:
    exposure = finding.get("exposure_extrapolated") or {}
    return len(exposure.get("planted", ())) + len(exposure.get("controls", ()))


def discoverable_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm and number of attempts: secrets that come out with the recipe's probability or more."""
    return [
        {"arm": arm, "recipe": name, "queries": rate["queries"], "p": finding["p"], **_kept(rate)}
        for arm, name, finding in _audits(run_dir, plan)
        if finding.get("signal") == "discoverable"
        for rate in finding["rates"]
    ]


def pii_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm: personal fields that were completed, of units trained on and of units left out; a row a kind,
    then all.
    """
    rows = []
    for arm, name, finding in _audits(run_dir, plan):
        if finding.get("signal") == "pii_fields":
            for part in (*finding["by_kind"], {"field": "all", **finding}):
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
    by_table = {key: narrowed(rows(run_dir, plan), arms, recipes) for key, rows in tables.items()}
    return {key: rows for key, rows in by_table.items() if rows or key == "extraction"}


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
        quality = read_if_there(run_dir, f"evaluate/{arm}.json").get("quality", {})
        bits = quality.get("bits_per_byte")
        if bits:
            rows.append(
                {"arm": arm, "measure": "bits per byte", "items": bits.get("records"), **_limits(bits, "")}
            )
        for figures in quality.get("tasks", ()):
            row = {"arm": arm, "measure": figures["task"], "items": figures["items"]}
            rows.append(row | _limits(figures, "accuracy") | {"uninformative": figures["uninformative"]})
    return rows


def _limits(figures: Row, stem: str) -> Row:
    lower, upper = (f"{stem}_lower", f"{stem}_upper") if stem else ("lower", "upper")
    return {"value": figures.get(stem or "value"), "lower": figures.get(lower), "upper": figures.get(upper)}


def judge_summary(run_dir: RunDir) -> Row:
    """The judge's fitness and its win rates, or why it is unfit and none; empty where nothing was judged."""
    summary = read_if_there(run_dir, "judge/summary.json")
    if not summary:
        return {}
    last = "pairs" if summary.get("fit") else "reason"
    return {key: summary.get(key) for key in ("rubric", "fit", last)}


def control_rows(run_dir: RunDir) -> Rows:
    """The judge's passport: per kind of planted fault or twin, how many of them it got right."""
    passport = read_if_there(run_dir, "judge/passport.json")
    kinds = {**passport.get("faults", {}), **passport.get("twins", {})}
    if passport.get("swap"):
        kinds["order swap"] = passport["swap"]
    return [{"control": kind, **figures} for kind, figures in kinds.items()]
