"""The training loop, one for private and non-private arms: draw units, step, keep, check."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpaudit.models.fused import Gradients
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import dpsgd, guards
from dpaudit.training.axes import Axes, Axis
from dpaudit.training.engine import ALONE, Engine
from dpaudit.training.examples import Objective, UnitExamples, device_of
from dpaudit.training.observation import Observation
from dpaudit.training.ranks import Ranks
from dpaudit.training.state import Snapshot, Step, capture, exact, restore

KEEP_SECONDS = 60.0  # of work that a kill may cost, unless a single step takes longer


@dataclass(frozen=True)
class Result:
    steps: tuple[Step, ...]
    tokens: int  # of all sequences that went through the model, padding not counted
    seconds: float
    guards: tuple[str, ...]  # the checks that passed
    seen: Observation | None = None  # where there were canaries along axes


@exact()
def train(
    model: nn.Module,
    units: Sequence[UnitExamples],
    schedule: Schedule,
    mechanism: Mechanism,
    *,
    sampling: np.random.Generator,
    noise: torch.Generator,
    objective: Objective | None = None,
    micro_batch: int = 256,
    advance: Callable[[int], None] = lambda n: None,
    ranks: Ranks = ALONE,
    resume: Snapshot | None = None,
    keep: Callable[[Snapshot], None] | None = None,
    keep_every: int = 50,
    axes: Axes | None = None,
    watch: Callable[[Step], None] = lambda step: None,
) -> Result:
    """Trains the model's trainable weights in place and returns what each step did.

    `mechanism` says how units are sampled, clipped and noised; with an infinite clip nothing is clipped or
    noised and the same sampler is used. The summed gradient is divided by `schedule.batch`, a public
    constant. `micro_batch` bounds the sequences of one forward pass and never changes the step; nor do
    `ranks`, up to rounding. `keep` gets a snapshot after `keep_every` steps, or sooner where the next step
    would end more than KEEP_SECONDS after it; given one of them as `resume`, and the model as it was at the
    very start, training goes on to the same weights. Canaries along `axes` are units beside the others; their
    observation is returned. `watch` sees each step. Raises GuardError where a guard fires (`guards`).
    """
    engine = Engine(model, schedule, mechanism, objective or Objective(), micro_batch, ranks, axes)
    units = axes.units(units) if axes else units
    start = {name: p.detach().clone() for name, p in engine.parameters.items()}
    sampler = dpsgd.PoissonSampler(len(units), mechanism.sampling_rate, sampling)
    model.train()
    probes = _probed(engine, noise, keep=axes is not None)
    one_unit = engine.one_unit_norm(Axis(0), noise) if axes else 0.0
    done = _Done(engine, sampling, noise, np.zeros(len(units) if axes else 0, dtype=np.int64))
    if resume is not None:
        done.restore(resume, ranks)
        advance(len(done.steps))
    keeping = _Keeping(keep_every, len(done.steps), done.began, done.began)
    for number in range(len(done.steps), schedule.steps):
        done.step(number, ranks.shared(sampler.draw() if ranks.first else None), units)
        watch(done.steps[-1])
        advance(1)
        if keeping.is_due(number + 1) and keep is not None and number + 1 < schedule.steps:
            keep(done.snapshot())
            keeping.note(number + 1)
    model.eval()
    seen = _seen(engine, axes, done.steps, done.times, probes, one_unit, start) if axes else None
    return Result(tuple(done.steps), done.tokens, done.seconds, _checked(done, len(units), start), seen)


@dataclass
class _Done:
    """The record of the steps so far, and everything that a snapshot of them needs."""

    engine: Engine
    sampling: np.random.Generator
    noise: torch.Generator
    times: NDArray[np.int64]  # how often each unit was drawn; empty without canaries along axes
    steps: list[Step] = field(default_factory=list)
    tokens: int = 0
    earlier: float = 0.0  # seconds of training before it was resumed here
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.began

    def restore(self, snapshot: Snapshot, ranks: Ranks) -> None:
        restore(snapshot, self.engine.parameters, self.engine.optimizer, self.sampling, self.noise)
        if not ranks.first:
            dpsgd.seed_dropout()  # the snapshot has the first rank's state; every rank needs its own masks
        self.steps, self.tokens, self.earlier = list(snapshot.steps), snapshot.tokens, snapshot.seconds
        if self.engine.axes:
            self.engine.observed = list(snapshot.tensors["observed"].to(device_of(self.engine.model)))
            self.times = np.array(snapshot.secret["times"], dtype=np.int64)
        self.began = time.perf_counter()

    def step(self, number: int, chosen: Sequence[int], units: Sequence[UnitExamples]) -> None:
        drawn = [units[place] for place in chosen]
        self.steps.append(self.engine.step(number, drawn, self.noise))
        if self.engine.axes:
            self.times[chosen] += 1
        self.tokens += sum(len(s.input_ids) for unit in drawn for example in unit for s in example.sequences)

    def snapshot(self) -> Snapshot:
        tensors, secret = capture(self.engine.parameters, self.engine.optimizer, self.sampling, self.noise)
        if self.engine.axes:
            tensors["observed"], secret["times"] = torch.stack(self.engine.observed), self.times.tolist()
        return Snapshot(tensors, tuple(self.steps), self.tokens, self.seconds, secret)


@dataclass
class _Keeping:
    """When a snapshot is due: `every` so many steps, or before the next step would end too late."""

    every: int
    steps: int  # done at the last one
    at: float
    stepped: float  # when the last step ended

    def is_due(self, steps: int) -> bool:
        now = time.perf_counter()
        due = steps - self.steps >= self.every or now - self.at + (now - self.stepped) > KEEP_SECONDS
        self.stepped = now
        return due

    def note(self, steps: int) -> None:
        self.steps, self.at = steps, time.perf_counter()


def _checked(done: _Done, units: int, start: Gradients) -> tuple[str, ...]:
    """The guards that held at the end. Raises GuardError for one that did not."""
    engine = done.engine
    guards.check_sampling(done.steps, units, engine.mechanism.sampling_rate)
    guards.check_counted(len(done.steps), engine.mechanism)
    guards.check_moved(engine.parameters, start, engine.private)
    return guards.ALWAYS + (guards.PRIVATE if engine.private else ())


def _probed(engine: Engine, noise: torch.Generator, keep: bool) -> dict[str, Tensor]:
    """Checks the noise of a private arm; returns the probes only where canaries need them: they are as large
    as the weights.
    """
    probes = engine.probe(noise) if engine.private else {}
    return probes if keep else {}


def _seen(
    engine: Engine,
    axes: Axes,
    steps: Sequence[Step],
    times: NDArray[np.int64],
    probes: dict[str, Tensor],
    one_unit_norm: float,
    start: Gradients,
) -> Observation:
    observed, drawn = torch.stack(engine.observed).cpu().numpy(), np.array([step.units for step in steps])
    end = {name: p.detach() for name, p in engine.parameters.items()}
    return Observation(observed, axes.included, drawn, times, probes, one_unit_norm, start, end)
