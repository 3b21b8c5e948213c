"""The training loop, one for private and non-private arms: draw units, add up gradients, add noise, step."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpaudit.errors import GuardError
from dpaudit.models.encode import Encoded
from dpaudit.privacy import Mechanism
from dpaudit.suite import Schedule
from dpaudit.training import dpsgd, losses
from dpaudit.training.fused import FusedLora, Gradients, trainable


@dataclass(frozen=True)
class Example:
    """One loss term: a record's sequence, or the chosen and the rejected sequence of a pair.

    `reference` has the sequences' log-probabilities under the reference model (pairs only).
    """

    sequences: tuple[Encoded, ...]
    reference: tuple[float, ...] = ()


GUARDS = ("loss finite", "noise on every trainable weight", "weights moved", "steps as in the ledger")

Unit = Sequence[Example]  # all that one unit contributes


@dataclass(frozen=True)
class Objective:
    """`loss` is "sft" or a key of losses.LOSSES; of the latter, None means the published setting."""

    loss: str = "sft"
    beta: float | None = None
    label_smoothing: float | None = None


@dataclass(frozen=True)
class Step:
    """What one step did. Counts and loss come from private data without noise: internal, not covered by epsilon."""

    step: int
    units: int
    clipped_share: float  # of the step's units; 0 where nothing is clipped
    loss: float | None  # mean per example; None in an empty batch
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Result:
    steps: tuple[Step, ...]
    tokens: int  # of all sequences that went through the model, padding not counted
    seconds: float
    guards: tuple[str, ...]  # what was checked and held


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
) -> Result:
    """Trains the model's trainable weights in place and returns what each step did.

    `mechanism` says how units are sampled, clipped and noised; with an infinite clip nothing is clipped or
    noised and the same sampler is used. The summed gradient is divided by `schedule.batch`, a public
    constant. `micro_batch` bounds the sequences of one forward pass and never changes the step.
    Raises GuardError where a loss is not finite, a weight got no noise or never moved, or a step went uncounted.
    """
    objective = objective or Objective()
    parameters = trainable(model)
    start = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = optimizer_of(parameters, schedule)
    sampler = dpsgd.PoissonSampler(len(units), mechanism.sampling_rate, sampling)
    lora = FusedLora(model)
    private = math.isfinite(mechanism.clip)
    steps, tokens, began = [], 0, time.perf_counter()
    model.train()
    for number in range(schedule.steps):
        step_began = time.perf_counter()
        drawn = [units[i] for i in sampler.draw()]
        groups = grouped(drawn, micro_batch)
        with lora.attached():
            if private:
                total = private_sum(model, lora, groups, objective, mechanism, noise)
            else:
                total = plain_sum(model, groups, objective)
        check_finite(total, number)
        rate = learning_rate(schedule, number)
        _apply(optimizer, parameters, total.gradients, schedule.batch, rate)
        examples = [example for unit in drawn for example in unit]
        tokens += sum(len(s.input_ids) for example in examples for s in example.sequences)
        steps.append(
            Step(
                step=number,
                units=len(drawn),
                clipped_share=total.clipped / max(len(drawn), 1),
                loss=total.loss / len(examples) if examples else None,
                learning_rate=rate,
                seconds=time.perf_counter() - step_began,
            )
        )
        advance(1)
    model.eval()
    check_counted(len(steps), mechanism)
    check_moved(parameters, start, private)
    guards = GUARDS if private else tuple(guard for guard in GUARDS if guard != GUARDS[1])
    return Result(tuple(steps), tokens, time.perf_counter() - began, guards)


def optimizer_of(parameters: dict[str, nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """The schedule's optimizer over the trainable weights; its learning rate is set anew at every step."""
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(
            parameters.values(), lr=0.0, momentum=schedule.momentum, weight_decay=schedule.weight_decay
        )
    return torch.optim.AdamW(parameters.values(), weight_decay=schedule.weight_decay)


@dataclass(frozen=True)
class Group:
    """Units that are clipped together, as forward passes of (example, index of its unit in the group)."""

    units: int
    passes: tuple[tuple[tuple[Example, int], ...], ...]


def grouped(units: Sequence[Unit], micro_batch: int) -> Iterator[Group]:
    """The units in groups of at most `micro_batch` sequences, alike in length to save padding.

    Units stay whole: one that alone exceeds the bound is a group of several passes, whose gradients add up
    before the clip. The sequences of one example are never parted.
    """
    waiting: list[tuple[Example, int]] = []
    count = 0
    for unit in sorted(units, key=_longest):
        if waiting and _rows(waiting) + sum(len(e.sequences) for e in unit) > micro_batch:
            yield Group(count, tuple(_passes(waiting, micro_batch)))
            waiting, count = [], 0
        waiting += [(example, count) for example in unit]
        count += 1
    if count:
        yield Group(count, tuple(_passes(waiting, micro_batch)))


@dataclass(frozen=True)
class GradientSum:
    """What the units of one step add up to."""

    gradients: Gradients  # noisy where the arm is private
    loss: float  # sum over examples, nats
    clipped: int  # units


def private_sum(
    model: nn.Module,
    lora: FusedLora,
    groups: Iterable[Group],
    objective: Objective,
    mechanism: Mechanism,
    generator: torch.Generator,
) -> GradientSum:
    """The sum of clipped unit gradients plus Gaussian noise; of no units at all, the noise alone."""
    total = dpsgd.gaussian_noise(lora.parameters, mechanism.noise_multiplier * mechanism.clip, generator)
    check_noised(total, lora.parameters, mechanism.noise_multiplier)
    loss_sum, clipped = 0.0, 0
    for group in groups:
        gradients, loss = unit_gradients(model, lora, group, objective)
        sums, group_clipped = dpsgd.clipped_sum(gradients, mechanism.clip)
        for name, part in sums.items():
            total[name] += part
        loss_sum, clipped = loss_sum + loss, clipped + group_clipped
    return GradientSum(total, loss_sum, clipped)


def unit_gradients(
    model: nn.Module, lora: FusedLora, group: Group, objective: Objective
) -> tuple[Gradients, float]:
    """The unclipped gradient of every unit of a group, {name: (units, *shape)}, and the sum of the losses."""
    total: Gradients = {}
    loss_sum = 0.0
    for examples in group.passes:
        rows = [unit for example, unit in examples for _ in example.sequences]
        with lora.collecting(torch.tensor(rows, device=_device(model)), group.units):
            loss = example_losses(model, [example for example, _ in examples], objective).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        total = {name: total[name] + part for name, part in lora.units.items()} if total else lora.units
        loss_sum += loss.item()
    return total, loss_sum


def plain_sum(model: nn.Module, groups: Iterable[Group], objective: Objective) -> GradientSum:
    """The sum of gradients by ordinary backward passes: nothing clipped, nothing noised."""
    loss_sum = 0.0
    for group in groups:
        for examples in group.passes:
            loss = example_losses(model, [example for example, _ in examples], objective).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.item()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trainable(model).items()
    }
    return GradientSum(gradients, loss_sum, 0)


def example_losses(model: nn.Module, examples: Sequence[Example], objective: Objective) -> Tensor:
    """The loss of each example, shape (examples,), in nats. Raises ValueError where a reference is needed and absent."""
    log_probs, tokens = answer_log_probs(model, [s for e in examples for s in e.sequences])
    if objective.loss == "sft":
        return losses.sft(log_probs, tokens)
    loss = losses.LOSSES[objective.loss]
    if loss.needs_reference and not all(e.reference for e in examples):
        raise ValueError(f"{objective.loss}: expected reference log-probabilities of every pair, got none")
    policy, counts = log_probs.view(-1, 2), tokens.view(-1, 2)
    reference = torch.full_like(policy, math.nan)  # a loss that said it needs none and uses it stops the arm
    if loss.needs_reference:
        reference = policy.new_tensor([e.reference for e in examples])
    pairs = losses.PairLogProbs(*policy.unbind(1), *counts.unbind(1), *reference.unbind(1))
    settings = losses.settings_of(objective.loss, objective.beta, objective.label_smoothing)
    return loss.function(pairs, settings)


