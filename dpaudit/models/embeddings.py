"""The embedding and the head of a base, as adapters of a larger or smaller vocabulary need them.

Whoever adds tokens resizes both before training. PEFT then saves them beside the adapter, under several
names, and on loading writes them over the base's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpaudit.errors import UsageError
from dpaudit.models import border, folder

PREFIX = "base_model.model."
# what PEFT adds to a layer's name: copies that no training changes, the best source of new rows first
FROZEN = (".original_module", ".token_adapter.base_layer", ".base_layer", "")
TRAINED = ".modules_to_save"
TOKENS = ".token_adapter.trainable_tokens_delta"  # rows of chosen tokens


@dataclass(frozen=True, eq=False)
class Layer:
    """An embedding or a head: `name` as PEFT writes it, the base's own `module`, whether the adapter trains a
    copy of all of it.
    """

    name: str
    module: Any
    has_copy: bool

    @property
    def frozen(self) -> list[str]:
        """The names of tensors that hold the layer as it was before training."""
        return [f"{self.name}{part}.weight" for part in FROZEN if part or not self.has_copy]

    @property
    def copies(self) -> list[str]:
        """The names of all tensors of the layer's shape that may lie beside an adapter."""
        return [*self.frozen, f"{self.name}.weight", f"{self.name}{TRAINED}.weight"]


def layers(model: Any, config: Any = None) -> list[Layer]:
    """Embedding and head of a model, with or without adapters; `config` is the adapter's."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = []
    for layer in (base.get_input_embeddings(), base.get_output_embeddings()):
        if layer is not None:
            name = next(name for name, module in base.named_modules() if module is layer)
            inner = getattr(layer, "original_module", None) or getattr(layer, "base_layer", layer)
            trained = getattr(config, "modules_to_save", None) or ()
            has_copy = any(name == part or name.endswith(f".{part}") for part in trained)
            found.append(Layer(f"{PREFIX}{name}", inner, has_copy))
    return found


def rows(model: Any, config: Any, file: Path, tokens: tuple[int, int], where: str) -> int:
    """How many rows the embedding had when an adapter was trained: those of one that lies beside it, else as
    many as its tokens need and at least the base's.

    `tokens` are the highest id of its tokenizer, and the number of tokens that the base's tokenizer lacks.
    Raises UsageError for an id that adding so many tokens does not give.
    """
    there = folder.headers(file, where)
    shapes = [there[n].shape for layer in layers(model, config) for n in layer.copies if n in there]
    saved = next((shape[0] for shape in shapes if len(shape) == 2 and shape[0] > 0), None)
    if saved is not None:
        return saved
    own, (highest, added) = int(model.get_input_embeddings().weight.shape[0]), tokens
    if highest >= own + added:
        raise UsageError(
            where,
            f"token ids below {own + added}, for the base's {own} rows and {added} added tokens",
            f"token id {highest}",
            "give the adapter the tokenizer that it was trained with",
        )
    return max(own, highest + 1)


@torch.no_grad()
def resize(model: Any, config: Any, file: Path, count: int, where: str) -> None:
    """Gives embedding and head of a base `count` rows, so that it reads the tokens of an adapter.

    New rows are those that lie beside the adapter; where none do, those of `grown`.
    """
    old = int(model.get_input_embeddings().weight.shape[0])
    grown(model, count, where)
    if model.get_input_embeddings().weight.is_meta:
        return
    for layer in reversed(layers(model, config)):  # where both are one, the embedding's rows stay
        for place, row in _saved_rows(layer, config, file, old):
            layer.module.weight[place] = row.to(layer.module.weight)


@torch.no_grad()
def resize_like(model: Any, weights: Sequence[Tensor], where: str) -> None:
    """Gives embedding and head of a base the rows that it lacks beside those of a merged model, `weights`."""
    old = int(model.get_input_embeddings().weight.shape[0])
    grown(model, len(weights[0]), where)
    for layer, weight in reversed(list(zip(layers(model), weights, strict=True))):  # as in `resize`
        layer.module.weight[old:] = weight[old:].to(layer.module.weight)


@torch.no_grad()
def grown(model: Any, count: int, where: str) -> None:
    """Gives embedding and head of a model `count` rows. Old rows stay as they are; a new one is the mean of
    the old ones, so that it is the same each time.
    """
    old = int(model.get_input_embeddings().weight.shape[0])
    if count == old:
        return
    means = [layer.module.weight.float().mean(0) for layer in layers(model)]
    with (
        border.told(where, expected="a base whose embedding can be resized", remedy="merge the adapter"),
        torch.random.fork_rng(),
    ):
        model.resize_token_embeddings(count, mean_resizing=False)
    if count < old or model.get_input_embeddings().weight.is_meta:
        return
    for layer, mean in zip(layers(model), means, strict=True):
        layer.module.weight[old:] = mean.to(layer.module.weight)
        if getattr(layer.module, "bias", None) is not None:
            layer.module.bias[old:] = layer.module.bias[:old].mean()


def _saved_rows(layer: Layer, config: Any, file: Path, old: int) -> Iterator[tuple[int, Tensor]]:
    """The rows from `old` on of a layer that lies beside an adapter, by their place."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        there = set(opened.keys())
        if whole := next((name for name in layer.copies if name in there), None):
            yield from enumerate(opened.get_slice(whole)[old:], old)  # none where the base was cut
        elif layer.name + TOKENS in there:
            chosen = opened.get_tensor(layer.name + TOKENS)
            for place, row in zip(_indices(layer, config), chosen, strict=False):
                if old <= place < len(layer.module.weight):
                    yield place, row


