"""What is measured of the noise of every step: how large it is on each weight, and whether it came before."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PLACES_MOST = 256  # coordinates in which the noise of steps is compared
KEPT = 32  # steps from the start, and as many before the present one, that a step is compared with


class NoiseMeter:
    """Keeps sums alone: true noise beside what was released would give a private sum away."""

    def __init__(self, weights: Sequence[nn.Parameter], generator: np.random.Generator) -> None:
        sizes = np.array([weight.numel() for weight in weights])
        self.squares = np.zeros(len(sizes))
        self.values = np.zeros(len(sizes), dtype=np.int64)
        chosen = generator.choice(sizes.sum(), min(PLACES_MOST, int(sizes.sum())), replace=False)
        ends = np.cumsum(sizes)
        weight = np.searchsorted(ends, chosen, side="right")
        place = chosen - (ends - sizes)[weight]
        self._places = [np.unravel_index(place[weight == w], tuple(p.shape)) for w, p in enumerate(weights)]
        self._first: list[NDArray[np.float64]] = []
        self._last: deque[NDArray[np.float64]] = deque(maxlen=KEPT)

    def add(self, noise: Sequence[Tensor | None]) -> tuple[float, int]:
        """Counts the noise of a step over the clip, a tensor a weight (None where it was not seen). Returns
        its largest standardised correlation with earlier steps, about N(0, 1), and the number of these.
        """
        seen = []
        for number, (part, places) in enumerate(zip(noise, self._places, strict=True)):
            if part is not None:
                self.squares[number] += float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2
                self.values[number] += part.numel()
                if len(places[0]):
                    where = tuple(torch.as_tensor(p, device=part.device) for p in places)
                    seen.append(part[where].double().cpu().numpy())
        if len(seen) < sum(1 for places in self._places if len(places[0])):
            return 0.0, 0
        return self._compared(np.concatenate(seen))

    def _compared(self, values: NDArray[np.float64]) -> tuple[float, int]:
        length = float(np.linalg.norm(values))
        if length == 0:
            return 0.0, 0
        one = values / length
        earlier = [*self._first, *self._last]
        (self._first if len(self._first) < KEPT else self._last).append(one)
        if not earlier:
            return 0.0, 0
        worst = float(np.abs(np.array(earlier) @ one).max()) * math.sqrt(one.size)
        return worst, len(earlier)
