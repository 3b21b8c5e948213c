"""Puts what the other stages left behind into report/report.json and on one page. Copies; computes no
number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpaudit.data.canary import CORPUS_FAMILIES
from dpaudit.errors import UsageError
from dpaudit.findings.quality import Comparisons
from dpaudit.privacy import ledger
from dpaudit.stages import outputs
from dpaudit.stages.audit import inside
from dpaudit.stages.integrity import custody
from dpaudit.storage import record_chain
from dpaudit.storage.exclusive import alone
from dpaudit.storage.remedies import missing
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import write_sealed
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

# What each copied file must hold, and what it may hold. Nothing else is copied, so no text can slip through.
PRIVACY = ("claim", "mechanism", "population", "population_assumed", "epsilon_pld", "reproducible_noise")
PRIVACY_ALSO = ("epsilon_rdp", "expected_batch", "sampler", "steps_done", "trainable_parameters")
TRAINING = ("seconds",)
TRAINING_ALSO = (
    "peak_memory_mb",
    "tokens",
    "tokens_per_second",
    "trainable_parameters",
    "sequences_truncated",
    "guards",
)
MEMBERSHIP = ("arm", "recipe", "primary", "signal", "claim", "canaries", "bound", "verdict")
MEMBERSHIP_ALSO = ("records", "blind", "equal_secrets", "kind", "fitted")
INSIDE = ("arm", "claim", "noise_multiplier", "canaries", "confidence", "mechanism_test", "caught", "one_run",
    "conformance", "ledger")  # fmt: skip
BESIDE = ("blind", "near_duplicates")
EXTRACTION = ("arm", "recipe", "planted", "planted_found", "found_lower", "found_upper", "controls",
    "controls_found",
              "controls_upper", "exposure")  # fmt: skip
EXTRACTION_ALSO = (
    "confidence",
    "controls_lower",
    "found_rate",
    "rank_first_planted",
    "rank_first_controls",
    "exposure_extrapolated",
    "by_repetitions",
    *BESIDE,
)
DISCOVERABLE = ("arm", "recipe", "confidence", "p", "decoding", "rates", "fewest_planted", "fewest_controls",
    "never_planted",
                "never_controls")  # fmt: skip
PII = ("arm", "recipe", "confidence", "unit", "trained_on", "members", "non_members", "by_kind")
COPIED = {
    "membership": (MEMBERSHIP, MEMBERSHIP_ALSO),
    "extraction": (EXTRACTION, EXTRACTION_ALSO),
    "discoverable": (DISCOVERABLE, BESIDE),
    "pii": (PII, BESIDE),
}
EXTRACTS = {"exact_rank": "extraction", "discoverable": "discoverable", "pii_fields": "pii"}  # by signal
TOGETHER = ("composed_epsilon", "composed_delta", "positive_control")
TOGETHER_ALSO = ("claims", "family_error")
COMPARED = ("pairs", "trend", "margin", "confidence")
JUDGING = ("rubric", "fit", "passport", "pairs")
JUDGING_ALSO = ("title", "kind")
SAID = (
    "arm",
    "claim",
    "delta",
    "epsilon_lower",
    "ceiling",
    "verdict",
    "reason",
    "control_verdict",
    "ledger",
    "ledger_reason",
    "mark",
    "date",
)
PAGE, FIGURES = "report/index.html", "report/report.json"
CLAIMS = "audit/claims.json"  # the file that `verify --run` leaves
ASKED = ("evaluation", "judging")
STEP = ("step", "loss", "clipped_share")


class Reading:
    """The outputs of one run as they are read: which files the page is made from, and which were out of
    date.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.files: list[str] = []
        self.stale: list[str] = []

    def copy(self, file: str, needed: Sequence[str], also: Sequence[str] = ()) -> dict[str, Any] | None:
        """The named keys of a JSON output; None where there is no such file, or an outdated one.

        Raises UsageError naming file and key where a needed key is missing.
        """
        if not self.run_dir.file(file).is_file():
            return None
        if not self.run_dir.is_current(file, self.run_dir.recorded_inputs(file)):
            self.stale.append(file)
            return None
        self.files.append(file)
        return pick(self.run_dir.read_json(file), needed, also, str(self.run_dir.file(file)))


