"""`random:NAME`: models of known shapes whose weights are random, for measuring memory and time with nothing
at hand.

What such a model says means nothing. Nothing is read from a disk or a hub: every weight is drawn as it is
placed, the same numbers on every machine, whatever the dtype. The shapes are those that the models' makers
have published; the tokenizer is that of the embedded model, whose tokens are the first of the vocabulary.
"""

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpaudit.errors import UsageError
from dpaudit.suite.suite import RANDOM

TOKENIZER = "builtin:tiny"
SPREAD = 0.02  # standard deviation of a drawn weight, as in Llama's own initialisation
RULE = "uniform, SFC64 of CRC-32 of the name, 2**22 at a time"  # a change of it makes other weights
CHUNK = 2**22  # numbers that are drawn at a time, in float32


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama, under the names of its configuration."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool

    @property
    def parameters(self) -> int:
        """Weights of the whole model; heads are as wide as `hidden_size` divided by their number."""
        heads = self.hidden_size + self.hidden_size * self.num_key_value_heads // self.num_attention_heads
        layer = 2 * self.hidden_size * heads + 3 * self.hidden_size * self.intermediate_size
        norms = (2 * self.num_hidden_layers + 1) * self.hidden_size
        embeddings = (1 if self.tie_word_embeddings else 2) * self.vocab_size * self.hidden_size
        return self.num_hidden_layers * layer + norms + embeddings


SHAPES = {
    "llama-3.1-8b": Shape(4096, 14336, 32, 32, 8, 128256, 131072, False),
    "llama-3.2-1b": Shape(2048, 8192, 16, 32, 8, 128256, 131072, True),
    "toy": Shape(32, 64, 2, 4, 2, 4096, 512, True),
}


def is_random(base: str) -> bool:
    return base.startswith(RANDOM)


def shape(base: str) -> Shape:
    """The shape that a base names. Raises UsageError for an unknown one."""
    known = SHAPES.get(base.removeprefix(RANDOM))
    if known is None:
        names = ", ".join(f"{RANDOM}{name}" for name in SHAPES)
        raise UsageError(f"--model {base}", f"one of {names}", "an unknown shape", "check the name")
    return known


def configuration(base: str) -> Any:
    """The configuration of a Llama of that shape. Raises as `shape`."""
    import transformers

    return transformers.LlamaConfig(
        **asdict(shape(base)), rope_theta=500000.0, rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=0
    )


def identity(base: str) -> dict[str, str]:
    """What takes the place of the hashes of a model's files: they tell one such model from any other."""
    text = json.dumps([asdict(shape(base)), RULE, SPREAD], sort_keys=True)
    return {"random weights": hashlib.sha256(text.encode()).hexdigest()[:32]}


@dataclass(frozen=True)
class Drawn:
    """A weight that is drawn when Transformers asks for its numbers, `drawn[...]`, as it asks a file's."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __getitem__(self, whole: Any) -> Tensor:
        if len(self.shape) == 1:  # the norms of a Llama, which begin as 1
            return torch.ones(self.shape, dtype=self.dtype)
        found = torch.empty(self.shape, dtype=self.dtype)
        random = np.random.Generator(np.random.SFC64(zlib.crc32(self.name.encode())))
        for part in torch.split(found.view(-1), CHUNK):
            drawn = torch.from_numpy(random.random(len(part), dtype=np.float32))
            part.copy_((drawn - 0.5) * (SPREAD * 12**0.5))
        return found


def weights(empty: Any, dtype: torch.dtype) -> dict[str, Any]:
    """A Drawn for each weight of an empty model, by its name, to be handed to `from_pretrained` as a state
    dict.
    """
    tied = set(empty.all_tied_weights_keys) if empty.config.tie_word_embeddings else set()
    return {
        name: Drawn(name, tuple(weight.shape), dtype)
        for name, weight in empty.state_dict().items()
        if name not in tied
    }
