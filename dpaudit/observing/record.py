"""The record of an observed training: what reached the optimizer along the axes, less the part of other rows,
and what was counted beside it. It holds figures of private rows without noise (batch sizes, draws), and the
noise along the axes, so it is as private as the data.
"""

import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit import schema
from dpaudit.errors import UsageError, unread
from dpaudit.schema import Count, Size
from dpaudit.storage import whole_files

FORMAT = "seen/3"
EXPECTED = "the record that watch.save wrote"
BROKEN = (ValueError, KeyError, TypeError, EOFError, RecursionError, AttributeError, NotImplementedError)


@dataclass(frozen=True)
class Accounted:
    """Steps of one kind that the trainer's own accountant counted."""

    noise_multiplier: Size
    sampling_rate: Size
    steps: Count


@dataclass(frozen=True)
class About:
    """What is said of the training as a whole."""

    commitment: str  # of the key
    rows: Count  # of the data set, without canaries
    axes: Count
    included: Count
    weights: tuple[str, ...]  # trainable ones that the optimizer has
    still: tuple[str, ...]  # trainable weights that had not moved when this was written
    ended: bool  # False of a record that `save` did not close
    clipping: str  # flat or per layer; none of an optimizer that is not private
    processes: Count
    sequences: Count  # rows of gradients that one row of the data had
    unclipped: Count  # steps that the optimizer made without its own clip
    mixed: Count  # clipped steps in which the part of other rows along the axes could not be taken out
    matched: Count  # batches in which all canaries looked alike, as copies do
    accountant: str | None  # its kind; None where none was found
    accounted: tuple[Accounted, ...]
    optimizer: str
    program: str  # version of Opacus, or of PyTorch where that is not used


@dataclass(frozen=True, eq=False)
class Record:
    """One training. Arrays of steps are in their order."""

    about: About
    observed: NDArray[
        np.float32
    ]  # (steps, axes), over the clip: what was released less the part of other rows
    drawn: NDArray[np.int64]  # (steps,), rows of the step, canaries among them
    canaries: NDArray[np.int64]  # (steps,), canaries among them
    noise_multiplier: NDArray[np.float64]  # (steps,), as the optimizer says
    clip: NDArray[np.float64]  # (steps,)
    divisor: NDArray[np.float64]  # (steps,), expected batch as the optimizer says; 1 of a sum
    fresh: NDArray[np.float64]  # (steps,), largest standardised correlation of its noise with earlier noise
    compared: NDArray[np.int64]  # (steps,), with how many earlier steps
    row_draws: NDArray[np.int64]  # how many rows were drawn 0, 1, 2, ... times
    noise_squares: NDArray[np.float64]  # (weights,), sum of squares of the noise over the clip
    noise_values: NDArray[np.int64]  # (weights,), of how many values
    one_row: NDArray[np.float64]  # norm of what one row added to a sum, over the clip

    @property
    def steps(self) -> int:
        return len(self.observed)

    @property
    def planted(self) -> bool:
        """Whether any step passed a clip, where canaries stand."""
        return self.about.unclipped < self.steps


_ARRAYS = [field.name for field in fields(Record) if field.name != "about"]
_OF_STEPS = ("observed", "drawn", "canaries", "noise_multiplier", "clip", "divisor", "fresh", "compared")


def write(record: Record, path: Path) -> None:
    """Writes the file whole, readable by its owner alone."""
    about = json.dumps({"format": FORMAT, **schema.plain(asdict(record.about))})
    arrays = {name: getattr(record, name) for name in _ARRAYS}
    with whole_files.whole_file(path) as part, part.open("wb") as stream:
        part.chmod(whole_files.PRIVATE)
        np.savez(stream, about=np.array(about), **arrays)


def load(path: Path) -> Record:
    """The record in a file. Raises UsageError in one line for a file that is none or was cut short."""
    where = f"--observed {path}"
    try:
        with np.load(path, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            arrays = {name: found[name] for name in _ARRAYS} if _is_ours(about) else {}
    except OSError as error:
        raise unread(where, EXPECTED, error) from None
    except (*BROKEN, zipfile.BadZipFile, zlib.error):
        raise UsageError(
            where,
            EXPECTED,
            "another file, or one that was cut short",
            "copy it again from where it was written",
        ) from None
    if not arrays:
        raise UsageError(
            where, f"a record of format {FORMAT}", "another format", "use the dpaudit that wrote it"
        )
    del about["format"]
    record = Record(schema.build(About, about, file=str(path)), **arrays)
    if not _fits(record):
        raise UsageError(where, EXPECTED, "arrays that do not fit together", "train and observe again")
    for name in _ARRAYS:
        if not np.isfinite(getattr(record, name)).all():
            got, remedy = "NaN or infinity", "the training diverged: train it again"
            raise UsageError(f"{where}: {name}", "finite numbers", got, remedy)
    if not _counts_fit(record):
        raise UsageError(where, EXPECTED, "counts that contradict each other", "train and observe again")
    return record


def _is_ours(about: Any) -> bool:
    return isinstance(about, dict) and about.get("format") == FORMAT


def _fits(record: Record) -> bool:
    about, weights = record.about, len(record.about.weights)
    one_of_each_step = all(len(getattr(record, name)) == record.steps for name in _OF_STEPS)
    numbers = all(getattr(record, name).dtype.kind in "iuf" for name in _ARRAYS)
    flat = all(getattr(record, name).ndim == 1 for name in _ARRAYS if name != "observed")
    of_weights = len(record.noise_squares) == len(record.noise_values) == weights
    return (
        record.observed.ndim == 2
        and record.observed.shape[1] == about.axes
        and numbers
        and flat
        and one_of_each_step
        and of_weights
        and record.steps > 0
        and weights > 0
    )


def _counts_fit(record: Record) -> bool:
    about, rows = record.about, record.about.rows + record.about.included
    counted = sum(times * int(rows_of) for times, rows_of in enumerate(record.row_draws))
    return (
        all((getattr(record, name) >= 0).all() for name in _ARRAYS if name != "observed")
        and bool((record.clip > 0).all() and (record.divisor > 0).all())
        and bool((record.canaries <= record.drawn).all())
        and about.included <= about.axes
        and about.unclipped <= record.steps
        and int(record.row_draws.sum()) == rows
        and counted == int(record.drawn.sum())
    )
