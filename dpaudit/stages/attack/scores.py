"""The score files of stage attack: one Parquet file an arm and recipe, no labels, and what each was made
from.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.errors import UsageError
from dpaudit.signals.recipe import REFERENCES, Recipe
from dpaudit.stages.integrity import weights
from dpaudit.stages.integrity.trained import TrainedArm, score_inputs, weights_of
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.whole_files import whole_file
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan

# names of what stands beside the score of a recipe that calibrates
REFERENCE = "reference"  # the reference model's score
TOKENS = "tokens"  # how many tokens the score counts
COLUMNS = ("example", "kind", "signal", "value")
FORMAT = "scores/3"  # which numbers stand in a file for each kind of recipe


@dataclass(frozen=True)
class Score:
    """One number of one example. `kind` is canary or record; `example` is the id of the canary or unit."""

    example: str
    kind: str
    signal: str
    value: float


@dataclass(frozen=True)
class ScoringJob:
    """An arm with the recipes whose scores of it are missing or out of date."""

    arm: Arm
    recipes: list[Recipe]


def by_recipe(jobs: Iterable[ScoringJob]) -> list[tuple[Recipe, list[Arm]]]:
    """Every recipe of the jobs with the arms that want its scores."""
    arms_by_recipe: dict[str, tuple[Recipe, list[Arm]]] = {}
    for job in jobs:
        for made_by in job.recipes:
            arms_by_recipe.setdefault(made_by.name, (made_by, []))[1].append(job.arm)
    return list(arms_by_recipe.values())


def inputs_of(run_dir: RunDir, plan: Plan, arm: str, made_by: Recipe) -> list[str]:
    """What one recipe's scores of an arm are made from: the arm, and its shadows or its start where they are
    the reference.
    """
    if made_by.reference == "start":
        return [*score_inputs(arm), *_start_adapter(plan, arm)]
    if made_by.reference != "shadows":
        return score_inputs(arm)
    folders = sorted(run_dir.file(f"attack/{arm}/shadows").glob("shadow-*"))
    names = ("membership.json", "adapter/adapter_model.safetensors")
    files = [folder / name for folder in folders for name in names]
    shadows = [file.relative_to(run_dir.path).as_posix() for file in files if file.is_file()]
    return [*score_inputs(arm), *shadows]


def _start_adapter(plan: Plan, arm: str) -> list[str]:
    """The adapter of the run from which the arm continues; empty where it starts at the base or outside of
    the run.
    """
    starts = [plan.suite.grid.start_of(chosen) for chosen in plan.suite.grid.named([arm])]
    return [weights_of(start.name) for start in starts if start]


def _outside(plan: Plan, arm: str, made_by: Recipe) -> dict[str, str]:
    """Weights that scores come from and that are not the run's own -> SHA-256; a hub id has none here.

    They belong to the base, and to a reference or a start that is a folder.
    """
    model, named = plan.suite.model, made_by.reference
    if named == "start" and not _start_adapter(plan, arm):
        named = model.start or "base"
    folders = {Path(name).expanduser() for name in {model.base, named} - set(REFERENCES)}
    return {str(file): sha for folder in sorted(folders) for file, sha in weights.of_folder(folder).items()}


def score_file(arm: str, name: str) -> str:
    return f"attack/{arm}/{name}.parquet"


Counts = dict[str, dict[str, int]]  # kind of example -> truncated, unscored


def write_scores(
    run_dir: RunDir,
    plan: Plan,
    arm: str,
    made_by: Recipe,
    scores: Iterable[Score],
    counts: Counts | None = None,
) -> None:
    """Writes one recipe's scores of one arm as a whole or not at all, with what they were made from.

    `counts` says how many examples were cut short and how many could not be scored.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(scores)
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    provenance = {
        "rows": _digest(list(columns.values())),
        "inputs": run_dir.digests(inputs_of(run_dir, plan, arm, made_by)),
        "outside": _outside(plan, arm, made_by),
        "recipe": made_by.digest,
        "format": FORMAT,
        "counts": counts or {},
    }
    metadata = run_dir.stamped_metadata(score_file(arm, made_by.name), provenance)
    values = pa.array(columns["value"], pa.float64())
    table = pa.table({**columns, "value": values}).replace_schema_metadata(metadata)
    path = run_dir.file(score_file(arm, made_by.name))
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)


def read_scores(run_dir: RunDir, arm: str, name: str) -> list[Score]:
    """The rows of one recipe's scores of one arm. Raises UsageError where they are not as written."""
    return read_file(run_dir, score_file(arm, name))


def read_file(run_dir: RunDir, file: str) -> list[Score]:
    """The rows of a score file. Raises UsageError where they are not as written."""
    return [Score(*row) for row in zip(*_columns(run_dir, file), strict=True)]


def require_file(run_dir: RunDir, file: str) -> None:
    """Raises UsageError where the rows of a score file are not as written."""
    _columns(run_dir, file)


def _columns(run_dir: RunDir, file: str) -> list[list[Any]]:
    """The columns of a score file, as `COLUMNS` names them. A file alone, and not a data set of files, is
    read in a tenth of the time: no pandas is loaded.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = run_dir.read_metadata(file)
    if metadata.get("format") != FORMAT:
        raise run_dir.refused(file, f"{metadata.get('format')!s:.60}", f"format {FORMAT}")
    try:
        with pq.ParquetFile(run_dir.file(file)) as opened:
            table = opened.read(use_threads=False)
        columns = [column.to_pylist() for column in table.columns]
        is_whole = table.column_names == list(COLUMNS) and metadata["rows"] == _digest(columns)
    except (pa.ArrowException, OSError, ValueError, TypeError):  # broken, other columns, or an empty cell
        is_whole = False
    if not is_whole:
        raise run_dir.refused(
            file, "other scores", "the scores that the attack wrote, whole and in their order"
        )
    return columns


def _digest(columns: Sequence[Sequence[Any]]) -> str:
    """SHA-256 of the columns, in the order of the rows: a row that is lost, moved or changed would change
    a bound.
    """
    *texts, values = columns
    return hashlib.sha256(json.dumps(texts).encode() + array("d", values).tobytes()).hexdigest()[:32]


def read_counts(run_dir: RunDir, arm: str, name: str) -> Counts:
    """How many examples one recipe's scores cut short or left out, by kind."""
    return dict(run_dir.read_metadata(score_file(arm, name))["counts"])


def scores_are_current(run_dir: RunDir, plan: Plan, arm: str, made_by: Recipe) -> bool:
    """Whether the scores are there, of the present adapter, and made under the present recipe."""
    file = score_file(arm, made_by.name)
    if not run_dir.is_current(file, inputs_of(run_dir, plan, arm, made_by)):
        return False
    metadata = run_dir.read_metadata(file)
    expected = {"recipe": made_by.digest, "outside": _outside(plan, arm, made_by), "format": FORMAT}
    return {name: metadata.get(name) for name in expected} == expected


def require_numbers(run_dir: RunDir, arm: str, scores: Iterable[Score]) -> None:
    """Raises UsageError for NaN: the arm's training diverged."""
    bad = sum(bool(np.isnan(score.value)) for score in scores)
    if bad:
        raise UsageError(
            str(TrainedArm(run_dir, arm).adapter),
            "an adapter that gives every text a probability",
            f"NaN for {bad} examples",
            "train the arm with a lower learning rate",
        )
