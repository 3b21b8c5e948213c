"""What a model is trained on, and the loss of one example: functions that never couple two examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpaudit.models.encode import Encoded
from dpaudit.training import losses
from dpaudit.training.state import exact

REFERENCE_CHUNK = 1024  # units whose sequences are sorted by length together


@dataclass(frozen=True)
class Example:
    """One loss term: a record's sequence, or the chosen and the rejected sequence of a pair.

    `reference` has the sequences' log-probabilities under the reference model (pairs only).
    """

    sequences: tuple[Encoded, ...]
    reference: tuple[float, ...] = ()


UnitExamples = Sequence[Example]  # all that one unit contributes


@dataclass(frozen=True)
class Objective:
    """`loss` is "sft" or a key of losses.LOSSES; of the latter, None means the published setting."""

    loss: str = "sft"
    beta: float | None = None
    label_smoothing: float | None = None


def example_losses(model: nn.Module, examples: Sequence[Example], objective: Objective) -> Tensor:
    """The loss of each example, shape (examples,), in nats. Raises ValueError where a reference is needed and
    absent.
    """
    log_probs, tokens = answer_log_probs(model, [s for e in examples for s in e.sequences])
    if objective.loss == "sft":
        return losses.sft(log_probs, tokens)
    loss = losses.LOSSES[objective.loss]
    if loss.needs_reference and not all(e.reference for e in examples):
        raise ValueError(
            f"{objective.loss}: expected reference log-probabilities of every pair, got none for some"
        )
    policy, counts = log_probs.view(-1, 2), tokens.view(-1, 2)
    reference = torch.full_like(policy, math.nan)  # a loss that uses it without declaring so stops the arm
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
    device = device_of(model)
    tokens = _padded([s.input_ids for s in sequences])  # (rows, tokens)
    answers = _padded([s.answer_mask for s in sequences]).bool()[:, 1:]  # predicted from the left
    row, column = answers.nonzero(as_tuple=True)
    targets, counts = tokens[row, column + 1], answers.sum(1)
    row, column = row.to(device), column.to(device)
    logits = answer_logits(model, tokens.to(device), row, column)
    negative = nn.functional.cross_entropy(logits.float(), targets.to(device), reduction="none")
    apart = negative.new_zeros(answers.shape).index_put((row, column), -negative)
    return apart.sum(1), counts.to(device)  # sums in a fixed order on any device


def answer_logits(model: Any, tokens: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Logits (positions, words) at the given rows and columns; the output layer computes no others."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(head, nn.Linear):  # adapted itself (its rows must stay separate), or unknown
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits[row, column]
        return logits
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][row, column][None],))
    try:
        chosen: Tensor = model(input_ids=tokens, use_cache=False).logits[0]
        return chosen
    finally:
        handle.remove()


class Referenced(Sequence[UnitExamples]):
    """Units whose pairs know their log-probabilities under the reference; the units themselves are read as
    needed.
    """

    def __init__(
        self, units: Sequence[UnitExamples], values: np.ndarray[Any, Any], first: np.ndarray[Any, Any]
    ) -> None:
        self._units, self._values, self._first = units, values, first  # (sequences,) and (units,)

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, index: Any) -> Any:
        unit, first = self._units[index], self._first[index]
        values = iter(self._values[first : first + sum(len(e.sequences) for e in unit)].tolist())
        return [replace(e, reference=tuple(next(values) for _ in e.sequences)) for e in unit]


@exact()
@torch.no_grad()
def with_reference(model: Any, units: Sequence[UnitExamples], micro_batch: int = 256) -> Referenced:
    """The units with every sequence's log-probability under `model` as it is, its adapter included, in
    nats.
    """
    logprobs: list[np.ndarray[Any, Any]] = []
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
        logprobs.append(values)
        done += len(rows)
    return Referenced(units, np.concatenate(logprobs) if logprobs else np.zeros(0), first)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
