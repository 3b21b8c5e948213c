"""The runs of a folder: named by their plan, found by name or by use, opened or begun."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.storage.custody import SEAL_KEY
from dpaudit.storage.rundir import PLAN, RunDir
from dpaudit.storage.seals import write_seal_key

RUNS = Path("runs")


def existing(runs: Path = RUNS) -> list[RunDir]:
    """All whole runs, newest use last; a run whose plan was lost is among them, to be reported."""
    folders = {p.parents[depth] for name, depth in ((PLAN, 0), (SEAL_KEY, 1)) for p in runs.glob(f"*/{name}")}
    whole = [folder for folder in folders if not folder.name.startswith(".")]
    return [RunDir(folder) for folder in sorted(whole, key=lambda p: (p.stat().st_mtime_ns, p.name))]


def find(name: str | None, runs: Path = RUNS) -> RunDir:
    """The run named `name`, in full or without its hash where it is the only one, or for None the one used
    last. Raises UsageError where there is none.
    """
    known = existing(runs)
    if not known:
        raise UsageError(
            f"{runs}/{name or ''}",
            "a run",
            "no run",
            "type `dpaudit train` or `dpaudit demo` first",
        )
    if name is None:
        return known[-1]
    for run in known:
        if _means(name, run):
            return run
    begun = [run for run in known if re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}", run.name)]
    if len(begun) == 1:  # the one run of that suite
        return begun[0]
    names = ", ".join(run.name for run in begun or known)
    raise UsageError(
        f"{runs}/{name}",
        f"one of {names}",
        f"the name that {len(begun)} runs begin with" if begun else "no such run",
        "type one of these in full; `dpaudit ls` lists them",
    )


def _means(name: str, run: RunDir) -> bool:
    """Whether what was typed is the run's name, or a path to this folder and not to another of that name."""
    typed = Path(name)
    if str(typed) == run.name:
        return True
    if typed.exists():
        return typed.name == run.name and typed.resolve() == run.path.resolve()
    return typed.parts == run.path.parts[-2:]  # runs/NAME, typed in another folder


def located(plan: dict[str, Any], name: str, runs: Path = RUNS) -> RunDir:
    """Where the run of exactly this plan is or would be: the run is called `name` and a hash of the plan."""
    return RunDir(runs / f"{name}-{hashlib.sha256(_plan_text(plan).encode()).hexdigest()[:8]}")


def open_or_create(plan: dict[str, Any], name: str, runs: Path = RUNS) -> RunDir:
    """The run of exactly this plan: the existing one (to resume), or a new one holding plan.json and nothing
    else.

    `plan` is the resolved suite with seeds and versions.
    """
    run = located(plan, name, runs)
    if run.path.exists():
        if run.read_json(PLAN) != json.loads(_plan_text(plan)):
            raise run.refused(PLAN, "an altered file", "the plan that the run began with")
        os.utime(run.path)  # the next command finds the run used last
        return run
    with RunDir(runs).whole_directory(run.name) as temporary:
        (temporary / PLAN).write_text(_plan_text(plan), encoding="utf-8")
        write_seal_key(temporary / SEAL_KEY)
    return run


def _plan_text(plan: dict[str, Any]) -> str:
    return json.dumps(plan, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
