"""DP-SGD by parts: Poisson sampling, clipping by unit, Gaussian noise.

A *row* is one sequence of a forward pass; a *unit* is what the privacy claim hides. All rows of a unit are
summed before its norm is taken, so a patient's records, or the two answers of a pair, are clipped as one. The
gradients of units come from `fused`.
"""

import secrets
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpaudit.models.layout import Layout

_STATE_BEGIN, _STATE_WORDS = 24, 624  # of the Mersenne twister in a CPU generator's state: 64 bits a word


class PoissonSampler:
    """Draws each unit with probability `rate`, independently of all others and of earlier draws."""

    def __init__(self, units: int, rate: float, generator: np.random.Generator) -> None:
        if not 0 < rate <= 1:
            raise ValueError(f"expected a sampling rate in (0, 1], got {rate}")
        self.units, self.rate, self._generator = units, rate, generator

    def draw(self) -> list[int]:
        """The indices of the units of one step, ascending; often none where the expected batch is small."""
        return [int(i) for i in np.flatnonzero(self._generator.random(self.units) < self.rate)]


def sampling_generator(seed: int | None = None) -> np.random.Generator:
    """A generator for the sampler, from the operating system's entropy unless `seed` fixes it."""
    return np.random.default_rng(secrets.randbits(128) if seed is None else seed)


def noise_generator(device: torch.device, seed: int | None = None) -> torch.Generator:
    """A generator for the noise on `device`, from the operating system's entropy unless `seed` fixes it.

    PyTorch's CPU generator keeps only 32 bits of a seed, few enough to try them all: without `seed` its whole
    state of 624 words is filled instead.
    """
    generator = torch.Generator(device)
    generator.manual_seed(secrets.randbits(63) if seed is None else seed % 2**63)
    if seed is None and generator.device.type == "cpu":
        state = generator.get_state().numpy().copy()
        words = state[_STATE_BEGIN : _STATE_BEGIN + 8 * _STATE_WORDS].view(np.uint64)
        words[:] = np.frombuffer(secrets.token_bytes(4 * _STATE_WORDS), dtype=np.uint32)
        generator.set_state(torch.from_numpy(state))
    return generator


def seed_dropout(seed: int | None = None) -> None:
    """Seeds the process's generators, from which dropout draws, from the system's entropy unless `seed` fixes
    them.

    Under DP the masks must be secret. All of a step's units share one stream, so one more unit changes the
    masks of all others: with known masks each of them could move by up to two clips. Secret independent masks
    are part of the mechanism's randomness, and under each of them one more unit changes the sum by one clip.
    """
    torch.set_rng_state(noise_generator(torch.device("cpu"), seed).get_state())
    if torch.cuda.is_available():
        torch.cuda.manual_seed(secrets.randbits(63) if seed is None else seed % 2**63)


def unit_norms(gradients: Sequence[Tensor]) -> Tensor:
    """The L2 norm of each unit's gradient over all its parts together, shape (units,)."""
    norms = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in gradients])
    total: Tensor = torch.linalg.vector_norm(norms, dim=0)
    return total


def clipped_sum(gradients: Sequence[Tensor], clip: float) -> tuple[Tensor, Tensor]:
    """The sum over units of their gradients scaled to norm at most `clip`, and how many were scaled down.

    `gradients` are parts (units, coordinates of the part); the sum is (coordinates,), the count a number on
    the same device. Source: Abadi et al. 2016 (arXiv 1607.00133), algorithm 1.
    """
    norms = unit_norms(gradients)
    factors = (clip / norms.clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1.0)
    return torch.cat([part.T.mv(factors) for part in gradients]), (norms > clip).sum()


def gaussian_noise(layout: Layout, std: float, generator: torch.Generator) -> Tensor:
    """Independent Gaussian noise of standard deviation `std` for every coordinate, (coordinates,) in float32,
    on the generator's device.
    """
    return torch.randn(layout.coordinates, generator=generator, device=generator.device).mul_(std)
