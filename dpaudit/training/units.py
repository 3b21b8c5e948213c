"""Encoded units in files, read back one at a time: a training set of any length takes no memory."""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from dpaudit.models.encode import Encoded
from dpaudit.storage import disk
from dpaudit.training.examples import Example
from dpaudit.training.lazy import Lazy

SEQUENCE = np.dtype([("start", "<i8"), ("tokens", "<i4"), ("answer_bytes", "<i4"), ("truncated", "?")])
TOKEN = np.dtype("<i4")
UNIT = np.dtype([("sequence", "<i8"), ("name", "<i8")])  # where its first sequence and its name begin
FILES = ("tokens", "sequences", "units", "names")


class StoredUnits(Sequence[Sequence[Example]]):
    """The units in `folder`, each read when it is asked for.

    The files are read by position and not mapped: pages of a mapping would count as this process's memory.
    Masks of secrets are not kept. What `write` returns owns the folder and removes it when it is closed or
    collected, or the process ends; another process may open the same folder with `StoredUnits(folder)`, or be
    sent this object.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = {name: _opened(self, folder / name) for name in FILES}
        self._length = os.fstat(self._files["units"]).st_size // UNIT.itemsize - 1
        self._width = int((folder / "width").read_text())
        self.close: Callable[[], object] = lambda: None  # a reader owns nothing

    @classmethod
    def write(cls, folder: Path, units: Iterable[tuple[str, Sequence[Example]]]) -> "StoredUnits":
        """Stores units under their names, one in memory at a time; every example has as many sequences as the
        first.

        Where that fails, the folder is removed.
        """
        try:
            with disk.room(folder.parent):
                _write(folder, units)
        except BaseException:
            disk.remove(folder)
            raise
        stored = cls(folder)
        stored.close = weakref.finalize(stored, _remove, folder, os.getpid())
        return stored

    @property
    def names(self) -> Sequence[str]:
        return Lazy(self._length, self._name)

    @property
    def truncated(self) -> int:
        """Sequences that were cut at the maximal length."""
        return sum(int(part["truncated"].sum()) for part in self._entries())

    @property
    def longest(self) -> int:
        """Sequences of the unit that has most of them; 0 of no unit."""
        step, at, most = 1 << 16, 0, 0
        while len(part := _read(self._files["units"], UNIT, at, step + 1)) > 1:
            most = max(most, int(np.diff(part["sequence"]).max()))
            at += step
        return most

    @property
    def longest_sequence(self) -> int:
        """Tokens of the longest sequence; 0 of no unit."""
        return max((int(part["tokens"].max()) for part in self._entries()), default=0)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> list[Example]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence[Example]]: ...
    def __getitem__(self, index: int | slice) -> list[Example] | list[Sequence[Example]]:
        if isinstance(index, slice):
            chosen: list[Sequence[Example]] = [self[i] for i in range(*index.indices(self._length))]
            return chosen
        place = range(self._length)[index]  # a negative index counts from the end; IndexError beyond it
        first, end = _read(self._files["units"], UNIT, place, 2)["sequence"].tolist()
        sequences = self._sequences(first, end - first)
        return [Example(tuple(sequences[i : i + self._width])) for i in range(0, len(sequences), self._width)]

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredUnits, (self.folder,)

    def _name(self, place: int) -> str:
        first, end = _read(self._files["units"], UNIT, place, 2)["name"].tolist()
        return os.pread(self._files["names"], end - first, first).decode()

    def _sequences(self, first: int, count: int) -> list[Encoded]:
        sequences = []
        for entry in _read(self._files["sequences"], SEQUENCE, first, count):
            length, start = int(entry["tokens"]), int(entry["start"])
            data = os.pread(self._files["tokens"], length * (TOKEN.itemsize + 1), start)
            ids = np.frombuffer(data, TOKEN, length)
            answers = np.frombuffer(data, bool, length, offset=length * TOKEN.itemsize)
            sequences.append(
                Encoded(
                    tuple(ids.tolist()),
                    tuple(answers.tolist()),
                    (False,) * length,
                    bool(entry["truncated"]),
                    int(entry["answer_bytes"]),
                )
            )
        return sequences

    def _entries(self) -> Iterator[NDArray[Any]]:
        """The table of sequences, some thousands of rows at a time."""
        step, at = 1 << 16, 0
        while len(part := _read(self._files["sequences"], SEQUENCE, at, step)):
            yield part
            at += step


def _write(folder: Path, units: Iterable[tuple[str, Sequence[Example]]]) -> None:
    count, width = 0, 0
    with ExitStack() as stack:
        tokens, sequences, places, names = (stack.enter_context((folder / n).open("wb")) for n in FILES)
        for name, unit in units:
            places.write(np.array((count, names.tell()), UNIT).tobytes())
            names.write(name.encode())
            for example in unit:
                width = width or len(example.sequences)
                if len(example.sequences) != width:
                    raise ValueError(f"expected {width} sequences an example, got {len(example.sequences)}")
                for sequence in example.sequences:
                    sequences.write(_entry(sequence, tokens.tell()))
                    tokens.write(np.array(sequence.input_ids, TOKEN).tobytes())
                    tokens.write(np.array(sequence.answer_mask, bool).tobytes())
            count += len(unit) * width
        places.write(np.array((count, names.tell()), UNIT).tobytes())  # the end of the last unit
    (folder / "width").write_text(str(width or 1))


def _entry(sequence: Encoded, start: int) -> bytes:
    row = (start, len(sequence.input_ids), sequence.answer_bytes, sequence.truncated)
    return np.array(row, SEQUENCE).tobytes()


def _read(file: int, kind: "np.dtype[Any]", first: int, count: int) -> NDArray[Any]:
    return np.frombuffer(os.pread(file, count * kind.itemsize, first * kind.itemsize), kind)


def _opened(owner: StoredUnits, path: Path) -> int:
    """A descriptor that is closed with its owner."""
    file = os.open(path, os.O_RDONLY)
    weakref.finalize(owner, os.close, file)
    return file


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a forked reader ends before its parent does
        disk.remove(folder)
