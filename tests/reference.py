"""What a model says of one sequence, asked as plainly as possible: tests compare with it."""

from collections.abc import Sequence
from typing import Any

import torch


def logits_of(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """The logits of one sequence on the CPU, (tokens, vocabulary), wherever the model is."""
    return model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0].cpu()
