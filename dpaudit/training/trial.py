"""What training takes on this device, from a few passes of real length: nothing is learned and nothing kept.

The learning rate is so small that no weight moves, and all that is drawn comes from a fixed public seed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import dpsgd
from dpaudit.training.axes import Axes, Axis
from dpaudit.training.batches import Group, grouped
from dpaudit.training.engine import Engine
from dpaudit.training.examples import Objective, UnitExamples, with_reference
from dpaudit.training.state import exact

STILL = 1e-30  # learning rate
STEPS = 8  # draws of a step's units, over which its length is averaged
PASSES = 16  # of them are kept, or all of one step: a training holds no more
TIMES = 3  # an empty step is timed
SECONDS = 3.0  # after which no further pass is timed
Seconds = NDArray[np.float64]  # (2,): of the clock, as busy as the machine is now; of the processor


@dataclass(frozen=True)
class Trial:
    """What parts of a training take on this device."""

    before: Seconds  # the first step: noise is probed
    reference: Seconds  # to ask the reference about one unit; 0 without one
    step: Seconds  # of as many units as are expected


@exact()
def measure(
    model: Any,
    units: Sequence[UnitExamples],
    schedule: Schedule,
    mechanism: Mechanism,
    objective: Objective,
    micro_batch: int,
    axes: Axes | None = None,
    is_referenced: bool = False,
    seconds: float = SECONDS,
) -> Trial:
    """Times the probes, empty steps, and passes of some steps' units, the largest first: memory is then at
    the peak of a training. `axes` are those that are in; `is_referenced` asks the reference first.

    A pass is counted by its tokens, padding included. Only where time for one pass is left is the largest,
    which warms up, left out.
    """
    still = replace(schedule, learning_rate=STILL)
    engine = Engine(model, still, mechanism, objective, micro_batch, axes=axes)
    noise = dpsgd.noise_generator(model.device, 0)
    model.train()
    before, kept = timed(lambda: _probed(engine, noise))
    passes, tokens = _drawn(units, schedule.batch, micro_batch)
    sizes, took, reference = _passes(engine, noise, passes, seconds, is_referenced)
    empty = _median(lambda: engine.step(0, [], noise))
    along = [Axis(number) for number in range(_expected(axes, mechanism))]
    fixed = _median(lambda: engine.step(0, along, noise)) if along else empty
    del kept
    each = np.maximum(took.sum(axis=0) - empty * len(sizes), 0) / sum(sizes)
    return Trial(before, reference, fixed + each * tokens)


def _probed(engine: Engine, noise: torch.Generator) -> Any:
    """What a private training does before its first step; it stays in memory."""
    start = {name: p.detach().clone() for name, p in engine.parameters.items()}
    probes = engine.probe(noise) if engine.private else {}
    if engine.axes is not None:
        engine.one_unit_norm(Axis(0), noise)
    return start, probes


def _drawn(units: Sequence[UnitExamples], batch: int, micro_batch: int) -> tuple[list[Group], float]:
    """Passes of steps of `batch` units, in an order of chance but the largest first, and the mean number of
    tokens of a step.
    """
    draws, sizes, passes = np.random.default_rng(0), [], list[Group]()
    for _ in range(STEPS):
        places = draws.choice(len(units), batch, replace=batch > len(units))
        step = list(grouped([units[int(place)] for place in places], micro_batch))
        sizes.append(sum(map(_tokens, step)))
        passes += step if len(passes) < PASSES else []
    shuffled = [passes[int(place)] for place in draws.permutation(len(passes))]
    return [max(passes, key=_tokens), *shuffled], float(np.mean(sizes))


def _passes(
    engine: Engine, noise: torch.Generator, passes: list[Group], seconds: float, is_referenced: bool
) -> tuple[list[int], Seconds, Seconds]:
    """The tokens of the passes that were timed, what each took (passes, 2), and the reference for one
    unit.
    """
    sizes, took, asked, units = list[int](), list[Seconds](), np.zeros(2), 0
    until = time.perf_counter() + seconds
    for group in passes:
        drawn: Sequence[UnitExamples] = _units(group)
        if is_referenced:
            told, referenced = timed(partial(with_reference, engine.model, drawn, engine.micro_batch))
            asked, units, drawn = asked + told, units + len(drawn), list(referenced)
            engine.model.train()
        sizes.append(_tokens(group))
        took.append(timed(partial(engine.step, 0, drawn, noise))[0])
        if time.perf_counter() > until:
            break
    first = 1 if len(sizes) > 1 else 0
    return sizes[first:], np.stack(took[first:]), asked / max(units, 1)


def _units(group: Group) -> list[list[Any]]:
    units: list[list[Any]] = [[] for _ in range(group.units)]
    for examples in group.passes:
        for example, unit in examples:
            units[unit].append(example)
    return units


def _tokens(group: Group) -> int:
    """Tokens of a group's passes, padding included."""
    rows = [[len(s.input_ids) for example, _ in part for s in example.sequences] for part in group.passes]
    return sum(len(part) * max(part) for part in rows)


def _expected(axes: Axes | None, mechanism: Mechanism) -> int:
    """How many of the canaries that are in a step is expected to have."""
    return round(int(axes.included.sum()) * mechanism.sampling_rate) if axes else 0


def _median(work: Callable[[], object]) -> Seconds:
    return np.asarray(np.median([timed(work)[0] for _ in range(TIMES)], axis=0))


def timed(work: Callable[[], Any]) -> tuple[Seconds, Any]:
    """What `work` took, and what it returned."""
    began = time.perf_counter(), time.process_time()
    done = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return np.array([time.perf_counter() - began[0], time.process_time() - began[1]]), done
