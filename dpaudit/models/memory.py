"""How much memory training an arm will take, estimated from the model's configuration, and how much there
is; no weights are opened.
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

from dpaudit.errors import PartialError
from dpaudit.suite.suite import Model, Training

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}
NF4_BYTES = 0.5 + 1 / 64 * 1.03  # 4 bits, and a doubly quantized scale for 64 weights
SAVED_HIDDEN, SAVED_INNER = 8, 4  # vectors that a layer keeps for each token; see `estimate`
LOGIT_COPIES = 3  # logits, their log-softmax and its gradient, float32
CHECKPOINTING = "--set training.gradient_checkpointing=true "
SURE = 0.75  # of an estimate: what is really taken is seldom less


@dataclass(frozen=True)
class Memory:
    """Bytes, by what they hold. `activations` are those of one micro-batch of the longest sequences."""

    weights: int
    adapter: int  # LoRA weights, gradients, optimizer state, noisy sum
    unit_gradients: int  # of one micro-batch, each row its own unit
    activations: int
    trainable_parameters: int

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.unit_gradients + self.activations

    def rows_within(self, room: int, rows: int) -> int:
        """How many sequences at a time surely fit into so many bytes, where this is the memory of `rows`."""
        fixed = self.weights + self.adapter
        return max(0, (room - fixed) * rows // (self.unit_gradients + self.activations))


@dataclass(frozen=True)
class Place:
    """Where arms train: the first accelerator if there is one, else the processor."""

    name: str
    free: int  # bytes that nobody holds now


def place() -> Place:
    """This process's own: under `torchrun` each has another accelerator."""
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.current_device()
        return Place(torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0])
    import psutil

    return Place("processor", psutil.virtual_memory().available)


def require_room(model: Model, training: Training, private: bool, beside: int) -> None:
    """Raises PartialError, with a setting that is no part of the plan, where arms would surely run out of
    memory: where three quarters of the estimate are more than there is.

    `beside` arms train at once on the same device, each with a copy of the base. `training.micro_batch` is
    the one in force. A model so small that one core is enough is not looked at.
    """
    from dpaudit.models import hf

    if hf.is_small(model.base):
        return
    here, needed = place(), estimate(model, training, private)
    each = here.free // beside
    if needed.total * SURE <= each:
        return
    arms = "an arm" if beside == 1 else f"each of {beside} arms at once"
    raise PartialError(
        f"memory: expected about {needed.total / GIB:,.1f} GiB free on the {here.name} for {arms} with "
        f"{rows_of_a_pass(training, private)} sequences in one pass, got {each / GIB:,.1f} GiB; "
        f"{_smaller(model, training, private, beside, here.free)}"
    )


def _smaller(model: Model, training: Training, private: bool, beside: int, free: int) -> str:
    """What to type where memory is too small: the first that fits, of settings that change no result."""
    ways = [(training, beside, "")]
    if beside > 1:
        ways.append((training, 1, "--workers 1 "))
    if not training.gradient_checkpointing:
        saving = replace(training, gradient_checkpointing=True)
        ways.append((saving, 1, "--workers 1 " * (beside > 1) + CHECKPOINTING))
    for settings, at_once, typed in ways:
        most = rows_of_a_pass(settings, private)
        fits = estimate(model, settings, private).rows_within(free // at_once, most)
        if fits >= 1:
            rows = min(1 << fits.bit_length() - 1, most)
            return f"type the command again with {typed}--micro-batch {rows}: the results are the same"
    return (
        "no setting that leaves the results as they are is enough: free some memory, or take a smaller model "
        "or --set model.quantization=nf4"
    )


def rows_of_a_pass(training: Training, private: bool) -> int:
    """The most sequences that a forward pass holds: those of one step, if `micro_batch` allows them. A step
    of Poisson sampling seldom has more units than its expectation and three standard deviations; a patient
    has as many records as there are.
    """
    kinds = ("", "dpo_", "cpt_")
    names = [f"{kind}{'private' if private else 'nonprivate'}" for kind in kinds]
    schedules = [(name, getattr(training, name)) for name in names]
    units: dict[str, int] = {name: schedule.batch for name, schedule in schedules if schedule is not None}
    if training.unit == "patient":
        return training.micro_batch
    most = max(
        (batch + 3 * math.isqrt(batch) * private) * (2 if name.startswith("dpo") else 1)
        for name, batch in units.items()
    )
    return min(training.micro_batch, most)


def estimate(model: Model, training: Training, private: bool) -> Memory:
    """The memory of an arm's training. An estimate: within about a third of what is measured on Llama models.

    A layer of a Llama keeps, for every token, about 8 vectors of the hidden width (norms and their inputs,
    queries, keys, values, attention's output, residuals) and 4 of the inner width; under gradient
    checkpointing one hidden vector a layer, and one layer whole. Unit gradients are float32, one of all
    trainable weights for each row (`layout.UnitGradients`). Raises UsageError where the configuration is
    out of reach or LoRA's targets match no layer.
    """
    from dpaudit.models import adapter_files, fused

    config = configuration(model)
    adapted = adapter_files.new_adapter(_without_weights(config), training.lora, 0)
    trainable = sum(p.numel() for p in fused.trainable(adapted).values())
    frozen = sum(p.numel() for p in adapted.parameters()) - trainable
    width = BYTES[model.dtype]
    embedding = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    quantized = frozen - embedding if model.quantization else 0
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    layer = (SAVED_HIDDEN * config.hidden_size + SAVED_INNER * inner) * width
    layers = config.num_hidden_layers
    token = layers * config.hidden_size * width + layer if training.gradient_checkpointing else layers * layer
    rows = rows_of_a_pass(training, private)
    tokens = rows * model.max_length
    return Memory(
        weights=int((frozen - quantized) * width + quantized * NF4_BYTES),
        adapter=trainable * 4 * 5,
        unit_gradients=trainable * 4 * rows if private else 0,
        activations=tokens * (token + config.vocab_size * 4 * LOGIT_COPIES),
        trainable_parameters=trainable,
    )


def configuration(model: Model) -> Any:
    """The configuration of the base; where it is not on this machine, the suite's `model.shape`."""
    import transformers

    from dpaudit.models import hf

    if is_absent(model):
        sizes = dict(model.shape)
        tied = bool(sizes.pop("tie_word_embeddings", 0))
        return transformers.LlamaConfig(**sizes, tie_word_embeddings=tied)
    return hf.configuration(model.base)


def is_absent(model: Model) -> bool:
    """Whether the suite's `model.shape` stands for a hub's model that was not fetched, nor its tokenizer."""
    from dpaudit.models import hub

    return bool(model.shape) and hub.is_id(model.base) and hub.fetched(model.base) is None


def _without_weights(config: Any) -> Any:
    import torch
    import transformers

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoModelForCausalLM.from_config(config)
