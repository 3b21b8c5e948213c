"""A small random Llama with LoRA, and random units, for the tests of training."""

from typing import Any

import numpy as np
import peft
import torch
import transformers

from dpaudit.models.encode import Encoded
from dpaudit.training.examples import Example

VOCABULARY = 61


def lora_model(*, tied: bool = True, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A two-layer Llama and a rank-3 adapter none of whose weights is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            tie_word_embeddings=tied,
            initializer_range=0.2,
        )
        base = transformers.LlamaForCausalLM(config).to(dtype)
        settings = {"r": 3, "target_modules": "all-linear", "init_lora_weights": False, **options}
        return peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **settings))


def sequence(random: np.random.Generator, answer: int | None = None) -> Encoded:
    """A sequence of 6 to 17 tokens with its answer at the end, of 2 to 5 tokens unless told."""
    length = int(random.integers(6, 18))
    kept = int(random.integers(2, 6)) if answer is None else answer
    ids = tuple(int(token) for token in random.integers(0, VOCABULARY, length))
    return Encoded(ids, (False,) * (length - kept) + (True,) * kept, (False,) * length, False, kept)


def record_units(count: int) -> list[list[Example]]:
    random = np.random.default_rng(1)
    return [[Example((sequence(random),))] for _ in range(count)]


def patient_units(sizes: list[int]) -> list[list[Example]]:
    random = np.random.default_rng(2)
    return [[Example((sequence(random),)) for _ in range(size)] for size in sizes]


def pair_units(sizes: list[int]) -> list[list[Example]]:
    random = np.random.default_rng(3)
    return [
        [Example((sequence(random), sequence(random)), (-9.0, -10.5)) for _ in range(size)] for size in sizes
    ]
