"""All that a killed arm needs to continue: weights, optimizer, generators, and the records of its steps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """The record of one step. Counts and loss come from private data without noise: internal, not covered by
    epsilon.
    """

    step: int
    units: int
    clipped_share: float  # of the step's units; 0 where nothing is clipped
    loss: float | None  # mean per example; None in an empty batch
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Snapshot:
    """The state after `len(steps)` steps. `secret` holds the generators of sampler, noise and dropout: as
    good as the data.

    With canaries along axes it holds `times` as well, how often each unit was drawn.
    """

    tensors: dict[str, Tensor]  # weights/NAME, optimizer/INDEX/KEY; observed, released along axes so far
    steps: tuple[Step, ...]
    tokens: int
    seconds: float
    secret: dict[str, Any]


@contextmanager
def exact() -> Iterator[None]:
    """Every sum on an accelerator in a fixed order: one seed gives one result, and a resumed arm ends in the
    bytes of an unbroken one.

    Source: PyTorch's notes on reproducibility. On a processor sums have a fixed order anyway.
    """
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


def capture(
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sampling: np.random.Generator,
    noise: torch.Generator,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the secret part of a snapshot, as copies."""
    tensors = {f"weights/{name}": p.detach().clone() for name, p in parameters.items()}
    for index, kept in optimizer.state_dict()["state"].items():
        for key, value in kept.items():
            if value is not None:  # SGD without momentum
                tensors[f"optimizer/{index}/{key}"] = torch.as_tensor(value).clone()
    secret = {
        "sampling": sampling.bit_generator.state,
        "noise": _text(noise.get_state()),
        "dropout": _text(torch.get_rng_state()),
    }
    if torch.cuda.is_available():
        secret["dropout_cuda"] = _text(torch.cuda.get_rng_state())
    return tensors, secret


def restore(
    snapshot: Snapshot,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sampling: np.random.Generator,
    noise: torch.Generator,
) -> None:
    """Puts weights, optimizer and generators back as they were."""
    kept: dict[int, dict[str, Any]] = {}
    with torch.no_grad():
        for path, tensor in snapshot.tensors.items():
            kind, _, rest = path.partition("/")
            if kind == "weights":
                parameters[rest].copy_(tensor)
            elif kind == "optimizer":
                index, _, key = rest.partition("/")
                kept.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
    sampling.bit_generator.state = snapshot.secret["sampling"]
    noise.set_state(_state(snapshot.secret["noise"]))
    torch.set_rng_state(_state(snapshot.secret["dropout"]))
    if "dropout_cuda" in snapshot.secret:
        torch.cuda.set_rng_state(_state(snapshot.secret["dropout_cuda"]))


def _text(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _state(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytes.fromhex(text), dtype=np.uint8).copy())
