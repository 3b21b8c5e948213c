"""One training step, private or not: unit gradients, clip, noise, optimizer."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from dpaudit.models.fused import FusedLora, refuse_coupling
from dpaudit.models.layout import Layout
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import dpsgd, guards
from dpaudit.training.axes import Axes, Axis
from dpaudit.training.batches import Group, grouped
from dpaudit.training.examples import Example, Objective, UnitExamples, device_of, example_losses
from dpaudit.training.ranks import Ranks
from dpaudit.training.state import Step

ALONE = Ranks()
GroupType = TypeVar("GroupType")


@dataclass(frozen=True)
class GradientSum:
    """The sum over the units of one step."""

    gradients: Tensor  # (coordinates,), float32; noisy where the arm is private
    loss: float  # sum over examples, nats
    clipped: int  # units
    largest: float  # of the gradients' coordinates without sign; not finite where one of them is not


def private_sum(
    source: Callable[[GroupType], tuple[Sequence[Tensor], Tensor]],
    layout: Layout,
    groups: Iterable[GroupType],
    mechanism: Mechanism,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> GradientSum:
    """The sum of clipped unit gradients plus Gaussian noise; of no units at all, the noise alone.

    `source` gives a group's unit gradients, in parts (units, coordinates of the part) that follow `layout`,
    and its loss: `model_source` for a model, `axes` for canaries, `dry` for a run without a model. `groups`
    are this rank's; the sum is over all ranks, and the first one's noise is added to it once. The step waits
    for the device once, at the end, when all is known that the guards look at.
    """
    total: Tensor | None = None
    counts = torch.zeros(2, dtype=torch.float64, device=generator.device)  # loss, units clipped
    norms, units = [], []  # of clipped sums, and how many units each is of
    for group in groups:
        gradients, loss = source(group)
        units += [len(gradients[0]), 1]
        sums, clipped = dpsgd.clipped_sum(gradients, mechanism.clip)
        # a long sum hardly shows one unclipped unit
        alone, _ = dpsgd.clipped_sum([part[:1] for part in gradients], mechanism.clip)
        del gradients  # before the next group's forward pass
        norms += [torch.linalg.vector_norm(sums), torch.linalg.vector_norm(alone)]
        counts += torch.stack([loss, clipped])
        total = sums if total is None else total.add_(sums)
    noise = dpsgd.gaussian_noise(layout, mechanism.noise_multiplier * mechanism.clip, generator)
    lengths = guards.lengths(noise, layout)
    if not ranks.first:
        noise = torch.zeros_like(noise)
    total = noise if total is None else total.add_(noise)
    made, (*seen,) = _told(total, counts, [*norms, lengths], ranks)
    for norm, of in zip(seen, units, strict=False):
        guards.check_clipped(norm, of, mechanism.clip)
    guards.check_noised(seen[len(units) :], layout.shapes, mechanism.noise_multiplier)
    return made


def _told(
    total: Tensor, counts: Tensor, watched: Sequence[Tensor], ranks: Ranks
) -> tuple[GradientSum, list[float]]:
    """The sum over all ranks, and what the guards watch, by one wait for the device."""
    ranks.add_up([total, counts])
    largest = torch.linalg.vector_norm(total, math.inf)
    values = torch.cat([part.reshape(-1) for part in (counts, largest, *watched)]).tolist()
    return GradientSum(total, values[0], int(values[1]), values[2]), values[3:]


def model_source(
    model: nn.Module, lora: FusedLora, objective: Objective
) -> Callable[[Group], tuple[list[Tensor], Tensor]]:
    """The source of `private_sum` that uses a model, whose fused layers are attached."""
    return lambda group: unit_gradients(model, lora, group, objective)


def unit_gradients(
    model: nn.Module, lora: FusedLora, group: Group, objective: Objective
) -> tuple[list[Tensor], Tensor]:
    """The unclipped gradient of every unit of a group, in parts (units, coordinates of the part), and the sum
    of the losses.
    """
    return _summed(backward(model, lora, examples, objective, apart=group.units) for examples in group.passes)


def backward(
    model: nn.Module,
    lora: FusedLora,
    examples: Sequence[tuple[Example, int]],
    objective: Objective,
    apart: int | None,
) -> tuple[list[Tensor], Tensor]:
    """The gradient of one pass and its loss: `apart` by so many units, or all of it as of one unit."""
    rows = [unit for example, unit in examples for _ in example.sequences]
    with lora.collecting(rows if apart else None, apart or 1) as kept:
        loss = example_losses(model, [example for example, _ in examples], objective).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    return kept.parts(), loss.detach().double()


def _summed(passes: Iterable[tuple[list[Tensor], Tensor]]) -> tuple[list[Tensor], Tensor]:
    passes = iter(passes)
    total, loss_sum = next(passes)
    for parts, loss in passes:
        torch._foreach_add_(total, parts)
        loss_sum = loss_sum + loss
    return total, loss_sum


def divided(total: Tensor, batch: int) -> Tensor:
    """A sum over the public batch."""
    return total / batch


def plain_sum(
    model: nn.Module,
    lora: FusedLora,
    groups: Iterable[Group],
    objective: Objective,
    ranks: Ranks = ALONE,
) -> GradientSum:
    """The sum of gradients over all ranks: nothing clipped, nothing noised."""
    device = device_of(model)
    counts = torch.zeros(2, dtype=torch.float64, device=device)
    passes = (examples for group in groups for examples in group.passes)
    first = next(passes, None)
    if first is None:
        total = torch.zeros(lora.layout.coordinates, device=device)
    else:
        parts, loss = _summed(
            backward(model, lora, examples, objective, apart=None) for examples in chain([first], passes)
        )
        total = torch.cat(parts, dim=1)[0]
        counts[0] = loss
    return _told(total, counts, (), ranks)[0]


class Engine:
    """One training step, private or not, for one model: gradients of the units drawn, noise, optimizer."""

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        mechanism: Mechanism,
        objective: Objective,
        micro_batch: int,
        ranks: Ranks = ALONE,
        axes: Axes | None = None,
    ) -> None:
        self.model, self.schedule, self.mechanism, self.axes = model, schedule, mechanism, axes
        self.objective, self.micro_batch, self.ranks = objective, micro_batch, ranks
        self.private = math.isfinite(mechanism.clip)
        if self.private:
            refuse_coupling(model)
        self.lora = FusedLora(model)
        self.parameters = self.lora.parameters
        self.optimizer = optimizer_of(self.parameters, schedule)
        self.observed: list[Tensor] = []  # along the axes, over the clip: (axes,) a step
        self._along = axes.coordinates(self.lora.layout).to(device_of(model)) if axes else torch.empty(0)

    def step(self, number: int, drawn: Sequence[UnitExamples], noise: torch.Generator) -> Step:
        """Moves the weights by one step on the units drawn (over all ranks) and returns its record."""
        began = time.perf_counter()
        total = self.gradients(drawn, noise)
        guards.check_finite(total.loss, total.largest, total.gradients, self.lora.layout, number)
        if self.axes is not None:
            self.observed.append(self.released().index_select(0, self._along) / self.mechanism.clip)
        rate = learning_rate(self.schedule, number)
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        examples = sum(len(unit) for unit in drawn)
        return Step(
            step=number,
            units=len(drawn),
            clipped_share=total.clipped / max(len(drawn), 1),
            loss=total.loss / examples if examples else None,
            learning_rate=rate,
            seconds=time.perf_counter() - began,
        )

    def gradients(self, drawn: Sequence[UnitExamples], noise: torch.Generator) -> GradientSum:
        """The step's gradients, set for the optimizer: the sum, divided by the public batch."""
        mine = self.ranks.mine(drawn)
        groups = grouped([unit for unit in mine if not isinstance(unit, Axis)], self.micro_batch)
        with self.lora.attached():
            if self.private:
                parts: Iterator[Group | Axis] = chain(
                    groups, (unit for unit in mine if isinstance(unit, Axis))
                )
                total = private_sum(self._source, self.lora.layout, parts, self.mechanism, noise, self.ranks)
            else:
                total = plain_sum(self.model, self.lora, groups, self.objective, self.ranks)
        set_gradients(self.lora, divided(total.gradients, self.schedule.batch))
        return total

    def _source(self, group: Group | Axis) -> tuple[list[Tensor], Tensor]:
        if not isinstance(group, Axis):
            return unit_gradients(self.model, self.lora, group, self.objective)
        assert self.axes is not None
        gradients = self.axes.gradients(group, self.lora, self.mechanism.clip)
        return gradients, gradients[0].new_zeros((), dtype=torch.float64)

    def released(self) -> Tensor:
        """The sum that the optimizer has, multiplied back by the public batch: (coordinates,)."""
        held = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        return self.lora.layout.vector(held).mul_(self.schedule.batch)

    def summed(self, drawn: Sequence[UnitExamples], noise: torch.Generator) -> Tensor:
        """What a step with these units would release; no weight moves."""
        self.gradients(drawn, noise)
        released = self.released()
        self.optimizer.zero_grad()
        return released

    def probe(self, noise: torch.Generator) -> dict[str, Tensor]:
        """Checks the noise that steps of an empty batch bring to the optimizer; leaves weights and `noise` as
        they are.

        Returns it as `guards.probed` does; nothing where the mechanism has no noise.
        """
        twin = cloned(noise)
        deviation = self.mechanism.noise_multiplier * self.mechanism.clip
        if deviation == 0:
            return {}
        layout = self.lora.layout
        probes = guards.probed(lambda: self.summed([], twin), layout, guards.probe_count(layout), deviation)
        guards.check_noise(probes, deviation)
        return probes

    def one_unit_norm(self, unit: UnitExamples, noise: torch.Generator) -> float:
        """The norm of what one unit adds to a sum: of two steps with the same noise, one has the unit.

        Leaves `noise` as it is.
        """
        with_it, without = (self.summed(drawn, cloned(noise)) for drawn in ([unit], []))
        return float((with_it - without).norm())


def set_gradients(lora: FusedLora, vector: Tensor) -> None:
    """Gives the optimizer its gradients, of the weights' dtypes, from a vector (coordinates,)."""
    for name, view in lora.layout.views(vector).items():
        parameter = lora.parameters[name]
        parameter.grad = view.to(parameter.dtype).contiguous()


def optimizer_of(parameters: dict[str, nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """The schedule's optimizer over the trainable weights; its learning rate is set at every step.

    AdamW is PyTorch's fused one: one launch for many weights.
    """
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(
            parameters.values(), lr=0.0, momentum=schedule.momentum, weight_decay=schedule.weight_decay
        )
    return torch.optim.AdamW(parameters.values(), weight_decay=schedule.weight_decay, fused=True)


def learning_rate(schedule: Schedule, step: int) -> float:
    """The learning rate of `step` (from 0): a linear rise over the warm-up, then the decay; never 0."""
    warm = round(schedule.warmup * schedule.steps)
    if step < warm:
        return schedule.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(schedule.steps - warm, 1)
    factors = {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
    }
    return schedule.learning_rate * factors[schedule.decay]


def cloned(generator: torch.Generator) -> torch.Generator:
    """Another generator in the same state."""
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin
