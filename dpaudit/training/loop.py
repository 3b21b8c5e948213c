"""The training loop, one for private and non-private arms: draw units, add up gradients, add noise, step."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpaudit.models.encode import Encoded
from dpaudit.privacy import Mechanism
from dpaudit.suite import Schedule
from dpaudit.training import dpsgd, guards, losses
from dpaudit.training.fused import FusedLora, Gradients, trainable
from dpaudit.training.ranks import Ranks
from dpaudit.training.state import Snapshot, capture, restore


@dataclass(frozen=True)
class Example:
    """One loss term: a record's sequence, or the chosen and the rejected sequence of a pair.

    `reference` has the sequences' log-probabilities under the reference model (pairs only).
    """

    sequences: tuple[Encoded, ...]
    reference: tuple[float, ...] = ()


Unit = Sequence[Example]  # all that one unit contributes
ALONE = Ranks()
REFERENCE_CHUNK = 1024  # units whose sequences are sorted by length together


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
    ranks: Ranks = ALONE,
    resume: Snapshot | None = None,
    keep: Callable[[Snapshot], None] | None = None,
    keep_every: int = 50,
) -> Result:
    """Trains the model's trainable weights in place and returns what each step did.

    `mechanism` says how units are sampled, clipped and noised; with an infinite clip nothing is clipped or
    noised and the same sampler is used. The summed gradient is divided by `schedule.batch`, a public
    constant. `micro_batch` bounds the sequences of one forward pass and never changes the step; nor does the number
    of `ranks`, up to rounding. `keep` gets a snapshot after every `keep_every` steps; from one of them, given as
    `resume` with the model as it was at the very start, training goes on to the same weights.
    Raises GuardError where a guard fires (see `guards`).
    """
    engine = Engine(model, schedule, mechanism, objective or Objective(), micro_batch, ranks)
    start = {name: p.detach().clone() for name, p in engine.parameters.items()}
    sampler = dpsgd.PoissonSampler(len(units), mechanism.sampling_rate, sampling)
    steps, tokens, earlier = [], 0, 0.0
    model.train()
    if engine.private:
        engine.probe(noise)
    if resume is not None:
        restore(resume, engine.parameters, engine.optimizer, sampling, noise)
        steps, tokens, earlier = list(resume.steps), resume.tokens, resume.seconds
        advance(len(steps))
    began = time.perf_counter()
    for number in range(len(steps), schedule.steps):
        drawn = [units[i] for i in ranks.shared(sampler.draw() if ranks.first else None)]
        steps.append(engine.step(number, drawn, noise))
        tokens += sum(len(s.input_ids) for unit in drawn for example in unit for s in example.sequences)
        advance(1)
        if keep is not None and (number + 1) % keep_every == 0 and number + 1 < schedule.steps:
            tensors, secret = capture(engine.parameters, engine.optimizer, sampling, noise)
            spent = earlier + time.perf_counter() - began
            keep(Snapshot(tensors, tuple(steps), tokens, spent, secret))
    model.eval()
    guards.check_sampling(steps, len(units), mechanism.sampling_rate)
    guards.check_counted(len(steps), mechanism)
    guards.check_moved(engine.parameters, start, engine.private)
    held = guards.ALWAYS + (guards.PRIVATE if engine.private else ())
    return Result(tuple(steps), tokens, earlier + time.perf_counter() - began, held)


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
    ) -> None:
        self.model, self.schedule, self.mechanism = model, schedule, mechanism
        self.objective, self.micro_batch, self.ranks = objective, micro_batch, ranks
        self.private = math.isfinite(mechanism.clip)
        self.lora = FusedLora(model)
        self.parameters = self.lora.parameters
        self.optimizer = optimizer_of(self.parameters, schedule)

    def step(self, number: int, drawn: Sequence[Unit], noise: torch.Generator) -> Step:
        """Moves the weights by one step on the units drawn (over all ranks) and says what it did."""
        began = time.perf_counter()
        total = self.gradients(drawn, noise)
        guards.check_finite(total.loss, total.gradients, number)
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

    def gradients(self, drawn: Sequence[Unit], noise: torch.Generator) -> "GradientSum":
        """The step's gradients, put where the optimizer takes them: the sum, divided by the public batch."""
        groups = grouped(self.ranks.mine(drawn), self.micro_batch)
        with self.lora.attached():
            if self.private:
                total = private_sum(
                    self.model, self.lora, groups, self.objective, self.mechanism, noise, self.ranks
                )
            else:
                total = plain_sum(self.model, groups, self.objective, self.ranks)
        for name, parameter in self.parameters.items():
            parameter.grad = (total.gradients[name] / self.schedule.batch).to(parameter.dtype)
        return total

    def probe(self, noise: torch.Generator) -> None:
        """Checks the noise that steps of an empty batch bring to the optimizer; leaves weights and `noise` as they are."""
        twin = _cloned(noise)

        def empty_step() -> Gradients:
            self.gradients([], twin)
            found = {
                name: p.grad.float() * self.schedule.batch
                for name, p in self.parameters.items()
                if p.grad is not None
            }
            self.optimizer.zero_grad()
            return found

        deviation = self.mechanism.noise_multiplier * self.mechanism.clip
        if deviation > 0:
            guards.check_noise(empty_step, guards.probe_count(self.parameters), deviation)


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
    ranks: Ranks = ALONE,
) -> GradientSum:
    """The sum of clipped unit gradients plus Gaussian noise; of no units at all, the noise alone.

    `groups` are this rank's; the sum is over all ranks, and the first one's noise is added to it once.
    """
    total = dpsgd.gaussian_noise(lora.parameters, mechanism.noise_multiplier * mechanism.clip, generator)
    guards.check_noised(total, lora.parameters, mechanism.noise_multiplier)
    if not ranks.first:
        total = {name: torch.zeros_like(part) for name, part in total.items()}
    counts = torch.zeros(2, dtype=torch.float64, device=_device(model))  # loss, units clipped
    for group in groups:
        gradients, loss = unit_gradients(model, lora, group, objective)
        sums, clipped = dpsgd.clipped_sum(gradients, mechanism.clip)
        guards.check_clipped(sums, group.units, mechanism.clip)
        for name, part in sums.items():
            total[name] += part
        counts += torch.tensor([loss, clipped], dtype=torch.float64, device=counts.device)
    ranks.add_up([*total.values(), counts])
    return GradientSum(total, float(counts[0]), int(counts[1]))


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


