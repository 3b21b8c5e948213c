"""A language model over Hugging Face weights: token scores, gradients, generation; adapters on one base."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpaudit.data.corpus import Turn
from dpaudit.models import descent, generation, hf, low_rank, scoring
from dpaudit.models.batching import batch_tokens, batches, hidden_tokens, padded
from dpaudit.models.decoding import Decoding
from dpaudit.models.encode import Encoded
from dpaudit.models.language_model import Advance, TokenScores
from dpaudit.models.tokenizers import check_tokens, load_tokenizer, tokenizer_of
from dpaudit.signals.extraction import TokenTrie
from dpaudit.suite.suite import Model


class HFModel:
    """A `LanguageModel` over a Hugging Face model: one base in memory, its adapters switched and never
    reloaded.

    Starts with the first adapter that `model` already has switched on, if it is a PEFT model.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self._slots: dict[str, str] = {}  # adapter -> PEFT's name of it, which may hold no dot
        self._known_split: tuple[scoring.Split | None] | None = None

    @classmethod
    def load(
        cls,
        base: str,
        dtype: str = "float32",
        quantization: str | None = None,
        attention: str | None = None,
    ) -> "HFModel":
        """A model with its tokenizer, on the accelerator if there is one, to be asked and not to be trained.
        Raises UsageError as `hf.load_model` does.

        Where the processor is slow in `dtype`, the weights are read up (`hf.for_asking`). A small model is
        given one thread: more would hardly help it, and on a busy machine they wait for each other.
        """
        if hf.is_small(base):
            torch.set_num_threads(1)
        loaded, tokenizer = hf.load_model(base, dtype, quantization, attention), load_tokenizer(base)
        model = hf.on_device(hf.for_asking(loaded, dtype))
        check_tokens(tokenizer, int(model.get_input_embeddings().weight.shape[0]), f"--model {base}")
        return cls(model, tokenizer)

    @classmethod
    def as_trained(cls, settings: Model) -> "HFModel":
        """The base of a suite with the weights that its arms are trained on: rounded to the same dtype, in
        the same quantization and attention.
        """
        model = cls.load(settings.base, settings.dtype, settings.quantization, settings.attention)
        if settings.start is not None:
            model.tokenizer = tokenizer_of(settings)
        return model

    def add_adapter(
        self, name: str, adapter: Path, where: str | None = None, remedy: str = hf.TRAIN_AGAIN
    ) -> None:
        """Loads the adapter in a folder under `name`; `active(name)` switches it on. Raises as `with_adapter`
        does.
        """
        slot = f"arm{len(self._slots)}"
        self.model = hf.with_adapter(self.model, adapter, slot, where, remedy)
        self._slots[name] = slot
        self._known_split = None

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters that were added."""
        return list(self._slots)

    @contextmanager
    def active(self, adapter: str | None, factor: float = 1.0) -> Iterator[None]:
        """Inside the block the model is the base with `adapter`, scaled by `factor`, or the base alone for
        None.
        """
        if adapter is None:
            if not hasattr(self.model, "disable_adapter"):
                yield
                return
            with self.model.disable_adapter():
                yield
            return
        if adapter not in self._slots:
            raise KeyError(f"no adapter {adapter!r} was added; there are {', '.join(self._slots) or 'none'}")
        self.model.set_adapter(self._slots[adapter])
        if factor == 1.0:
            yield
            return
        from peft.helpers import rescale_adapter_scale

        with rescale_adapter_scale(self.model, factor):
            yield

    def token_scores(
        self,
        encoded: Sequence[Encoded],
        advance: Advance | None = None,
        counted: Sequence[NDArray[np.bool_]] | None = None,
        prefix: Sequence[int] = (),
    ) -> list[TokenScores]:
        """The model's scores of the counted tokens of every sequence, in the order of `encoded`.

        Keys and values of `prefix`, tokens that stand before every sequence, are computed once. `counted` has
        one mask of shape (tokens,) a sequence, None for all but the first token; what is not counted is NaN
        (False) and costs no head. Statistics are float32 whatever the model's dtype. Raises ValueError for
        masks that do not fit.
        """
        asked = scoring.places(encoded, counted)
        scores = []
        statistics = self._at_places(encoded, asked, scoring.statistics, 4, advance, prefix)
        for item, at, values in zip(encoded, asked, statistics, strict=True):
            table = np.full((4, len(item.input_ids)), np.nan, np.float32)
            table[:, at] = values
            scores.append(TokenScores(table[0], table[1], table[2], table[3] == 1))
        return scores

    def counted_scores(
        self,
        encoded: Sequence[Encoded],
        counted: Sequence[NDArray[np.bool_]],
        advance: Advance | None = None,
        prefix: Sequence[int] = (),
    ) -> list[TokenScores]:
        """As `token_scores`, of the counted tokens alone: fields have shape (counted,)."""
        asked = scoring.places(encoded, counted)
        statistics = self._at_places(encoded, asked, scoring.statistics, 4, advance, prefix)
        return [TokenScores(values[0], values[1], values[2], values[3] == 1) for values in statistics]

    def decoding_logprobs(
        self,
        encoded: Sequence[Encoded],
        counted: Sequence[NDArray[np.bool_]],
        temperature: float,
        top_k: int,
        top_p: float,
    ) -> list[NDArray[np.float64]]:
        """Per sequence log p of each counted token, in nats, when the model is sampled from so; shape
        (counted,).

        Temperature first, then the `top_k` largest (0: all), then the nucleus of `top_p` (1: all) of what is
        left, renormalised: what Transformers' warpers do. -inf where a token is cut off. Raises ValueError
        for masks that do not fit and settings out of range; greedy decoding is `TokenScores.greedy`.
        """
        scoring.check_decoding(temperature, top_k, top_p)
        asked = scoring.places(encoded, counted)

        def logprob(logits: Tensor, tokens: Tensor) -> Tensor:
            return scoring.decoding_logprob(logits, tokens, temperature, top_k, top_p)[:, None]

        return [logprobs[0].astype(np.float64) for logprobs in self._at_places(encoded, asked, logprob, 1)]

    def gradient_norms(
        self,
        encoded: Sequence[Encoded],
        counted: Sequence[NDArray[np.bool_]],
        advance: Advance | None = None,
    ) -> NDArray[np.float64]:
        """The L2 norm of each sequence's gradient with respect to the active adapter's A and B, shape
        (sequences,).

        The gradient is that of the mean negative log-likelihood (nats) of the counted tokens; NaN where none
        is counted. The model is left as it was. Raises ValueError for masks that do not fit and where no LoRA
        adapter is active, and UsageError for an adapter of other layers than plain LoRA (DoRA, LoRA on
        embeddings).
        """
        from dpaudit.models import gradients

        asked = scoring.places(encoded, counted)
        norms = np.full(len(encoded), np.nan)
        with gradients.of_adapter(self.model) as lora:
            for batch in self._batches_at(asked, gradients.rows_that_fit(lora)):
                norms[batch] = gradients.norms(
                    self.model, self._split(), lora, self._batch(encoded, asked, batch)
                )
                if advance:
                    advance(len(batch))
        if advance:
            advance(sum(not len(at) for at in asked))
        return norms

    @torch.inference_mode()
    def _at_places(
        self,
        encoded: Sequence[Encoded],
        asked: Sequence[scoring.Places],
        statistic: scoring.Statistic,
        fields: int,
        advance: Advance | None = None,
        prefix: Sequence[int] = (),
    ) -> list[NDArray[np.float32]]:
        """Per sequence the statistic of its places, shape (fields, places), in their order."""
        order: list[int] = []
        found = [torch.empty((0, fields), device=self.model.device)]  # fetched when all batches are through
        parts, cache = (
            self._split(),
            (
                self.model(input_ids=self._tensor([list(prefix)]), use_cache=True).past_key_values
                if prefix
                else None
            ),
        )
        with low_rank.attached(self.model):
            for batch in self._batches_at(asked, before=len(prefix)):
                rows = self._batch(encoded, asked, batch)
                if cache is not None:
                    rows = replace(rows, cache=descent.selected(cache, self._tensor([0] * len(batch))))
                chunks = scoring.chunks(self.model, parts, rows)
                found += [statistic(logits, tokens) for logits, tokens in chunks]
                order += batch
                if advance:
                    advance(len(batch))
        if advance:
            advance(sum(not len(at) for at in asked))
        whole = np.ascontiguousarray(torch.cat(found).cpu().numpy().T)  # (fields, places of all sequences)
        ends = np.cumsum([0, *(len(asked[index]) for index in order)]).tolist()
        ranges = dict(zip(order, pairwise(ends), strict=True))
        return [whole[:, slice(*ranges.get(index, (0, 0)))] for index in range(len(encoded))]

    def _batches_at(
        self, asked: Sequence[scoring.Places], rows: int | None = None, before: int = 0
    ) -> Iterator[list[int]]:
        """Batches of the sequences that have counted tokens; with `rows` at most, those of a backward pass.

        `before` tokens of a prefix take memory in every row.
        """
        some = [index for index, at in enumerate(asked) if len(at)]
        limit = batch_tokens(self.model) if rows or not self._split() else hidden_tokens(self.model)
        for batch in batches([int(asked[index][-1]) + before for index in some], limit):
            for start in range(0, len(batch), rows or len(batch)):
                yield [some[place] for place in batch[start : start + (rows or len(batch))]]

    def _batch(
        self, encoded: Sequence[Encoded], asked: Sequence[scoring.Places], batch: Sequence[int]
    ) -> scoring.Batch:
        """Sequences up to the token that predicts their last counted token; later tokens cannot matter."""
        whole = [np.array(encoded[index].input_ids) for index in batch]
        places = [asked[index] for index in batch]
        sequences = [ids[: at[-1]] for ids, at in zip(whole, places, strict=True)]
        ids, mask = padded(sequences, self.tokenizer.pad_token_id, self.model.device)
        row = np.repeat(np.arange(len(batch)), [len(at) for at in places])
        place = np.concatenate(places)
        token = np.concatenate([ids[at] for ids, at in zip(whole, places, strict=True)])
        return scoring.Batch(ids, mask, self._tensor(row), self._tensor(place - 1), self._tensor(token))

    def _split(self) -> scoring.Split | None:
        """Backbone and head, determined once; see `scoring.split`."""
        if self._known_split is None:
            self._known_split = (scoring.split(self.model),)
        return self._known_split[0]

    @torch.inference_mode()
    def sequence_logprobs(
        self, prefix_ids: Sequence[int], continuations: TokenTrie | Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """log p(continuation | prefix) in nats for every continuation, shape (continuations,).

        Exact: continuations that begin alike share their forward passes (a trie of token ids, level by level)
        and all share the prefix's key-value cache; the last token of a branch needs no pass at all. Both the
        prefix and every continuation hold at least one token. A trie may be handed in and used many times.
        """
        trie = continuations if isinstance(continuations, TokenTrie) else TokenTrie(continuations)
        with low_rank.attached(self.model):
            return descent.logprobs(self.model, prefix_ids, trie)

    def generate(
        self, prompts: Sequence[tuple[Turn, ...]], max_new_tokens: int, advance: Advance | None = None
    ) -> list[str]:
        """The texts of `write`."""
        return [answer.text for answer in self.write(prompts, max_new_tokens, advance)]

    def write(
        self, prompts: Sequence[tuple[Turn, ...]], max_new_tokens: int, advance: Advance | None = None
    ) -> list[generation.Written]:
        """As `generation.greedy`."""
        return generation.greedy(self.model, self.tokenizer, prompts, max_new_tokens, advance)

    def write_in_batches(
        self,
        prompts: Sequence[tuple[Turn, ...]],
        decoding: Decoding,
        seed: int,
        known: Collection[int] = (),
    ) -> Iterator[tuple[list[int], list[generation.Written]]]:
        """As `generation.in_batches`."""
        return generation.in_batches(self.model, self.tokenizer, prompts, decoding, seed, known)

    def sample(
        self, prompts: Sequence[tuple[Turn, ...]], tokens: int, temperature: float, seed: int
    ) -> list[str]:
        """As `generation.sampled`."""
        return generation.sampled(self.model, self.tokenizer, prompts, tokens, temperature, seed)

    def _tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=self.model.device)