@alone("report")
def run(run_dir: RunDir, plan: Plan, progress: Progress) -> Path:
    """Writes report/report.json and report/index.html; returns the page's path.

    A stage that has not run, or whose output is out of date, is named on the page. Raises UsageError where no
    arm is trained, or where an output lacks a key that it must have.
    """
    from dpaudit.page import render

    outputs.require(run_dir, plan)
    reading = Reading(run_dir)
    report = assemble(reading, plan)
    run_dir.write_json(FIGURES, report, reading.files)
    write_sealed(run_dir, PAGE, render.render(run_dir.read_json(FIGURES)), inputs=[FIGURES])
    lacking = _lacking(report["stages"]) + [
        f"{gone['file']}, which is gone, type `{gone['command']}`" for gone in report["gone"]
    ]
    if lacking:
        progress.say(f"not on the page: {'; '.join(lacking)}")
    progress.say(f"report: {run_dir.file(PAGE)}")
    return run_dir.file(PAGE)


def _lacking(stages: dict[str, Any]) -> list[str]:
    """What is not on the page that a command would bring there, and that command."""
    told = []
    for name, stage in stages.items():
        if stage["state"] in ("partial", "out of date", "not run"):
            arms = f" of {', '.join(stage['absent'])}" if stage["state"] == "partial" else ""
            told.append(f"{name}{arms}, {'out of date, ' if stage['stale'] else ''}type `{stage['command']}`")
    return told


def assemble(reading: Reading, plan: Plan) -> dict[str, Any]:
    """All that the page shows, as one JSON object; see the keys below. Infinity is the text "inf"."""
    grid = [arm for arm in plan.suite.grid.arms if not arm.twin]
    twins = [arm.name for arm in plan.suite.grid.arms if arm.twin]
    trained = [entry for arm in grid if (entry := _arm(reading, plan, arm)) is not None]
    if not trained:
        raise missing(reading.run_dir.file("train"), "dpaudit train")
    names = [entry["arm"] for entry in trained]
    audits = [audit for name in names for audit in _audits(reading, name, "membership")]
    extracts = {
        part: [audit for name in names for audit in _audits(reading, name, part)]
        for part in EXTRACTS.values()
    }
    quality = [found for name in ["base", *names, *twins] if (found := _quality(reading, name)) is not None]
    report = {
        "run": _run(reading.run_dir, plan, trained),
        "arms": trained,
        "audits": audits,
        "inside": [found for name in names if (found := reading.copy(inside.file_of(name), INSIDE))],
        "together": reading.copy("audit/summary.json", TOGETHER, TOGETHER_ALSO) or {},
        **extracts,
        "quality": quality,
        "skipped": (reading.copy("evaluate/tasks.json", (), ("skipped",)) or {}).get("skipped", []),
        "comparisons": _comparisons(reading),
        "judge": _judge(reading),
        "asked": {record: _asked(reading, record) for record in ASKED},
        "claims": _claims(reading),
        "gone": [{"file": file, "command": command} for file, command in reading.run_dir.gone().items()],
        "records_lost": [asdict(loss) for loss in declarations.lost(reading.run_dir)],
    }
    return {**report, "stages": _stages(report, [arm.name for arm in grid], plan, reading)}


def pick(data: dict[str, Any], needed: Iterable[str], also: Iterable[str], file: str) -> dict[str, Any]:
    """The named keys of `data`, in that order. Raises UsageError naming file and key where a needed one is
    absent.
    """
    needed = list(needed)
    for key in needed:
        if key not in data:
            raise UsageError(
                f"{file}: {key}", "a value", "no value", "delete the file and type its command again"
            )
    return {key: data[key] for key in (*needed, *also) if key in data}


