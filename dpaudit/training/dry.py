"""A training without a model: the real sampler, clip and noise on canaries whose gradients are axes of a
small space.

A canary is a unit, in the training by a fair coin, all of whose sequences have the same raw gradient: an axis
of its own, far longer than the clip. Other units have gradients that are orthogonal to all of these axes,
hence no coordinates here; they are drawn and counted. What a step hands to the optimizer is kept, m floats a
step. Everything private happens in `dpsgd.PoissonSampler` and `engine.private_sum`, as in a training with a
model; only the sum of a unit's sequences, which `fused` forms inside the backward pass, is formed by
`summed_by_unit` here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dpaudit.models.fused import Gradients
from dpaudit.models.layout import Layout
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import axes, dpsgd, engine, guards
from dpaudit.training.observation import Observation

LEARNING_RATE = 0.1
WEIGHTS = ("lora_A", "lora_B")  # parameter groups, an equal part of the axes each
PROBES = 32  # empty steps: with fewer, a twentieth too much noise would not show


@dataclass(frozen=True)
class Setting:
    """What is trained on. `population` and `batch` are public; excluded canaries are part of the population's
    count.
    """

    population: int = 10_000  # units, canaries included
    batch: int = 64  # the divisor
    canaries: int = 1000
    sequences: int = 1  # of every unit: 2 in a preference pair, several of a patient
    per_axis: int = 1  # canaries that share one axis

    def __post_init__(self) -> None:
        if not 2 * len(WEIGHTS) <= self.canaries <= self.population:
            raise ValueError(
                f"expected {2 * len(WEIGHTS)} to {self.population} canaries, got {self.canaries}"
            )
        if self.sequences < 1 or self.per_axis < 1 or self.canaries % self.per_axis:
            raise ValueError("expected canaries in axes of equal number, and at least one sequence a unit")

    @property
    def axes(self) -> int:
        return self.canaries // self.per_axis


class DryEngine:
    """One step at a time, as `engine.Engine` does it, for axes in place of a model."""

    def __init__(self, setting: Setting, mechanism: Mechanism, noise: torch.Generator) -> None:
        self.setting, self.mechanism, self._noise = setting, mechanism, noise
        first = setting.axes // len(WEIGHTS)
        sizes = dict(zip(WEIGHTS, (first, setting.axes - first), strict=True))
        self.parameters = {name: nn.Parameter(torch.zeros(size)) for name, size in sizes.items()}
        self.layout = Layout.of(self.parameters)

    def step(self, canaries: Sequence[int]) -> Tensor:
        """Moves the weights by a step in which these canaries are drawn; the released sum over the clip,
        (axes,).
        """
        gradients = self.gradients(canaries)
        move(self.parameters, self.layout.views(gradients))
        return gradients * (self.setting.batch / self.mechanism.clip)

    def gradients(self, canaries: Sequence[int]) -> Tensor:
        """What the optimizer gets, (axes,): the noisy sum over the public batch."""
        groups = [canaries] if len(canaries) else []
        total = engine.private_sum(self._source, self.layout, groups, self.mechanism, self._noise)
        return engine.divided(total.gradients, self.setting.batch)

    def summed(self, canaries: Sequence[int]) -> Tensor:
        """The sum, recovered with the divisor that was claimed."""
        return self.gradients(canaries) * self.setting.batch

    def _source(self, canaries: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Every sequence of a canary along the canary's axis, summed by unit."""
        along = torch.tensor(canaries) // self.setting.per_axis
        rows = torch.zeros(len(canaries), self.setting.sequences, self.setting.axes)
        rows[torch.arange(len(canaries)), :, along] = axes.RAW_NORM * self.mechanism.clip
        return [summed_by_unit(rows)], torch.zeros((), dtype=torch.float64)


def summed_by_unit(rows: Tensor) -> Tensor:
    """Gradients of units from those of their sequences: (units, sequences, axes) to (units, axes)."""
    return rows.sum(1)


def move(parameters: dict[str, nn.Parameter], gradients: Gradients) -> None:
    """A step of plain gradient descent."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.sub_(gradients[name], alpha=LEARNING_RATE)


def train(
    setting: Setting,
    mechanism: Mechanism,
    coins: np.random.Generator,
    sampling: np.random.Generator,
    noise: torch.Generator,
    advance: Callable[[int], None] = lambda n: None,
) -> Observation:
    """One training of `mechanism.steps` steps, and the probes that come before it. Raises GuardError as
    training does.
    """
    included = coins.random(setting.canaries) < 0.5
    there = np.flatnonzero(included)
    units = setting.population - setting.canaries + there.size  # the canaries come first
    sampler = dpsgd.PoissonSampler(units, mechanism.sampling_rate, sampling)
    dry = DryEngine(setting, mechanism, noise)
    deviation = mechanism.noise_multiplier * mechanism.clip
    probes = guards.probed(lambda: dry.summed([]), dry.layout, PROBES, deviation)
    one_unit = _one_unit_norm(setting, mechanism, noise)
    start = {name: p.detach().clone() for name, p in dry.parameters.items()}
    observed = np.zeros((mechanism.steps, setting.axes), dtype=np.float32)
    drawn, times = np.zeros(mechanism.steps, dtype=np.int64), np.zeros(units, dtype=np.int64)
    for number in range(mechanism.steps):
        chosen = np.asarray(sampler.draw(), dtype=np.int64)
        drawn[number] = chosen.size
        times[chosen] += 1
        observed[number] = dry.step(there[chosen[chosen < there.size]].tolist()).numpy()
        advance(1)
    end = {name: p.detach() for name, p in dry.parameters.items()}
    return Observation(observed, included, drawn, times, probes, one_unit, start, end)


def _one_unit_norm(setting: Setting, mechanism: Mechanism, noise: torch.Generator) -> float:
    """The norm of what one unit adds to a sum: two steps with the same noise, of which one has the unit."""
    sums = []
    for canaries in ([0], []):
        twin = engine.cloned(noise)
        sums.append(DryEngine(setting, mechanism, twin).summed(canaries))
    return float((sums[0] - sums[1]).norm())
