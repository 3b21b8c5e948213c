"""Who answers a file of prompts: a model of Transformers with its adapters, or a vLLM engine."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from dpaudit.data.corpus import Turn
from dpaudit.models.decoding import Decoding
from dpaudit.models.encode import prompt_ids
from dpaudit.models.generation import Written

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel

Batch = tuple[list[int], list[Written]]  # places of prompts, and their answers


class Writer(Protocol):
    """Answers prompts (turns that end with the user) by any of its adapters, or by the base for None."""

    def sizes(self, prompts: Sequence[tuple[Turn, ...]]) -> list[int]:
        """The number of tokens of each prompt as the model reads it."""

    @property
    def window(self) -> int | None:
        """How many tokens prompt and answer may have together; None where the model names no number."""

    def write(
        self,
        adapter: str | None,
        prompts: Sequence[tuple[Turn, ...]],
        decoding: Decoding,
        seed: int,
        known: Collection[int],
    ) -> Iterator[Batch]:
        """Batches as they are done, at least of all places that are not `known`. What is drawn depends on
        seed, prompts and place alone.
        """


class HFWriter:
    """The model that the other commands ask, one base in memory."""

    def __init__(self, model: "HFModel") -> None:
        self._model = model

    def sizes(self, prompts: Sequence[tuple[Turn, ...]]) -> list[int]:
        return [len(prompt_ids(turns, self._model.tokenizer)) for turns in prompts]

    @property
    def window(self) -> int | None:
        return getattr(self._model.model.config, "max_position_embeddings", None)

    def write(
        self,
        adapter: str | None,
        prompts: Sequence[tuple[Turn, ...]],
        decoding: Decoding,
        seed: int,
        known: Collection[int],
    ) -> Iterator[Batch]:
        with self._model.active(adapter):
            yield from self._model.write_in_batches(prompts, decoding, seed, known)