def _run(run_dir: RunDir, plan: Plan, trained: list[dict[str, Any]]) -> dict[str, Any]:
    suite = plan.suite
    return {
        "name": run_dir.name,
        "title": f"{_short(suite.model.base)}, fine-tuned on {_short(suite.data.source)}",
        "suite": suite.name,
        "description": suite.description,
        "model": suite.model.base,
        "data": suite.data.source,
        "max_length": suite.model.max_length,
        "unit": suite.training.unit,
        "relation": suite.training.claimed_relation,
        "delta": suite.training.claimed_delta,
        "primary": suite.primary,
        "margin": suite.evaluation.margin,
        "seed": plan.seed,
        "insecure_seed": plan.insecure_seed,
        "corpus_words": suite.candidates.family in CORPUS_FAMILIES,
        "canary_share": _canary_share(run_dir),
        "assumed_public": suite.model.start is not None and suite.model.assume_public,
        "reproducible_noise": any(arm["privacy"]["reproducible_noise"] for arm in trained),
        "versions": plan.versions,
        "custody": custody.seal_state(run_dir),
        "commitment": _manifest(run_dir).get("commitment"),
    }


def _canary_share(run_dir: RunDir) -> dict[str, Any]:
    """Method -> expected share of canaries among its units and its text; no coin bears on it."""
    return dict(_manifest(run_dir).get("canary_share", {}))


def _manifest(run_dir: RunDir) -> dict[str, Any]:
    return run_dir.read_json(custody.CORPUS) if run_dir.file(custody.CORPUS).is_file() else {}


def _short(source: str) -> str:
    """A model or data source as a title names it: the last part of a path or hub id; a builtin as it is."""
    return source if source.startswith("builtin:") else Path(source).name or source


def _arm(reading: Reading, plan: Plan, arm: Arm) -> dict[str, Any] | None:
    folder = f"train/{arm.name}"
    training = reading.copy(f"{folder}/train.json", TRAINING, TRAINING_ALSO)
    privacy = reading.copy(ledger.file_of(arm.name), PRIVACY, PRIVACY_ALSO) if training else None
    if training is None or privacy is None:
        return None
    epsilon = arm.epsilon if arm.private else "inf"
    named = {"arm": arm.name, "method": arm.method, "loss": arm.loss, "epsilon": epsilon, "seed": arm.seed}
    named["starts_from"] = _start(plan, arm)
    steps = _steps(reading, f"{folder}/steps.jsonl")
    digest = custody.adapter_digest(reading.run_dir, arm.name)
    trainings = len({digest, *custody.trained_before(reading.run_dir, arm.name)})
    return {
        **named,
        "private": arm.private,
        "privacy": privacy,
        "training": training,
        "steps": steps,
        "adapter_sha256": digest,
        "trainings": trainings,
    }


def _start(plan: Plan, arm: Arm) -> str:
    """What the arm goes on from: another arm of the run, the adapter that the run was given, or the base
    model.
    """
    earlier = plan.suite.grid.start_of(arm)
    if earlier is not None:
        return earlier.name
    return "the base model" if plan.suite.model.start is None else "the adapter that the run began with"


def _steps(reading: Reading, file: str) -> dict[str, list[Any]]:
    """The training curves, column by column; private figures, which the page sets apart."""
    if not reading.run_dir.file(file).is_file():
        return {}
    rows = reading.run_dir.read_lines(file)
    reading.files.append(file)
    return {key: [row.get(key) for row in rows] for key in STEP}


def _audits(reading: Reading, arm: str, kind: str) -> list[dict[str, Any]]:
    """What the recipes of a kind found on an arm, the primary one first."""
    found = []
    for path in sorted(reading.run_dir.file(f"audit/{arm}").glob("*.json")):
        file = f"audit/{arm}/{path.name}"
        if _kind(reading.run_dir.read_json(file)) == kind:
            found.append(reading.copy(file, *COPIED[kind]))
    return sorted((audit for audit in found if audit), key=lambda audit: not audit.get("primary"))


