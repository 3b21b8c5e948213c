"""About how much room a run takes on the disk, from the sizes of its parts, before anything is spent."""

import shutil
from pathlib import Path
from typing import Any

from dpaudit.models import hub
from dpaudit.pipeline import needs
from dpaudit.signals import recipe
from dpaudit.stages.train.forecast import Forecast
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import suite
from dpaudit.suite.plan import Plan

# bytes, as runs of the demo's kind have them
SCORE, GUESSED = 20, 70  # of a candidate under a recipe: its score; its place on the curve
STEP, AXIS = 160, 4  # of a step in the record, and of each axis in it
CALL, ANSWER, ITEM = 1_200, 300, 500  # of a judge's call, of an answer, of an item of a benchmark
ARM, PAGE = 20_000, 1_500_000  # card, ledger and manifest of an adapter; the page with its figures
ITEMS = 300  # of a benchmark whose number nobody has declared

Rows = list[dict[str, Any]]


def rows(plan: Plan, found: Forecast, run_dir: RunDir | None, at_once: int, judge: Rows | None) -> Rows:
    """Estimates in bytes: `what` stays in the run, the checkpoints of `at_once` arms only while they train,
    and the sum of all. `judge` has what it will be asked; None: only training is planned.
    """
    parts = {
        "corpus and coins": _corpus(plan, run_dir),
        "adapters and their records": _adapters(plan, found),
        "checkpoints, while arms train": at_once * needs.STATE * needs.NUMBER_BYTES * _largest(found),
    }
    if judge is not None:
        parts |= _later(plan, found, judge)
    whole = parts | {"in all, about": sum(parts.values())}
    return [{"what": what, "bytes": size} for what, size in whole.items() if size]


def warnings(rows: Rows, runs: Path) -> list[str]:
    """That the disk of `runs` has too little room, if it has."""
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    needed, free = rows[-1]["bytes"], shutil.disk_usage(place).free
    if needed <= free:
        return []
    return [
        f"the disk of {runs} has {free / 1e9:,.1f} GB free, and the run takes about {needed / 1e9:,.1f} GB: "
        "make room, or name a folder on another disk with --runs"
    ]


def _corpus(plan: Plan, run_dir: RunDir | None) -> int:
    """As it is, twice while it is drawn; without one twice the size of the data files."""
    if run_dir is None:
        return needs.corpus_bytes(plan.suite.data) * 2
    files = [file for name in ("corpus", "secret") for file in run_dir.file(name).rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


def _largest(found: Forecast) -> int:
    return max(int(row["trainable_parameters"]) for row in found.rows)


def _adapters(plan: Plan, found: Forecast) -> int:
    each = _tokenizer_bytes(plan.suite.model) + ARM
    weights = sum(row["trainable_parameters"] * needs.NUMBER_BYTES for row in found.rows)
    steps = sum(row["steps"] * (STEP + row["axes"] * AXIS) for row in found.rows)
    return int(weights + steps + each * len(found.rows))


def _tokenizer_bytes(model: suite.Model) -> int:
    """Of the tokenizer, which every adapter's folder holds; 0 where it is not here."""
    from dpaudit.models import hf

    if hub.is_id(model.base) and hub.fetched(model.base) is None:
        return 0
    folder = Path(hf.resolve(model.base))
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json")
    return sum(file.stat().st_size for name in names if (file := folder / name).is_file())


def _later(plan: Plan, found: Forecast, judge: Rows) -> dict[str, int]:
    """Of the stages after the training."""
    chosen, arms = plan.suite, [job.arm for job in found.jobs if not job.arm.twin]
    wanted = chosen.candidates
    scored = wanted.canaries + wanted.records
    recipes = sum(len(recipe.load_all(kind)) for kind in chosen.attacks if kind != "extract")
    items = sum(task.limit or chosen.evaluation.limit or ITEMS for task in chosen.evaluation.tasks)
    asked = sum(row["calls_for_controls"] + row["calls_for_answers"] for row in judge)
    answers = sum(row["unwritten"] for row in judge)
    private = sum(arm.private for arm in arms)
    return {
        "scores and what they prove": len(arms) * recipes * scored * (SCORE + GUESSED),
        "shadow models": chosen.shadows * len(arms) * _largest(found) * needs.NUMBER_BYTES,
        "benchmarks": (len(arms) + 1 + bool(len(arms) - private)) * items * ITEM,
        "answers and judgements": asked * CALL + answers * ANSWER,
        "page": PAGE,
    }
