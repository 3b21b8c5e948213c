"""One training step, private or not: unit gradients, clip, noise, optimizer."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from dpaudit.models.fused import FusedLora, Gradients, refuse_coupling, trainable
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import dpsgd, guards
from dpaudit.training.axes import Axes, Axis
from dpaudit.training.batches import Group, grouped
from dpaudit.training.examples import Objective, UnitExamples, device_of, example_losses
from dpaudit.training.ranks import Ranks
from dpaudit.training.state import Step

ALONE = Ranks()
GroupType = TypeVar("GroupType")


@dataclass(frozen=True)
class GradientSum:
    """The sum over the units of one step."""

    gradients: Gradients  # noisy where the arm is private
    loss: float  # sum over examples, nats
    clipped: int  # units


def private_sum(
    source: Callable[[GroupType], tuple[Gradients, float]],
    parameters: dict[str, nn.Parameter],
    groups: Iterable[GroupType],
    mechanism: Mechanism,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> GradientSum:
    """The sum of clipped unit gradients plus Gaussian noise; of no units at all, the noise alone.

    `source` gives a group's unit gradients, {name: (units, *shape)}, and its loss: `model_source` for a
    model, `axes` for canaries, `dry` for a run without a model. `groups` are this rank's; the sum is over all
    ranks, and the first one's noise is added to it once.
    """
    total = dpsgd.gaussian_noise(parameters, mechanism.noise_multiplier * mechanism.clip, generator)
    guards.check_noised(total, parameters, mechanism.noise_multiplier)
    if not ranks.first:
        total = {name: torch.zeros_like(part) for name, part in total.items()}
    device = next(iter(parameters.values())).device
    counts = torch.zeros(2, dtype=torch.float64, device=device)  # loss, units clipped
    for group in groups:
        gradients, loss = source(group)
        units = len(next(iter(gradients.values())))
        sums, clipped = dpsgd.clipped_sum(gradients, mechanism.clip)
        guards.check_clipped(sums, units, mechanism.clip)
        first = {
            name: part[:1] for name, part in gradients.items()
        }  # a long sum hardly shows one unclipped unit
        guards.check_clipped(dpsgd.clipped_sum(first, mechanism.clip)[0], 1, mechanism.clip)
        torch._foreach_add_(list(total.values()), [sums[name] for name in total])
        counts += torch.tensor([loss, clipped], dtype=torch.float64, device=counts.device)
    ranks.add_up([*total.values(), counts])
    return GradientSum(total, float(counts[0]), int(counts[1]))


def model_source(
    model: nn.Module, lora: FusedLora, objective: Objective
) -> Callable[[Group], tuple[Gradients, float]]:
    """The source of `private_sum` that uses a model, whose fused layers are attached."""
    return lambda group: unit_gradients(model, lora, group, objective)


def unit_gradients(
    model: nn.Module, lora: FusedLora, group: Group, objective: Objective
) -> tuple[Gradients, float]:
    """The unclipped gradient of every unit of a group, {name: (units, *shape)}, and the sum of the losses."""
    total: Gradients = {}
    loss_sum = 0.0
    for examples in group.passes:
        rows = [unit for example, unit in examples for _ in example.sequences]
        with lora.collecting(torch.tensor(rows, device=device_of(model)), group.units):
            loss = example_losses(model, [example for example, _ in examples], objective).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        total = {name: total[name] + part for name, part in lora.units.items()} if total else lora.units
        loss_sum += loss.item()
    return total, loss_sum


def divided(total: Gradients, batch: int) -> Gradients:
    """A sum over the public batch."""
    return {name: part / batch for name, part in total.items()}


def plain_sum(
    model: nn.Module, groups: Iterable[Group], objective: Objective, ranks: Ranks = ALONE
) -> GradientSum:
    """The sum of gradients by ordinary backward passes, over all ranks: nothing clipped, nothing noised."""
    loss_sum = torch.zeros(1, dtype=torch.float64, device=device_of(model))
    for group in groups:
        for examples in group.passes:
            loss = example_losses(model, [example for example, _ in examples], objective).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.item()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trainable(model).items()
    }
    ranks.add_up([*gradients.values(), loss_sum])
    return GradientSum(gradients, float(loss_sum), 0)


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

    def step(self, number: int, drawn: Sequence[UnitExamples], noise: torch.Generator) -> Step:
        """Moves the weights by one step on the units drawn (over all ranks) and returns its record."""
        began = time.perf_counter()
        total = self.gradients(drawn, noise)
        guards.check_finite(total.loss, total.gradients, number)
        if self.axes is not None:
            self.observed.append(self.axes.along(self.released()) / self.mechanism.clip)
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
                total = private_sum(self._source, self.parameters, parts, self.mechanism, noise, self.ranks)
            else:
                total = plain_sum(self.model, groups, self.objective, self.ranks)
        for name, part in divided(total.gradients, self.schedule.batch).items():
            self.parameters[name].grad = part.to(self.parameters[name].dtype)
        return total

    def _source(self, group: Group | Axis) -> tuple[Gradients, float]:
        if not isinstance(group, Axis):
            return unit_gradients(self.model, self.lora, group, self.objective)
        assert self.axes is not None
        return self.axes.gradients(group, self.lora, self.mechanism.clip), 0.0

    def released(self) -> Gradients:
        """The sum that the optimizer has, multiplied back by the public batch."""
        return {
            n: p.grad.float() * self.schedule.batch for n, p in self.parameters.items() if p.grad is not None
        }

    def summed(self, drawn: Sequence[UnitExamples], noise: torch.Generator) -> Gradients:
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
        probes = guards.probed(lambda: self.summed([], twin), guards.probe_count(self.parameters), deviation)
        guards.check_noise(probes, deviation)
        return probes

    def one_unit(self, unit: UnitExamples, noise: torch.Generator) -> Gradients:
        """What one unit adds to a sum: two steps of the same noise, of which one has it. Leaves `noise` as it
        is.
        """
        with_it, without = (self.summed(drawn, cloned(noise)) for drawn in ([unit], []))
        return {name: with_it[name] - without[name] for name in with_it}


def optimizer_of(parameters: dict[str, nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """The schedule's optimizer over the trainable weights; its learning rate is set at every step."""
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(
            parameters.values(), lr=0.0, momentum=schedule.momentum, weight_decay=schedule.weight_decay
        )
    return torch.optim.AdamW(parameters.values(), weight_decay=schedule.weight_decay)


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
