"""The training loop, one for private and non-private arms: draw units, step, keep, check."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from dpaudit.training.examples import Objective, Unit
from dpaudit.training.observation import Observation
from dpaudit.training.ranks import Ranks
from dpaudit.training.state import Snapshot, Step, capture, restore

KEEP_SECONDS = 60.0  # of work that a kill may cost, unless a single step takes longer


@dataclass(frozen=True)
class Result:
    steps: tuple[Step, ...]
    tokens: int  # of all sequences that went through the model, padding not counted
    seconds: float
    guards: tuple[str, ...]  # what was checked and held
    seen: Observation | None = None  # where there were canaries along axes


def train(
    model: nn.Module,
    units: Sequence[Unit],
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
) -> Result:
    """Trains the model's trainable weights in place and returns what each step did.

    `mechanism` says how units are sampled, clipped and noised; with an infinite clip nothing is clipped or
    noised and the same sampler is used. The summed gradient is divided by `schedule.batch`, a public
    constant. `micro_batch` bounds the sequences of one forward pass and never changes the step; nor does the
    number of `ranks`, up to rounding. `keep` gets a snapshot after `keep_every` steps, or sooner where the
    next step would end more than KEEP_SECONDS after the last one (or the start); from any of them, given as
    `resume` with the model as it was at the very start, training goes on to the same weights.
    Canaries along `axes` are units beside the others, and what was seen of them comes back.
    Raises GuardError where a guard fires (see `guards`).
    """
    engine = Engine(model, schedule, mechanism, objective or Objective(), micro_batch, ranks, axes)
    units = axes.units(units) if axes else units
    start = {name: p.detach().clone() for name, p in engine.parameters.items()}
    sampler = dpsgd.PoissonSampler(len(units), mechanism.sampling_rate, sampling)
    steps, tokens, earlier = [], 0, 0.0
    model.train()
    probes = _probed(engine, noise, keep=axes is not None)
    one_unit = engine.one_unit(Axis(0), noise) if axes else {}
    times = np.zeros(len(units) if axes else 0, dtype=np.int64)
    if resume is not None:
        restore(resume, engine.parameters, engine.optimizer, sampling, noise)
        if not ranks.first:
            dpsgd.seed_dropout()  # the snapshot has the first rank's, and no two may draw the same masks
        steps, tokens, earlier = list(resume.steps), resume.tokens, resume.seconds
        if axes:
            engine.observed = list(resume.tensors["observed"])
            times = np.array(resume.secret["times"], dtype=np.int64)
        advance(len(steps))
    began = stepped = time.perf_counter()
    kept, kept_at = len(steps), began
    for number in range(len(steps), schedule.steps):
        chosen = ranks.shared(sampler.draw() if ranks.first else None)
        drawn = [units[i] for i in chosen]
        steps.append(engine.step(number, drawn, noise))
        if axes:
            times[chosen] += 1
        tokens += sum(len(s.input_ids) for unit in drawn for example in unit for s in example.sequences)
        advance(1)
        now = time.perf_counter()
        due = number + 1 - kept >= keep_every or now - kept_at + (now - stepped) > KEEP_SECONDS
        stepped = now
        if keep is not None and due and number + 1 < schedule.steps:
            tensors, secret = capture(engine.parameters, engine.optimizer, sampling, noise)
            if axes:
                tensors["observed"], secret["times"] = torch.stack(engine.observed), times.tolist()
            spent = earlier + time.perf_counter() - began
            keep(Snapshot(tensors, tuple(steps), tokens, spent, secret))
            kept, kept_at = number + 1, time.perf_counter()
    model.eval()
    guards.check_sampling(steps, len(units), mechanism.sampling_rate)
    guards.check_counted(len(steps), mechanism)
    guards.check_moved(engine.parameters, start, engine.private)
    held = guards.ALWAYS + (guards.PRIVATE if engine.private else ())
    seen = _seen(engine, axes, steps, times, probes, one_unit, start) if axes else None
    return Result(tuple(steps), tokens, earlier + time.perf_counter() - began, held, seen)


def _probed(engine: Engine, noise: torch.Generator, keep: bool) -> dict[str, Tensor]:
    """Checks the noise of a private arm, and hands on what was seen where somebody wants it: it is as large
    as the weights.
    """
    found = engine.probe(noise) if engine.private else {}
    return found if keep else {}


def _seen(
    engine: Engine,
    axes: Axes,
    steps: Sequence[Step],
    times: NDArray[np.int64],
    probes: dict[str, Tensor],
    one_unit: Gradients,
    start: Gradients,
) -> Observation:
    observed, drawn = torch.stack(engine.observed).numpy(), np.array([step.units for step in steps])
    end = {name: p.detach() for name, p in engine.parameters.items()}
    return Observation(observed, axes.included, drawn, times, probes, one_unit, start, end)
