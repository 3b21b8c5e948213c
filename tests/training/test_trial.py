"""What a trial of training measures; it leaves the model and this process's generators as they are."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpaudit.models import adapter_files, hf
from dpaudit.models.encode import Encoded
from dpaudit.models.fused import trainable
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Lora, Schedule
from dpaudit.training import axes, batches, trial
from dpaudit.training.engine import Engine
from dpaudit.training.examples import Example, Objective

PRIVATE = Mechanism(0.7, 0.2, 30, 0.1)
PLAIN = Mechanism(0.0, 0.2, 30, float("inf"))
MANY = Schedule(12, 30, 0.01)
EACH, FIXED, OF_AXIS = 1e-3, 0.5, 0.1  # seconds of a token, a step and an axis, as a test sets them


def example(length: int, sequences: int = 1) -> Example:
    ids, answers = tuple(range(5, 5 + length)), (False, *(True,) * (length - 1))
    return Example((Encoded(ids, answers, (False,) * length, False, length),) * sequences)


def units(sequences: int = 1) -> list[list[Example]]:
    return [[example(4 + number % 30, sequences)] * (1 + number % 2) for number in range(60)]


@pytest.fixture
def model(toy_model_dir: Path) -> Any:
    return adapter_files.new_adapter(hf.load_model(str(toy_model_dir)), Lora(rank=2, alpha=4), 0)


def along(model: Any) -> axes.Axes:
    return axes.spread(trainable(model), np.arange(40) % 2 == 0)


@pytest.mark.parametrize("mechanism", [PRIVATE, PLAIN])
def test_nothing_is_learned_and_no_generator_is_touched(model: Any, mechanism: Mechanism) -> None:
    before = {name: p.detach().clone() for name, p in trainable(model).items()}
    of_numpy = np.random.get_state()[1].tobytes()  # type: ignore[index]
    states = torch.get_rng_state(), of_numpy, random.getstate()
    private = mechanism is PRIVATE
    pairs = private and "dpo"
    found = trial.measure(
        model,
        units(2 if pairs else 1),
        MANY,
        mechanism,
        Objective("sigmoid") if pairs else Objective(),
        8,
        along(model) if private else None,
        bool(pairs),
        seconds=0.2,
    )
    assert all((p - before[name]).abs().max() < 1e-25 for name, p in trainable(model).items())
    now = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # type: ignore[index]
    assert torch.equal(states[0], now[0]) and states[1:] == now[1:]
    assert (found.step > 0).all() and (found.before > 0).any() and (found.reference > 0).all() == private


class Clock:
    """A clock that steps move by what they have to do."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 2

    def step(self, engine: Engine, number: int, drawn: Any, noise: Any) -> None:
        told = [unit for unit in drawn if not isinstance(unit, axes.Axis)]
        groups = batches.grouped(told, engine.micro_batch)
        self.now += FIXED + EACH * sum(map(trial._tokens, groups)) + OF_AXIS * (len(drawn) - len(told))


@pytest.mark.parametrize(
    ("batch", "micro_batch"), [(40, 8), (3, 8), pytest.param(90, 16, marks=pytest.mark.slow)]
)
def test_a_step_is_foretold_from_its_tokens_its_axes_and_what_every_step_takes(
    batch: int, micro_batch: int, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more units than there are, with several passes a step, and with one."""
    clock = Clock()
    monkeypatch.setattr(trial, "time", clock)
    monkeypatch.setattr(Engine, "step", lambda *arguments: clock.step(*arguments))
    schedule = Schedule(batch, 30, 0.01)
    found = trial.measure(
        model, units(), schedule, PRIVATE, Objective(), micro_batch, along(model), seconds=9
    )
    draws, sizes = np.random.default_rng(1), []
    for _ in range(400):
        places = draws.choice(60, batch, replace=batch > 60)
        step = batches.grouped([units()[int(place)] for place in places], micro_batch)
        sizes.append(sum(map(trial._tokens, step)))
    error = 4 * np.std(sizes) / np.sqrt(trial.STEPS)  # of eight draws; 1 of 10,000 goes beyond it
    wanted = FIXED + 4 * OF_AXIS + EACH * np.mean(sizes)  # 20 axes are in, a fifth of them in a step
    assert found.step[0] == pytest.approx(wanted, abs=EACH * error)
    assert found.step[1] == pytest.approx(found.step[0] / 2)
