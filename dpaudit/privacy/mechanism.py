"""The mechanism that a training ran: enough for any accountant, without importing one."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Mechanism:
    """Poisson-sampled Gaussian noise on a clipped sum, repeated: enough for any accountant.

    Each of `steps` steps samples every unit with probability `sampling_rate`, clips its contribution to norm
    `clip` and adds noise of standard deviation noise_multiplier * clip. `stages` are what the same units
    went through before (fine-tuning before preference training); they are spent together with it. An
    infinite `clip` is no clipping, so nothing is private. Raises ValueError for anything out of range.
    """

    noise_multiplier: float
    sampling_rate: float  # (0, 1]
    steps: int
    clip: float
    stages: tuple["Mechanism", ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"expected a finite noise_multiplier >= 0, got {self.noise_multiplier}")
        check_sampling(self.sampling_rate, self.steps)
        if not self.clip > 0:
            raise ValueError(f"expected clip > 0, got {self.clip}")

    @property
    def each(self) -> tuple["Mechanism", ...]:
        """The stages and this one in the order that they were spent in, each without those before it."""
        return (*(earlier for stage in self.stages for earlier in stage.each), replace(self, stages=()))


def check_sampling(sampling_rate: float, steps: int) -> None:
    if not 0 < sampling_rate <= 1:
        raise ValueError(f"expected sampling_rate in (0, 1], got {sampling_rate}")
    if steps < 0 or not float(steps).is_integer():
        raise ValueError(f"expected a whole number of steps >= 0, got {steps}")
