"""The outputs of a run as they lie on the disk: current, stale or altered."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.privacy import ledger
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.storage.custody import sidecar
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

PAGE, FIGURES = "report/index.html", "report/report.json"
Row = dict[str, Any]
Rows = list[Row]


def is_current(run_dir: RunDir, relative: str) -> bool:
    """Whether a file was made from its inputs as they are now; a file that names no inputs counts as current.

    Raises UsageError for one that is not as the run wrote it.
    """
    if Path(relative).suffix not in (".json", ".parquet"):
        return True
    return run_dir.is_current(relative, run_dir.recorded_inputs(relative))


def stage_states(run_dir: RunDir, plan: Plan) -> dict[str, str]:
    """Stage -> "done" (all its outputs are there and current), "stale", "altered", "begun" or "open"."""
    names = [arm.name for arm in plan.suite.grid.arms]
    audited = [arm.name for arm in plan.suite.grid.arms if not arm.twin]
    wanted = {
        "prepare": ["corpus/manifest.json"],
        "train": [
            file for name in names for file in (ledger.file_of(name), TrainedArm(run_dir, name).figures_file)
        ],
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
    others = {_state_of(run_dir, file) for file in present} - {"current"}
    if others:
        return "stale" if others == {"stale"} else "altered"
    return "done" if len(present) == len(files) else "begun"


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


def read_if_there(run_dir: RunDir, relative: str) -> Row:
    """What a JSON file of the run holds; empty where it is not there."""
    return run_dir.read_json(relative) if run_dir.file(relative).is_file() else {}
