"""All that a killed arm needs to go on: weights, optimizer, generators, and what its steps did."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


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
class Snapshot:
    """The state after `len(steps)` steps. `secret` holds the sampler's and the noise's generator: as good as the data."""

    tensors: dict[str, Tensor]  # weights/NAME, optimizer/INDEX/KEY, dropout/DEVICE
    steps: tuple[Step, ...]
    tokens: int
    seconds: float
    secret: dict[str, Any]


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
    tensors["dropout/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["dropout/cuda"] = torch.cuda.get_rng_state()
    secret = {"sampling": sampling.bit_generator.state, "noise": noise.get_state().numpy().tobytes().hex()}
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
    torch.set_rng_state(snapshot.tensors["dropout/cpu"].cpu())
    if "dropout/cuda" in snapshot.tensors:
        torch.cuda.set_rng_state(snapshot.tensors["dropout/cuda"].cpu())
    sampling.bit_generator.state = snapshot.secret["sampling"]
    words = np.frombuffer(bytes.fromhex(snapshot.secret["noise"]), dtype=np.uint8)
    noise.set_state(torch.from_numpy(words.copy()))