def answer_log_probs(model: nn.Module, sequences: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Summed log-probability of each sequence's answer tokens, in nats, and their number; both (sequences,).

    Padding is on the right and causal attention never looks there, so no mask is needed and rows stay
    independent.
    """
    device = _device(model)
    tokens = _padded([s.input_ids for s in sequences]).to(device)  # (rows, tokens)
    answers = _padded([s.answer_mask for s in sequences]).to(device).bool()[:, 1:]  # predicted from the left
    row, column = answers.nonzero(as_tuple=True)
    logits = answer_logits(model, tokens, row, column)
    negative = nn.functional.cross_entropy(logits.float(), tokens[row, column + 1], reduction="none")
    sums = negative.new_zeros(len(sequences)).index_add(0, row, -negative)
    return sums, answers.sum(1)


def answer_logits(model: Any, tokens: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Logits (positions, words) at the given rows and columns; the output layer computes no others."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(head, nn.Linear):  # adapted itself (its rows have to stay apart), or out of reach
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits[row, column]
        return logits
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][row, column][None],))
    try:
        chosen: Tensor = model(input_ids=tokens, use_cache=False).logits[0]
        return chosen
    finally:
        handle.remove()


@torch.no_grad()
def with_reference(model: Any, units: Sequence[Unit], micro_batch: int = 256) -> list[list[Example]]:
    """The units with every sequence's log-probability under the base model filled in; an adapter is switched off."""
    rows = [s for unit in units for example in unit for s in example.sequences]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids))
    found = np.zeros(len(rows))
    model.eval()
    with getattr(model, "disable_adapter", nullcontext)():
        for first in range(0, len(order), micro_batch):
            part = order[first : first + micro_batch]
            found[part] = answer_log_probs(model, [rows[i] for i in part])[0].cpu().numpy()
    values = iter(found.tolist())
    return [[replace(e, reference=tuple(next(values) for _ in e.sequences)) for e in unit] for unit in units]


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


def check_finite(total: GradientSum, step: int) -> None:
    if not math.isfinite(total.loss):
        raise GuardError(f"loss of step {step}: expected a finite number, seen {total.loss}")
    for name, gradient in total.gradients.items():
        if not gradient.isfinite().all():
            raise GuardError(f"gradient of {name} in step {step}: expected finite numbers, seen others")


def check_noised(noise: Gradients, parameters: dict[str, nn.Parameter], noise_multiplier: float) -> None:
    """Raises GuardError unless every trainable weight has noise of its shape, none of it all zero."""
    for name, parameter in parameters.items():
        seen = tuple(noise[name].shape) if name in noise else "none"
        if seen != tuple(parameter.shape):
            raise GuardError(f"noise on {name}: expected shape {tuple(parameter.shape)}, seen {seen}")
        if noise_multiplier > 0 and not noise[name].any():
            raise GuardError(f"noise on {name}: expected {noise_multiplier:g} times the clip, seen 0")


def check_counted(steps: int, mechanism: Mechanism) -> None:
    if steps != mechanism.steps:
        raise GuardError(f"steps: expected {mechanism.steps} as the ledger says, seen {steps}")


def check_moved(parameters: dict[str, nn.Parameter], start: dict[str, Tensor], private: bool) -> None:
    """Raises GuardError where a weight is what it was; without noise only if no weight moved at all."""
    still = [name for name, p in parameters.items() if torch.equal(p.detach(), start[name])]
    if still and (private or len(still) == len(parameters)):
        raise GuardError(f"weights at the end: expected all moved, seen {len(still)} of {len(parameters)} "
                         f"unchanged, {still[0]} first")  # fmt: skip


def _apply(
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
    gradients: Gradients,
    divisor: float,
    rate: float,
) -> None:
    for name, parameter in parameters.items():
        parameter.grad = (gradients[name] / divisor).to(parameter.dtype)
    for settings in optimizer.param_groups:
        settings["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _passes(
    waiting: list[tuple[Example, int]], micro_batch: int
) -> Iterator[tuple[tuple[Example, int], ...]]:
    part: list[tuple[Example, int]] = []
    for item in waiting:
        if part and _rows(part) + len(item[0].sequences) > micro_batch:
            yield tuple(part)
            part = []
        part.append(item)
    yield tuple(part)


def _rows(items: Sequence[tuple[Example, int]]) -> int:
    return sum(len(example.sequences) for example, _ in items)


def _longest(unit: Unit) -> int:
    return max(len(s.input_ids) for example in unit for s in example.sequences)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