def _kind(found: dict[str, Any]) -> str:
    """Which part of the report an audit belongs to; those of before the signals of extraction were named hold
    ranks.
    """
    if "planted_found" in found:
        return "extraction"
    return EXTRACTS.get(found.get("signal", ""), "membership") if "bound" not in found else "membership"


def _quality(reading: Reading, arm: str) -> dict[str, Any] | None:
    found = reading.copy(f"evaluate/{arm}.json", ("quality",))
    return None if found is None else dict(found["quality"])


def _comparisons(reading: Reading) -> dict[str, Any]:
    found = reading.copy("evaluate/summary.json", COMPARED)
    return {} if found is None else asdict(Comparisons.read(reading.run_dir, "evaluate/summary.json"))


def _judge(reading: Reading) -> dict[str, Any]:
    """The judge's passport, and the win rates if it is fit: an unfit judge's win rates are not shown
    anywhere.
    """
    found = reading.copy("judge/summary.json", JUDGING, JUDGING_ALSO) or {}
    return found if found.get("fit") else {key: found[key] for key in found if key != "pairs"}


def _asked(reading: Reading, record: str) -> dict[str, Any]:
    """Whether the settings of a stage were declared before training, and when those in force were written."""
    last = declarations.entries(reading.run_dir, record)[-1]
    reading.files.append(record_chain.file_of(record))
    return {"mark": last.mark, "date": last.date}


def _claims(reading: Reading) -> list[dict[str, Any]]:
    """The run's own claims, each with its mark; with its verdict where `verify --run` has looked since."""
    file = record_chain.file_of(declarations.CLAIMS)
    reading.files.append(file)
    found = (reading.copy(CLAIMS, ("claims",)) or {}).get("claims")
    if found is not None:
        return [pick(row, SAID, (), str(reading.run_dir.file(CLAIMS))) for row in found]
    return [
        {
            "arm": claim.arm,
            "claim": claim.epsilon,
            "delta": claim.delta,
            "mark": entry.mark,
            "date": entry.date,
        }
        for claim, entry in declarations.claims(reading.run_dir)
    ]


def _stages(report: dict[str, Any], grid: list[str], plan: Plan, reading: Reading) -> dict[str, Any]:
    """For each section whether its stage is done, for which arms it is not, and what to type."""
    trained = [entry["arm"] for entry in report["arms"]]
    primary = {audit["arm"] for audit in report["audits"] if audit["primary"] and audit["bound"]}
    judged = trained if report["judge"] else []
    from dpaudit.signals import recipe  # it loads NumPy

    out = report["extraction" if plan.suite.candidates.extraction else "pii"]
    kind = recipe.load(plan.suite.primary).kind
    done = {
        "train": (grid, trained, "dpaudit train"),
        "audit": (trained, primary, f"dpaudit attack {kind}"),
        "extraction": (trained, [e["arm"] for e in out], "dpaudit attack extract"),
        "quality": (["base", *trained], [e["arm"] for e in report["quality"]], "dpaudit eval"),
        "judge": (trained, judged, "dpaudit judge"),
    }
    folders = {"train": "train/", "quality": "evaluate/", "judge": "judge/"}
    stages = {}
    for name, (expected, present, command) in done.items():
        absent = [arm for arm in expected if arm not in present]
        stale = [file for file in reading.stale if file.startswith(folders.get(name, "audit/"))]
        state = "done" if not absent else "partial" if present else "out of date" if stale else "not run"
        if name == "judge" and plan.suite.judging is None:
            state, absent = "not planned", []
        if name == "audit" and plan.suite.training.unit == "label":
            state, absent = "not applicable", []
        stages[name] = {"state": state, "command": command, "absent": absent, "stale": stale}
    return stages
