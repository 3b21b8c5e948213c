"""What an observer inside one training saw of canaries that lie along axes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dpaudit.models.fused import Gradients


@dataclass(frozen=True, eq=False)
class Observation:
    """One run with canaries. Draws and coins are secrets of the auditor."""

    observed: NDArray[np.float32]  # (steps, axes), released sums over the clip
    included: NDArray[np.bool_]  # (canaries,)
    drawn: NDArray[np.int64]  # (steps,), units of each step
    times: NDArray[np.int64]  # (units,), how often each included unit was drawn
    probes: dict[
        str, Tensor
    ]  # noise of empty steps over its claimed deviation, (probes, coordinates) by weight
    one_unit_norm: float  # of what one unit adds to a sum
    start: Gradients  # weights before the first step
    end: Gradients  # weights after the last one