def _indices(layer: Layer, config: Any) -> list[int]:
    """The ids of the tokens whose rows an adapter trains in a layer."""
    given = getattr(config, "trainable_token_indices", None) or []
    if isinstance(given, dict):
        given = next((ids for part, ids in given.items() if layer.name.endswith(part)), [])
    return [int(number) for number in given]


def beside(model: Any, config: Any, own: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what may lie beside the tensors `own` of an adapter: copies of embedding and head."""
    found = layers(model, config)
    shapes = {name: tuple(layer.module.weight.shape) for layer in found for name in layer.copies}
    tokens = [tuple(weight.shape) for name, weight in own.items() if name.endswith(TOKENS)]
    tied = {layer.name + TOKENS: shape for layer in found for shape in tokens[:1]}
    return {name: shape for name, shape in (shapes | tied).items() if name not in own}


@torch.no_grad()
def kept(model: Any, config: Any, file: Path, where: str) -> list[tuple[Any, Tensor]]:
    """Layers with weights that loading an adapter will round, and the weights, to be put back afterwards.

    Raises UsageError for an embedding or head beside the adapter that is not the base's, rounded or not: PEFT
    would write it over that.
    """
    from safetensors import safe_open

    rounded = []
    with safe_open(file, "pt") as opened:
        there = set(opened.keys())
        for layer in layers(model, config):
            for name in (name for name in layer.frozen if name in there):
                weight, theirs = layer.module.weight.detach(), opened.get_tensor(name)
                if not _is_same(weight, theirs):
                    raise UsageError(
                        where,
                        "an adapter that leaves the base's embedding as it is",
                        f"{name:.100} with other numbers",
                        "merge it and give the whole model beside its base",
                    )
                if not torch.equal(theirs.to(weight), weight):
                    rounded.append((layer.module, weight.clone()))
    return rounded


def _is_same(weight: Tensor, theirs: Tensor) -> bool:
    """Whether every row is the same in one of the two number formats."""
    if weight.shape != theirs.shape:
        return False
    theirs = theirs.to(weight.device)
    same = (theirs.to(weight.dtype) == weight).all(-1) | (weight.to(theirs.dtype) == theirs).all(-1)
    return bool(same.all())
