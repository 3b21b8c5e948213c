"""A file of scores with coins, as `dpaudit bound` reads it: CSV or Parquet with the columns `score` and
`included`.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpaudit.data.columns import PLAIN_NAME
from dpaudit.errors import UsageError, unread

CELL_LARGEST = 1 << 17  # characters of a cell: a score has a few
SCORES_LEAST = 20


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores with coins: arrays of shape (canaries,)."""

    scores: NDArray[np.float64]  # higher = more likely included
    included: NDArray[np.bool_]


def read(file: Path) -> Scored:
    """The scores of a CSV or Parquet file with the columns `score` and `included`. Raises UsageError naming
    the line.
    """
    try:
        columns = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    except OSError as error:
        raise unread(file, "a CSV or Parquet file", error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            str(file),
            "a CSV or Parquet file",
            "bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else "a row that is not CSV",
            "write the table again",
        ) from error
    scores, included = columns
    bad = np.flatnonzero(np.isnan(scores))
    if bad.size:
        raise UsageError(f"{file}: row {bad[0] + 1}: score", "a number", f"no number in {bad.size} rows")
    members = int(included.sum())
    if len(scores) < SCORES_LEAST:
        raise UsageError(str(file), f"at least {SCORES_LEAST} scores", str(len(scores)))
    if members in (0, len(scores)):
        raise UsageError(f"{file}: included", "both true and false", "one value in all rows")
    if scores.min() == scores.max():
        raise UsageError(f"{file}: score", "scores that differ", "one value in all rows")
    return Scored(scores, included)


def _csv(file: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        csv.field_size_limit(CELL_LARGEST)  # holds for the whole process: readers of texts have raised it
        rows = csv.DictReader(lines)
        if not {"score", "included"} <= set(rows.fieldnames or ()):
            raise UsageError(str(file), "columns score and included", _named(rows.fieldnames or ()))
        if twice := [name for name in ("score", "included") if list(rows.fieldnames or ()).count(name) > 1]:
            raise UsageError(
                str(file), f"one column {twice[0]}", "two such columns", "rename or remove the others"
            )
        pairs = [
            (_number(file, rows.line_num, r["score"]), _coin(file, rows.line_num, r["included"]))
            for r in rows
        ]
    return np.array([p[0] for p in pairs], dtype=np.float64), np.array([p[1] for p in pairs], dtype=bool)


def _named(columns: Sequence[str]) -> str:
    """The columns that have plain names; any other might be somebody's text in a file without a heading."""
    plain = [name for name in columns if PLAIN_NAME.fullmatch(name)]
    others = (
        [f"{len(columns) - len(plain)} columns without a plain name"] if len(plain) < len(columns) else []
    )
    return ", ".join(plain[:20] + others) or "no columns"


def _number(file: Path, line: int, text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        raise UsageError(f"{file}: line {line}: score", "a number", "another text") from None


def _coin(file: Path, line: int, text: str | None) -> bool:
    word = (text or "").strip().lower()
    if word not in ("0", "1", "true", "false", "0.0", "1.0"):
        raise UsageError(f"{file}: line {line}: included", "1, 0, true or false", "another value")
    return word in ("1", "true", "1.0")


def _parquet(file: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    import pyarrow.lib
    import pyarrow.parquet
    import pyarrow.types

    try:
        table = pyarrow.parquet.read_table(file, columns=["score", "included"])
        table.validate(full=True)  # buffers that are too short would be read beyond their end
        if pyarrow.types.is_temporal(table["score"].type):
            raise ValueError("a time is no score")
        scores = table["score"].to_numpy().astype(np.float64)
        included = table["included"].to_numpy()
    except (pyarrow.lib.ArrowException, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            str(file),
            "Parquet with number columns score and included",
            "a damaged file, or other columns",
            "write the table again",
        ) from error
    if not np.isin(included, [0, 1]).all():
        raise UsageError(f"{file}: included", "1, 0, true or false", "another value")
    return scores, included.astype(bool)
