"""Units in files: read back as they were written, sent to other processes, gone when nobody needs them."""

import gc
import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dpaudit.models.encode import Encoded
from dpaudit.training import examples
from dpaudit.training.examples import Example
from dpaudit.training.lazy import Lazy
from dpaudit.training.units import StoredUnits

Named = list[tuple[str, list[Example]]]


def sequence(rng: random.Random) -> Encoded:
    length = rng.randrange(2, 30)
    answers = tuple(rng.random() < 0.5 for _ in range(length))
    ids = tuple(rng.randrange(1, 300) for _ in range(length))
    return Encoded(ids, answers, (False,) * length, rng.random() < 0.3, rng.randrange(200))


def some_units(count: int, width: int) -> Named:
    rng = random.Random(count)
    sizes = [rng.randrange(1, 4) for _ in range(count)]
    return [
        (f"unit {i} ü", [Example(tuple(sequence(rng) for _ in range(width))) for _ in range(size)])
        for i, size in enumerate(sizes)
    ]


def stored(path: Path, units: Named) -> StoredUnits:
    (path / "units").mkdir()
    return StoredUnits.write(path / "units", iter(units))


@pytest.mark.parametrize("width", [1, 2])
def test_what_was_written_is_read(tmp_path: Path, width: int) -> None:
    units = some_units(50, width)
    found = stored(tmp_path, units)
    assert len(found) == 50
    assert list(found) == [examples for _, examples in units]
    assert list(found.names) == [name for name, _ in units]
    assert found[-1] == units[-1][1] and found[np.int64(7)] == units[7][1] and found[3:5] == list(found)[3:5]
    assert found.longest == width * max(len(examples) for _, examples in units) == 3 * width
    assert found.truncated == sum(s.truncated for _, u in units for e in u for s in e.sequences) > 0
    with pytest.raises(IndexError):
        found[50]


def test_no_units_at_all(tmp_path: Path) -> None:
    found = stored(tmp_path, [])
    assert (len(found), list(found), list(found.names), found.truncated, found.longest) == (0, [], [], 0, 0)


def test_the_folder_goes_with_the_units(tmp_path: Path) -> None:
    found = stored(tmp_path, some_units(3, 1))
    reader = StoredUnits(tmp_path / "units")
    del reader
    gc.collect()
    assert (tmp_path / "units").is_dir()  # a reader owns nothing
    del found
    gc.collect()
    assert not (tmp_path / "units").exists()


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[str, list[Example]]]:
        yield from some_units(2, 1)
        raise KeyboardInterrupt

    (tmp_path / "units").mkdir()
    with pytest.raises(KeyboardInterrupt):
        StoredUnits.write(tmp_path / "units", failing())
    assert list(tmp_path.iterdir()) == []


def test_examples_of_different_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 1 sequences an example, got 2"):
        stored(tmp_path, [*some_units(2, 1), *some_units(1, 2)])


def test_another_process_reads_the_same_and_removes_nothing(tmp_path: Path) -> None:
    units = some_units(5, 2)
    found = stored(tmp_path, units)
    assert list(pickle.loads(pickle.dumps(found))) == [examples for _, examples in units]
    child = os.fork()
    if child == 0:
        del found
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert found.folder.is_dir() and found[4] == units[4][1]


def test_references_are_those_of_the_whole_list(tmp_path: Path, toy_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(toy_model_dir)
    units = some_units(9, 2)
    found = examples.with_reference(model, stored(tmp_path, units), micro_batch=4)
    assert list(found) == list(examples.with_reference(model, [examples for _, examples in units], 4))


def test_a_lazy_sequence_makes_what_is_asked_for() -> None:
    made: list[int] = []

    def item(place: int) -> str:
        made.append(place)
        return str(place)

    lazy = Lazy(1000, item)
    assert (lazy[7], lazy[-1], lazy[2:4], len(lazy)) == ("7", "999", ["2", "3"], 1000)
    assert made == [7, 999, 2, 3]
    with pytest.raises(IndexError):
        lazy[1000]
