"""Memory is looked at before anything is spent: too little is told with a setting that fits."""

import re
from dataclasses import replace

import pytest

from dpaudit.errors import PartialError
from dpaudit.models import memory
from dpaudit.privacy.claim import Unit
from dpaudit.suite.suite import Lora, Model, Schedule, Training

LARGE = Model("random:llama-3.2-1b", max_length=512, dtype="bfloat16")
STEPS = Schedule(batch=4, steps=1, learning_rate=1e-3)
ROWS = 2**16
TRAINING = Training(STEPS, STEPS, micro_batch=ROWS, lora=Lora(targets=("q_proj",)))


@pytest.fixture(scope="module")
def needed() -> memory.Memory:
    return memory.estimate(LARGE, TRAINING, private=True)


def test_the_rows_that_fit_are_as_many_as_fit(needed: memory.Memory) -> None:
    room = 40 * memory.GIB
    rows = needed.rows_within(room, ROWS)
    fixed, each = needed.weights + needed.adapter, (needed.unit_gradients + needed.activations) / ROWS
    assert rows > 1 and fixed + rows * each <= room < fixed + (rows + 1) * each
    assert needed.rows_within(fixed - 1, ROWS) == 0


def test_too_little_memory_is_told_with_what_fits(needed: memory.Memory) -> None:
    """On this machine as it is, whatever it has: the estimate of so many rows is terabytes."""
    assert needed.total > 1000 * memory.GIB
    with pytest.raises(PartialError, match=r"expected about [\d,.]+ GiB free on the .* got .* GiB; ") as told:
        memory.require_room(LARGE, TRAINING, private=True, beside=1)
    assert told.value.exit_code == 3


def test_the_setting_that_is_named_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "place", lambda: memory.Place("processor", 16 * memory.GIB))
    with pytest.raises(PartialError, match="for each of 2 arms at once") as told:
        memory.require_room(LARGE, TRAINING, private=True, beside=2)
    (rows,) = re.findall(r"--micro-batch (\d+): the results are the same", str(told.value))
    fitting = replace(TRAINING, micro_batch=int(rows))
    memory.require_room(LARGE, fitting, private=True, beside=2)
    with pytest.raises(PartialError):
        memory.require_room(LARGE, replace(fitting, micro_batch=4 * int(rows)), private=True, beside=2)


@pytest.mark.parametrize(
    ("gibibytes", "beside", "said"),
    [
        (7, 2, "again with --workers 1 --micro-batch"),
        (3.5, 1, "again with --set training.gradient_checkpointing=true --micro-batch"),
        (3.5, 2, "again with --workers 1 --set training.gradient_checkpointing=true --micro-batch"),
        (1, 1, "no setting that leaves the results as they are is enough"),
    ],
)
def test_the_first_way_that_fits_is_named(
    gibibytes: float, beside: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = int(gibibytes * memory.GIB)
    monkeypatch.setattr(memory, "place", lambda: memory.Place("processor", free))
    with pytest.raises(PartialError) as told:
        memory.require_room(LARGE, TRAINING, private=False, beside=beside)
    assert said in str(told.value)


def test_a_small_model_is_not_refused() -> None:
    memory.require_room(replace(LARGE, base="random:toy"), TRAINING, private=True, beside=8)
    memory.require_room(replace(LARGE, base="builtin:tiny"), TRAINING, private=True, beside=8)


@pytest.mark.parametrize(("unit", "rows"), [("record", 10), ("pair", 20), ("patient", ROWS)])
def test_a_pass_holds_no_more_than_a_step_draws(
    unit: Unit, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a suite whose steps are small is refused for a micro-batch that is never full."""
    pairs = STEPS if unit == "pair" else None
    training = replace(TRAINING, unit=unit, dpo_private=pairs)
    assert memory.rows_of_a_pass(training, private=True) == rows
    assert memory.rows_of_a_pass(replace(training, micro_batch=8), private=True) == 8
    monkeypatch.setattr(memory, "place", lambda: memory.Place("processor", 48 * memory.GIB))
    if unit == "patient":  # who may have any number of records
        with pytest.raises(PartialError):
            memory.require_room(LARGE, training, private=True, beside=1)
    else:
        memory.require_room(LARGE, training, private=True, beside=1)
