"""Broken trainers: the real engine with one function replaced, each with the check that is meant to see it.

A stranger's trainer has no guards, so that within `planted` the engine's own are silent; `conformance` calls
the same guards from outside.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dpaudit.models import fused
from dpaudit.models.layout import Layout
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import dpsgd, dry, engine, guards, loop

SeenBy = Literal["mechanism test", "conformance", "ledger", "not observable in one run"]
Other = Callable[[dry.Setting, Any], Any]  # makes the replacement, from the setting and the function replaced
Replaced = tuple[Any, str, Other]  # module, name of its function, maker of the replacement
GUARDS = ("check_noised", "check_clipped", "check_noise", "check_sampling", "check_counted", "check_moved")


@dataclass(frozen=True)
class Fault:
    """A broken trainer. `acting` maps the mechanism that it was asked to run to the one that acts, where that
    is in the family.
    """

    name: str
    seen_by: SeenBy
    replaced: tuple[Replaced, ...] = ()  # in a dry run, in a training with a model, or in both
    sequences: int = 1  # of a unit
    rate: float = 1.0  # in the ledger, over the rate that acts; the noise is made for the ledger's
    counted: float = 1.0  # share of the steps that the ledger counts, for which the noise is made
    infinite: bool = False  # the true epsilon is
    acting: Callable[[Mechanism], Mechanism] | None = None
    also: str = ""  # further explanation


@contextmanager
def planted(fault: Fault, setting: dry.Setting) -> Iterator[None]:
    """The fault in place of the engine's function; the function comes back when the block ends."""
    silent = SimpleNamespace(**{**vars(guards), **dict.fromkeys(GUARDS, _silent)})
    with ExitStack() as stack:
        for caller in (engine, loop):
            stack.enter_context(_replaced(caller, "guards", silent))
        for where, name, other in fault.replaced:
            stack.enter_context(_replaced(where, name, other(setting, getattr(where, name))))
        yield


@contextmanager
def _replaced(where: Any, name: str, other: Any) -> Iterator[None]:
    original = getattr(where, name)
    setattr(where, name, other)
    try:
        yield
    finally:
        setattr(where, name, original)


def _silent(*arguments: object) -> None:
    """No guard."""


def _scaled_noise(factor: float) -> tuple[Replaced, ...]:
    def other(setting: dry.Setting, draw: Any) -> Any:
        return lambda layout, std, generator: draw(layout, std * factor, generator)

    return ((dpsgd, "gaussian_noise", other),)


def _noise_once(setting: dry.Setting, draw: Any) -> Any:
    kept: list[Tensor] = []

    def noise(layout: Layout, std: float, generator: torch.Generator) -> Tensor:
        if not kept:
            kept.append(draw(layout, std, generator))
        return kept[0].clone()

    return noise


def _noise_on_one(setting: dry.Setting, draw: Any) -> Any:
    def noise(layout: Layout, std: float, generator: torch.Generator) -> Tensor:
        drawn: Tensor = draw(layout, std, generator)
        drawn[layout.sizes[0] :] = 0
        return drawn

    return noise


def _clipped_average(setting: dry.Setting, clip_each: Any) -> Any:
    def clipped(gradients: Sequence[Tensor], clip: float) -> tuple[Tensor, Tensor]:
        averages = [part.sum(0, keepdim=True) / setting.batch for part in gradients]
        total, count = clip_each(averages, clip)
        return total * setting.batch, count

    return clipped


def _never_stepped(setting: dry.Setting, private_sum: Any) -> Any:
    def plain(source: Any, layout: Layout, groups: Any, *others: Any) -> Any:
        total = torch.zeros(layout.coordinates)
        for group in groups:
            total += torch.cat(source(group)[0], dim=1).sum(0)
        return engine.GradientSum(total, 0.0, 0, float(total.abs().max()))

    return plain


def _each_sequence_alone(setting: dry.Setting, summed: Any) -> Any:
    def alone(rows: Tensor) -> Tensor:
        return rows.flatten(0, 1)  # as many units as sequences

    return alone


def _each_row_alone(setting: dry.Setting, collecting: Any) -> Any:
    def alone(lora: Any, unit_of_row: Sequence[int], units: int) -> Any:
        return collecting(lora, range(len(unit_of_row)), len(unit_of_row))

    return alone


class _Sampler(dpsgd.PoissonSampler):
    """What the faulty samplers share: the same arguments, and the generator."""

    def __init__(self, units: int, rate: float, generator: np.random.Generator) -> None:
        super().__init__(units, rate, generator)
        self.generator = generator


class _Fourfold(_Sampler):
    def __init__(self, units: int, rate: float, generator: np.random.Generator) -> None:
        super().__init__(units, min(4 * rate, 1.0), generator)


