"""What is checked while an arm trains. A breach raises GuardError with what was expected and what was seen.

A statistical guard fires on a correct run with probability at most FALSE_ALARM; there are at most six in a
run.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from dpaudit.errors import GuardError
from dpaudit.models.layout import Layout
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training.state import Step

FALSE_ALARM = 1e-6  # of one guard in one run
PROBE_SAMPLES = 1600  # noise values of a weight: with fewer, a deficit of a tenth would not show
PROBES_MOST = 64
EVEN_UNITS = 1000  # with fewer, the sum of squares is too far from normal
TAIL_STEPS = 20  # with fewer, counts above their mean have too long a tail to tell a spread too wide

ALWAYS = ("loss finite", "sampling rate as claimed", "weights moved", "steps as in the ledger")
PRIVATE = (
    "noise on every trainable weight",
    "noise scale as claimed",
    "noise independent from step to step",
    "clipped sums within their bound",
)


def check_finite(loss: float, largest: float, gradients: Tensor, layout: Layout, step: int) -> None:
    """`largest` is the largest coordinate of `gradients`, (coordinates,), which is read for the message
    alone.
    """
    if not math.isfinite(loss):
        raise GuardError(f"loss of step {step}: expected a finite number, seen {loss}")
    if not math.isfinite(largest):
        name = next(n for n, part in layout.views(gradients).items() if not part.isfinite().all())
        raise GuardError(f"gradient of {name} in step {step}: expected finite numbers, seen NaN or infinity")


def lengths(noise: Tensor, layout: Layout) -> Tensor:
    """The norm of every weight's noise, (weights,). Raises GuardError for noise of another shape."""
    if noise.shape != (layout.coordinates,):
        raise GuardError(
            f"noise: expected {layout.coordinates} values, one for each coordinate of the trainable weights, "
            f"seen shape {tuple(noise.shape)}"
        )
    return torch.stack(torch._foreach_norm(torch.split(noise, layout.sizes)))


def check_noised(lengths: Sequence[float], names: Iterable[str], noise_multiplier: float) -> None:
    """Raises GuardError where the noise of a trainable weight is all zero."""
    for name, length in zip(names, lengths, strict=True):
        if noise_multiplier > 0 and length == 0:
            raise GuardError(f"noise on {name}: expected {noise_multiplier:g} times the clip, seen 0")


def check_clipped(norm: float, units: int, clip: float) -> None:
    """Raises GuardError where a sum of clipped units, of this norm, is longer than that many clips: then some
    unit was not clipped.
    """
    if norm > units * clip * (1 + 1e-3):  # a NaN is for check_finite
        raise GuardError(
            f"clipped sum of {units} units: expected norm at most {units * clip:g}, seen {norm:g}"
        )


def probe_count(layout: Layout) -> int:
    """How many empty steps show the noise of the smallest weight well enough; at least two, to compare."""
    smallest = min(layout.sizes)
    return min(max(2, math.ceil(PROBE_SAMPLES / smallest)), PROBES_MOST)


def check_noise(probes: dict[str, Tensor], std: float) -> None:
    """Raises GuardError where steps of an empty batch do not hold fresh noise of deviation `std`.

    `probes` as `probed` gives them. Every weight is tested for scale (chi-square) and for correlation with
    the step before (normal), and all weights together, Bonferroni over all of them.
    """
    # weight by weight, since reused noise may fail the test of scale by chance
    for name, draws in probes.items():
        check_scale({name: draws}, std, len(probes))
        check_fresh({name: draws}, len(probes))


def probed(empty_step: Callable[[], Tensor], layout: Layout, count: int, std: float) -> dict[str, Tensor]:
    """The noise of `count` empty steps over `std`, by weight and of all together, each (probes, coordinates).

    `empty_step` gives what reaches the optimizer, times the divisor: (coordinates,).
    """
    steps = torch.stack([empty_step() for _ in range(count)]).double() / std
    values = dict(zip(layout.shapes, torch.split(steps, layout.sizes, dim=1), strict=True))
    return {**values, "all trainable weights": steps}


def check_scale(probes: dict[str, Tensor], std: float, of: int | None = None) -> None:
    """`probes` as `probed` gives them; `of` is the number of weights that are tested in all, by default those
    of `probes`.
    """
    for name, draws in probes.items():
        _check_scale(name, draws, std, FALSE_ALARM / (of or len(probes)))


def check_fresh(probes: dict[str, Tensor], of: int | None = None) -> None:
    for name, draws in probes.items():
        _check_fresh(name, draws, FALSE_ALARM / (of or len(probes)))


