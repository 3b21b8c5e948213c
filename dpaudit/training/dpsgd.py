"""DP-SGD by parts: Poisson sampling, gradients of single examples, clipping by unit, Gaussian noise.

A *row* is one sequence of a forward pass; a *unit* is whose presence is hidden. All rows of a unit are summed
before its norm is taken, so a patient's records, or the two answers of a pair, are clipped as one.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dpaudit.errors import GuardError, UsageError

Gradients = dict[str, Tensor]  # parameter name -> float32
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


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name, in the model's order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class PerExampleGradients:
    """Collects the gradient of every row of a forward and backward pass, for all trainable weights.

    Within `with collector.collecting(rows):` run one forward pass over `rows` sequences and one backward pass
    of the SUM of their losses; `collector.rows` then holds {name: (rows, *shape)} in float32, also where the
    model computes in bfloat16. Raises UsageError on a trainable parameter that is no weight of an `nn.Linear`
    (LoRA's A and B are), since its rows could not be told apart.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = trainable(model)
        self.rows: Gradients = {}
        names = {id(p): name for name, p in self.parameters.items()}
        self._layers = [(names[id(layer.weight)], layer) for layer in _trainable_linears(model)]

    @contextmanager
    def collecting(self, rows: int) -> Iterator[None]:
        self.rows = {}
        handles = [layer.register_forward_hook(self._hook(name, rows)) for name, layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str, rows: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep_input(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:
                return
            activation = inputs[0].detach()  # (rows, tokens, in)
            if activation.dim() != 3 or len(activation) != rows:
                raise GuardError(
                    f"per-example gradients: {name}: expected input of shape ({rows}, tokens, features), "
                    f"seen {tuple(activation.shape)}"
                )
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._collect(name, activation, gradient)
            )

        return keep_input

    def _collect(self, name: str, activation: Tensor, gradient: Tensor) -> None:
        product = torch.einsum("bto,bti->boi", gradient.float(), activation.float())
        self.rows[name] = self.rows[name] + product if name in self.rows else product


def sum_rows(rows: Gradients, unit_of_row: Tensor, units: int) -> Gradients:
    """The gradients (units, *shape) of units, each the sum of its rows; `unit_of_row` (rows,) holds indices."""
    return {
        name: g.new_zeros((units, *g.shape[1:])).index_add_(0, unit_of_row, g) for name, g in rows.items()
    }


def unit_norms(gradients: Gradients) -> Tensor:
    """The L2 norm of each unit's gradient over all parameters together, shape (units,)."""
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients.values()])
    total: Tensor = torch.linalg.vector_norm(norms, dim=0)
    return total


def clipped_sum(gradients: Gradients, clip: float) -> tuple[Gradients, int]:
    """The sum over units of their gradients scaled to norm at most `clip`, and how many were scaled down.

    `gradients` is {name: (units, *shape)}. Source: Abadi et al. 2016 (arXiv 1607.00133), algorithm 1.
    """
    norms = unit_norms(gradients)
    factors = (clip / norms.clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1.0)
    sums = {name: (factors @ g.flatten(1)).view(g.shape[1:]) for name, g in gradients.items()}
    return sums, int((norms > clip).sum())


def gaussian_noise(parameters: dict[str, nn.Parameter], std: float, generator: torch.Generator) -> Gradients:
    """Independent Gaussian noise of standard deviation `std` for every coordinate of every parameter, float32."""
    return {
        name: torch.randn(p.shape, generator=generator, device=p.device, dtype=torch.float32) * std
        for name, p in parameters.items()
    }


def _trainable_linears(model: nn.Module) -> list[nn.Linear]:
    found = []
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if not isinstance(module, nn.Linear) or name != "weight":
                raise UsageError(
                    f"model: {path}.{name}",
                    expected="only weights of linear layers to train (LoRA without bias)",
                    got=f"a trainable {name} of {type(module).__name__}",
                    remedy="freeze it: its per-example gradients cannot be clipped",
                )
            found.append(module)
    if not found:
        raise UsageError("model", expected="a trainable LoRA weight", got="none")
    return found