class _Shuffled(_Sampler):
    """Batches of one size, every unit once an epoch."""

    def __init__(self, units: int, rate: float, generator: np.random.Generator) -> None:
        super().__init__(units, rate, generator)
        self._waiting: list[int] = []

    def draw(self) -> list[int]:
        size = max(1, round(self.units * self.rate))
        if len(self._waiting) < size:
            self._waiting += self.generator.permutation(self.units).tolist()
        taken, self._waiting = self._waiting[:size], self._waiting[size:]
        return sorted(taken)


class _Weighted(_Sampler):
    """A tenth of the units, of a rare kind, five times as often as they should be, the others the less."""

    def __init__(self, units: int, rate: float, generator: np.random.Generator) -> None:
        super().__init__(units, rate, generator)
        weights = np.where(generator.random(units) < 0.1, 5.0, 5 / 9)
        self._rates = np.minimum(rate * weights / weights.mean(), 1.0)

    def draw(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(self.generator.random(self.units) < self._rates)]


def _sampler(kind: type[_Sampler]) -> tuple[Replaced, ...]:
    return ((dpsgd, "PoissonSampler", lambda setting, original: kind),)


def _batch_of_data(setting: dry.Setting, divided: Any) -> Any:
    """The units that are there, half of the canaries among them, in place of the public number."""
    seen = (setting.population - setting.canaries / 2) / setting.population
    return lambda total, batch: divided(total, batch * seen)


def _still(setting: dry.Setting, move: Any) -> Any:
    return lambda parameters, gradients: None


def _stepless(setting: dry.Setting, optimizer_of: Any) -> Any:
    def made(parameters: Any, schedule: Any) -> Any:
        optimizer = optimizer_of(parameters, schedule)
        optimizer.step = lambda: None
        return optimizer

    return made


def _with_noise(factor: float) -> Callable[[Mechanism], Mechanism]:
    return lambda m: replace(m, noise_multiplier=m.noise_multiplier * factor)


def _with_rate(factor: float) -> Callable[[Mechanism], Mechanism]:
    return lambda m: replace(m, sampling_rate=min(m.sampling_rate * factor, 1.0))


_ALONE: tuple[Replaced, ...] = (
    (dry, "summed_by_unit", _each_sequence_alone),
    (fused.FusedLora, "collecting", _each_row_alone),
)
_STILL: tuple[Replaced, ...] = ((dry, "move", _still), (engine, "optimizer_of", _stepless))

ENGINE = Fault("the engine itself", "not observable in one run", acting=lambda m: m)
FAULTS = (
    Fault(
        "noise halved",
        "mechanism test",
        _scaled_noise(1 / 2),
        acting=_with_noise(1 / 2),
        also="four processes that add a quarter each",
    ),
    Fault(
        "noise quartered",
        "mechanism test",
        _scaled_noise(1 / 4),
        acting=_with_noise(1 / 4),
        also="noise divided by the accumulation steps",
    ),
    Fault("rate understated by 4", "mechanism test", _sampler(_Fourfold), rate=1 / 4, acting=_with_rate(4)),
    Fault("shuffled, accounted as Poisson", "conformance", _sampler(_Shuffled)),
    Fault("one of three epochs counted", "ledger", counted=1 / 3, acting=lambda m: m),
    Fault(
        "average clipped",
        "mechanism test",
        ((dpsgd, "clipped_sum", _clipped_average),),
        also="effective noise multiplier about sigma / 2B",
    ),
    Fault("same noise every step", "conformance", ((dpsgd, "gaussian_noise", _noise_once),), infinite=True),
    Fault("weights without noise", "conformance", ((dpsgd, "gaussian_noise", _noise_on_one),), infinite=True),
    Fault(
        "engine never stepped", "mechanism test", ((engine, "private_sum", _never_stepped),), infinite=True
    ),
    Fault("pair clipped as two rows", "mechanism test", _ALONE, 2, acting=_with_noise(1 / 2)),
    Fault(
        "patient's records clipped one by one",
        "mechanism test",
        _ALONE,
        4,
        acting=_with_noise(1 / 4),
        also="four records a patient",
    ),
    Fault(
        "divisor from the data",
        "conformance",
        ((engine, "divided", _batch_of_data),),
        also="seen where the declared number of units is not the private one",
    ),
    Fault("weighted sampler", "conformance", _sampler(_Weighted), acting=_with_rate(5)),
    Fault("accountant lost on resume", "ledger", counted=1 / 2, acting=lambda m: m),
    Fault("weights that never move", "conformance", _STILL, also="nothing is learned, and nothing leaks"),
    Fault("tuning not counted", "not observable in one run", acting=lambda m: m),
)


def ledger_of(fault: Fault, acting: Mechanism) -> Mechanism:
    """The mechanism in the trainer's ledger, where `acting` has the rate and the steps that really act."""
    steps = math.floor(acting.steps * fault.counted)
    return replace(acting, sampling_rate=acting.sampling_rate * fault.rate, steps=steps)


def told_to(fault: Fault, acting: Mechanism) -> Mechanism:
    """The mechanism that the trainer is started with: the ledger's rate, and all steps."""
    return replace(ledger_of(fault, acting), steps=acting.steps)