def _check_scale(name: str, draws: Tensor, std: float, level: float) -> None:
    total, samples = float(draws.square().sum()), draws.numel()
    if _two_sided(stats.chi2(samples), total) < level:
        seen = math.sqrt(total / samples) * std
        raise GuardError(f"noise on {name}: expected standard deviation {std:.4g}, seen {seen:.4g}")


def _check_fresh(name: str, draws: Tensor, level: float) -> None:
    """Every pair of probes: reused noise may come back after several steps."""
    # A probe's component along an independent probe is N(0, 1), whatever the direction, and however
    # short.
    along = draws @ (draws / torch.linalg.vector_norm(draws, dim=1, keepdim=True)).T  # (probes, probes)
    worst = float(along.triu(1).abs().max())
    pairs = len(draws) * (len(draws) - 1) / 2
    if 2 * stats.norm.sf(worst) < level / pairs:
        raise GuardError(
            f"noise on {name}: expected independent steps, seen a correlation of "
            f"{worst / math.sqrt(draws.shape[1]):.2f}"
        )


def check_sampling(steps: Sequence[Step], units: int, rate: float) -> None:
    """Raises GuardError where the units drawn are not those of Poisson sampling at `rate`.

    Their number over all steps is binomial (exact test); its spread from step to step is tested where a step
    draws at least 5 units on average: a shuffled or fixed-size batch varies too little.
    """
    drawn = [step.units for step in steps]
    if not drawn or not units:
        return
    everything = stats.binom(len(drawn) * units, rate)
    if _two_sided(everything, sum(drawn)) < FALSE_ALARM:
        seen = sum(drawn) / len(drawn) / units
        raise GuardError(f"sampling rate: expected {rate:.4g}, seen {seen:.4g} over {len(drawn)} steps")
    variance = units * rate * (1 - rate)
    if variance >= 5 and _spread_is_odd([abs(n - units * rate) for n in drawn], variance):
        seen = sum((n - units * rate) ** 2 for n in drawn) / len(drawn)
        raise GuardError(
            f"units per step: expected Poisson sampling, a variance of {variance:.3g}, seen {seen:.3g}"
        )


def check_even(times: Sequence[int], steps: int, rate: float) -> None:
    """Raises GuardError where units were not drawn equally often, up to chance: `times` says how often each
    was.

    Their spread around the expected number is normal, by as many units as there are; with fewer than 1,000 of
    them nothing is checked. Shuffled units are drawn too evenly, weighted ones too unevenly.
    """
    expected, variance = steps * rate, steps * rate * (1 - rate)
    if len(times) < EVEN_UNITS or variance == 0:
        return
    spread = sum((n - expected) ** 2 for n in times) / len(times)
    kurtosis = 3 + (1 - 6 * rate * (1 - rate)) / variance  # of a binomial count
    off = (spread / variance - 1) * math.sqrt(len(times) / (kurtosis - 1))
    if 2 * stats.norm.sf(abs(off)) < FALSE_ALARM / 20:  # a sum of squares has a longer tail than a normal
        raise GuardError(
            f"draws of a unit: expected a variance of {variance:.3g} over {steps} steps, seen {spread:.3g}"
        )


def _spread_is_odd(distances: Sequence[float], variance: float) -> bool:
    """Whether counts lie nearer to their mean, or farther from it, than those of Poisson sampling would.

    A count stands for all within a half of it, since a few counts often are the mean itself. By convolution
    of the exact counts, a correct run fires with a probability of at most FALSE_ALARM for any variance from 5
    on.
    """
    normal = stats.chi2(len(distances))
    nearest = sum((distance + 0.5) ** 2 for distance in distances) / variance
    farthest = sum(max(distance - 0.5, 0.0) ** 2 for distance in distances) / variance
    too_wide = len(distances) >= TAIL_STEPS and normal.sf(farthest) < FALSE_ALARM / 20
    return bool(too_wide or normal.cdf(nearest) < FALSE_ALARM / 20)


def check_counted(steps: int, mechanism: Mechanism) -> None:
    if steps != mechanism.steps:
        raise GuardError(f"steps: expected {mechanism.steps} as the ledger says, seen {steps}")


def check_moved(parameters: dict[str, nn.Parameter], start: dict[str, Tensor], private: bool) -> None:
    """Raises GuardError where a weight did not move; without noise only if no weight moved at all."""
    still = [
        name for name, p in parameters.items() if torch.equal(p.detach().to(start[name].device), start[name])
    ]
    if still and (private or len(still) == len(parameters)):
        raise GuardError(
            f"weights at the end: expected all moved, seen {len(still)} of {len(parameters)} "
            f"unchanged, {still[0]} first"
        )


def _two_sided(distribution: Any, value: float) -> float:
    """Twice the smaller tail probability, the value itself included in both."""
    return 2 * min(float(distribution.cdf(value)), float(distribution.sf(value - 1e-9)))