def plain_sum(
    model: nn.Module, groups: Iterable[Group], objective: Objective, ranks: Ranks = ALONE
) -> GradientSum:
    """The sum of gradients by ordinary backward passes, over all ranks: nothing clipped, nothing noised."""
    loss_sum = torch.zeros(1, dtype=torch.float64, device=_device(model))
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


class Referenced(Sequence[Unit]):
    """Units whose pairs know their log-probabilities under the reference; the units themselves are read as needed."""

    def __init__(
        self, units: Sequence[Unit], values: np.ndarray[Any, Any], first: np.ndarray[Any, Any]
    ) -> None:
        self._units, self._values, self._first = units, values, first  # (sequences,) and (units,)

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, index: Any) -> Any:
        unit, first = self._units[index], self._first[index]
        values = iter(self._values[first : first + sum(len(e.sequences) for e in unit)].tolist())
        return [replace(e, reference=tuple(next(values) for _ in e.sequences)) for e in unit]


@torch.no_grad()
def with_reference(model: Any, units: Sequence[Unit], micro_batch: int = 256) -> Referenced:
    """The units with every sequence's log-probability under `model` as it is, its adapter included, in nats."""
    found: list[np.ndarray[Any, Any]] = []
    first = np.zeros(len(units), dtype=np.int64)
    model.eval()
    done = 0
    for start in range(0, len(units), REFERENCE_CHUNK):
        rows: list[Encoded] = []
        for index in range(start, min(start + REFERENCE_CHUNK, len(units))):
            first[index] = done + len(rows)
            rows += [s for example in units[index] for s in example.sequences]
        values = np.zeros(len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids))
        for place in range(0, len(order), micro_batch):
            part = order[place : place + micro_batch]
            values[part] = answer_log_probs(model, [rows[i] for i in part])[0].cpu().numpy()
        found.append(values)
        done += len(rows)
    return Referenced(units, np.concatenate(found) if found else np.zeros(0), first)


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


def _cloned(generator: torch.Generator) -> torch.Generator:
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


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
