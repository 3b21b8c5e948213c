"""Hugging Face causal language models: loading, adapters on one base, scoring and greedy generation.

Weights are read from safetensors only and no code of a model repository is ever run.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import adapters, border, descent, folder, hub, low_rank, scoring
from dpaudit.models.encode import Encoded, prompt_ids
from dpaudit.models.language_model import Advance, TokenScores
from dpaudit.models.vocabulary import unwritable
from dpaudit.signals.extraction import TokenTrie
from dpaudit.suite.suite import Model

BATCH_TOKENS = 8192  # tokens in one forward pass, padding included
LOGIT_ELEMENTS = 2**26  # tokens x vocabulary of one forward pass: 256 MB in float32
HIDDEN_ELEMENTS = 2**18  # tokens x width of the hidden states of one forward pass on a processor

# PEFT 0.21 reads a name that Transformers 5 has renamed; nothing that a user could mend.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)

# PEFT imports bitsandbytes wherever it is installed, and that tells of kernels which only 4-bit inference
# would use.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_AGAIN = "train the arm again or name another folder"

SMALL_MODEL = 64 * 2**20  # bytes of weights


def resolve(base: str) -> str:
    """The folder that `base` means: `builtin:NAME` is inside the package, a hub id where it was fetched to,
    or itself.

    Nothing is asked of the hub. Raises UsageError for a folder that lacks config.json or safetensors weights,
    and for a path that is none.
    """
    if base.startswith("builtin:"):
        return str(
            _checked_folder(Path(__file__).parents[1] / "builtin" / base.removeprefix("builtin:"), base)
        )
    place = Path(base).expanduser()
    if place.is_dir() or base.startswith((".", "/", "~")) or base.count("/") > 1:
        return str(_checked_folder(place, base))
    return str(hub.fetched(base) or base)


def is_small(base: str) -> bool:
    """Whether the model is so small that one core is enough for it (its weights are in a folder, and few)."""
    weights = Path(resolve(base)).glob("*.safetensors")
    return 0 < sum(file.stat().st_size for file in weights) <= SMALL_MODEL


def load_tokenizer(base: str) -> Any:
    """The fast tokenizer of a model, with a padding token. Raises UsageError in one line where there is none.

    Where the model names no padding token, its end token or else its first token pads: padding is masked and
    enters neither attention nor a loss, so which token it is changes no figure.
    """
    where = f"--model {base}"
    place = place_of(base, weights=not hub.is_id(base))
    if not any(place.glob("tokenizer*")):
        raise UsageError(where, "a model with a tokenizer", "a folder without tokenizer.json")
    return _read_tokenizer(place, where)


def tokenizer_of(settings: Model) -> Any:
    """The tokenizer that a suite's arms learn with: its base's, or what the adapter that they go on from
    brings of its own.
    """
    found = load_tokenizer(settings.base)
    if settings.start is None:
        return found
    inside = Path(settings.start) / "adapter"
    adapter = inside if inside.is_dir() else Path(settings.start)
    return adapters_tokenizer(adapter, found, settings.base, f"model.start {settings.start}")


def adapters_tokenizer(adapter: Path, tokenizer: Any, base: str, where: str) -> Any:
    """What an adapter was trained with: the tokenizer and chat template in its folder, and what it lacks from
    the base's `tokenizer`.

    Asked in another template than its own an adapter hides what it knows. Raises UsageError for a tokenizer
    that has the base's tokens under other ids, or ids without a row in the base's embedding.
    """
    if not (adapter / "tokenizer.json").is_file():
        tokenizer.chat_template = adapters.chat_template(adapter, where) or tokenizer.chat_template
        return tokenizer
    found = _read_tokenizer(adapter, where)
    own = found.get_vocab()
    if any(own.get(token) != number for token, number in tokenizer.get_vocab().items()):
        raise UsageError(
            where,
            f"a tokenizer with the tokens of its base, {base}",
            "other tokens",
            "name its base, or delete the tokenizer files that are not the adapter's",
        )
    if own != tokenizer.get_vocab():
        check_tokens(found, folder.check(place_of(base), f"--model {base}").rows, where)
    found.chat_template = found.chat_template or tokenizer.chat_template
    return found


def _read_tokenizer(place: Path, where: str) -> Any:
    import transformers

    with border.told(
        where, expected="a model with a tokenizer that can be read", remedy="copy its tokenizer files again"
    ):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(place), trust_remote_code=False, use_fast=True, local_files_only=True
        )
    if not tokenizer.is_fast:
        raise UsageError(where, "a fast tokenizer (tokenizer.json)", "a slow tokenizer")
    if len(tokenizer) == 0:
        raise UsageError(where, "a tokenizer with tokens", "an empty tokenizer")
    with border.told(
        where, expected="a tokenizer that encodes text", remedy="copy its tokenizer files again"
    ):
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        tokenizer.decode(tokenizer("a").input_ids)
    return tokenizer


def check_tokens(tokenizer: Any, rows: int, where: str) -> None:
    """Raises UsageError for a tokenizer whose highest id has no row in an embedding of `rows`."""
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows:
        raise UsageError(
            where,
            f"a tokenizer whose ids have a row each in the model's embedding of {rows}",
            f"token id {highest}",
            "give the model its own tokenizer, or resize the embedding (resize_token_embeddings) and save it",
        )


def check(base: str, quantization: str | None = None, adapter: Path | None = None) -> folder.Checked:
    """The folder of a base, looked at. Raises UsageError for a base, or an adapter on it, that would not load
    whole. No weight is read.

    For commands that write: a fault in a model's folder is told before there is anything to write into.
    """
    where = f"--model {base}"
    found = folder.check(place_of(base), where)
    _check_quantization(found.method, quantization, where)
    check_tokens(load_tokenizer(base), found.rows, where)
    if adapter is not None:
        adapters.check(adapter, folder.empty_model(found.config, where), str(adapter), _AGAIN)
    return found


def load_model(
    base: str, dtype: str = "float32", quantization: str | None = None, attention: str | None = None
) -> Any:
    """The causal language model of `base` in evaluation mode, all of it read from its files. Raises
    UsageError in one line where it is not.

    `quantization` nf4 holds the weights in 4 bits with doubly quantized scales (bitsandbytes) and computes in
    `dtype`; `attention` names an implementation of Transformers, such as flash_attention_2. A checkpoint that
    is quantized itself is read as it is.
    """
    import transformers

    if dtype not in _DTYPES:
        raise UsageError("model.dtype", f"one of {', '.join(_DTYPES)}", repr(dtype))
    transformers.utils.logging.disable_progress_bar()  # stages show their own
    where, place = f"--model {base}", place_of(base)
    found = folder.check(place, where)
    _check_quantization(found.method, quantization, where)
    with border.told(where, expected=folder.ANSWERS, remedy="check its folder"):
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            str(place),
            dtype=_DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **(_quantization(quantization, dtype) if found.method is None else {}),
            attn_implementation=attention,
            key_mapping=found.renamed,
            output_loading_info=True,
        )
    folder.require_whole(info, where)
    for layer in model.modules():
        if hasattr(
            layer, "support_avx512bf16_for_cpu"
        ):  # bitsandbytes would repack weights and score in bfloat16,
            layer.support_avx512bf16_for_cpu = (
                False  # on processors that can, whatever dtype they were trained in
            )
    return model.eval()


def on_device(model: Any) -> Any:
    """The model on the accelerator if there is one."""
    return model if is_quantized(model) else model.to("cuda" if torch.cuda.is_available() else "cpu")


def is_quantized(model: Any) -> bool:
    """Whether the weights are packed; such a model stays on the device where it was made."""
    return getattr(model, "hf_quantizer", None) is not None


def place_of(base: str, weights: bool = True) -> Path:
    """The folder that a base is read from. Raises UsageError for one without what is needed, and for a hub id
    that was not fetched.
    """
    place = Path(resolve(base))
    if not place.is_dir() and not hub.is_id(base):
        raise UsageError(
            f"--model {base}",
            "a model folder, a hub id OWNER/NAME or builtin:tiny",
            "no such folder",
            "check the path",
        )
    if not place.is_dir() or (hub.is_id(base) and weights and not any(place.glob("*.safetensors"))):
        raise UsageError(
            f"--model {base}",
            "a model on this machine",
            "a hub id that was not fetched",
            f"to ask the hub for it type --model {base}, or `hf download {base}` beforehand",
        )
    return _checked_folder(place, base) if weights else place


def _check_quantization(method: str | None, asked: str | None, where: str) -> None:
    if method is not None and asked is not None and method != "bitsandbytes":
        raise UsageError(
            "model.quantization",
            "none for a checkpoint that is already quantised",
            f"{asked} on {method}",
            "leave it out, or give the model unquantised",
        )


def _quantization(name: str | None, dtype: str) -> dict[str, Any]:
    """The option of Transformers' loading; a None there would hide what a checkpoint's own configuration
    says.
    """
    import transformers

    if name is None:
        return {}
    told = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=name,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_DTYPES[dtype],
    )
    return {"quantization_config": told}


def with_adapter(
    model: Any, adapter: Path, name: str = "default", where: str | None = None, remedy: str = _AGAIN
) -> Any:
    """The PEFT model of `model` with the adapter of a folder beside those that it has.

    Raises UsageError for a folder that is no adapter, and for one that does not fit the model in every
    tensor.
    """
    return adapters.load(model, adapter, name, where or str(adapter), remedy)


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
        """A model with its tokenizer, on the accelerator if there is one. Raises UsageError as `load_model`
        does.

        A small model is given one thread: more would hardly help it, and on a busy machine they wait for each
        other.
        """
        if is_small(base):
            torch.set_num_threads(1)
        model, tokenizer = on_device(load_model(base, dtype, quantization, attention)), load_tokenizer(base)
        check_tokens(tokenizer, int(model.get_input_embeddings().weight.shape[0]), f"--model {base}")
        return cls(model, tokenizer)

    @classmethod
    def as_trained(cls, settings: Model) -> "HFModel":
        """The base of a suite as its arms are trained on it: in the same dtype, quantization and
        attention.
        """
        found = cls.load(settings.base, settings.dtype, settings.quantization, settings.attention)
        if settings.start is not None:
            found.tokenizer = tokenizer_of(settings)
        return found

    def add_adapter(self, name: str, adapter: Path, where: str | None = None, remedy: str = _AGAIN) -> None:
        """Loads the adapter in a folder under `name`; `active(name)` switches it on. Raises as `with_adapter`
        does.
        """
        slot = f"arm{len(self._slots)}"
        self.model = with_adapter(self.model, adapter, slot, where, remedy)
        self._slots[name] = slot
        self._known_split = None

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters that were added."""
        return list(self._slots)

    @contextmanager
    def active(self, adapter: str | None) -> Iterator[None]:
        """Inside the block the model is the base with `adapter`, or the base alone for None."""
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
        yield

    def token_scores(
        self,
        encoded: Sequence[Encoded],
        advance: Advance | None = None,
        counted: Sequence[NDArray[np.bool_]] | None = None,
        prefix: Sequence[int] = (),
    ) -> list[TokenScores]:
        """What the model says of the counted tokens of every sequence, in the order of `encoded`.

        Of `prefix`, tokens that stand before every sequence, keys and values are computed once.
        `counted` has one mask of shape (tokens,) a sequence, None for all but the first token; what is not
        counted is NaN (False) and costs no head. Statistics are float32 whatever the model's dtype. Raises
        ValueError for masks that do not fit.
        """
        asked = scoring.places(encoded, counted)
        scores = []
        statistics = self._at_places(encoded, asked, scoring.statistics, 4, advance, prefix)
        for item, at, found in zip(encoded, asked, statistics, strict=True):
            table = np.full((4, len(item.input_ids)), np.nan, np.float32)
            table[:, at] = found.T
            scores.append(TokenScores(table[0], table[1], table[2], table[3] == 1))
        return scores

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

        return [found[:, 0].astype(np.float64) for found in self._at_places(encoded, asked, logprob, 1)]

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
        """Per sequence the statistic of its places, shape (places, fields), in their order."""
        found = [np.empty((0, fields), np.float32)] * len(encoded)
        cache = (
            self.model(input_ids=self._tensor([list(prefix)]), use_cache=True).past_key_values
            if prefix
            else None
        )
        for batch in self._batches_at(asked, before=len(prefix)):
            rows = self._batch(encoded, asked, batch)
            if cache is not None:
                rows = replace(rows, cache=descent.selected(cache, self._tensor([0] * len(batch))))
            parts = self._split()
            with low_rank.attached(self.model):
                chunks = scoring.chunks(self.model, parts, rows)
                values = torch.cat([statistic(logits, tokens) for logits, tokens in chunks]).cpu().numpy()
            ends = np.cumsum([len(asked[index]) for index in batch])
            for index, part in zip(batch, np.split(values, ends[:-1]), strict=True):
                found[index] = part
            if advance:
                advance(len(batch))
        if advance:
            advance(sum(not len(at) for at in asked))
        return found

    def _batches_at(
        self, asked: Sequence[scoring.Places], rows: int | None = None, before: int = 0
    ) -> Iterator[list[int]]:
        """Batches of the sequences that have counted tokens; with `rows` at most, those of a backward pass.

        `before` tokens of a prefix take memory in every row.
        """
        some = [index for index, at in enumerate(asked) if len(at)]
        limit = self._batch_tokens() if rows or not self._split() else self._hidden_tokens()
        for batch in _batches([int(asked[index][-1]) + before for index in some], limit):
            for start in range(0, len(batch), rows or len(batch)):
                yield [some[place] for place in batch[start : start + (rows or len(batch))]]

    def _batch(
        self, encoded: Sequence[Encoded], asked: Sequence[scoring.Places], batch: Sequence[int]
    ) -> scoring.Batch:
        """Sequences up to what predicts their last counted token; nothing behind it can matter."""
        ids, mask = self._padded([encoded[index].input_ids[: asked[index][-1]] for index in batch])
        row = np.repeat(np.arange(len(batch)), [len(asked[index]) for index in batch])
        place = np.concatenate([asked[index] for index in batch])
        token = [encoded[index].input_ids[at] for index in batch for at in asked[index]]
        return scoring.Batch(ids, mask, self._tensor(row), self._tensor(place - 1), self._tensor(token))

    def _split(self) -> scoring.Split | None:
        """Backbone and head, looked into once; see `scoring.split`."""
        if self._known_split is None:
            self._known_split = (scoring.split(self.model),)
        return self._known_split[0]

    def _hidden_tokens(self) -> int:
        """Tokens of a batch whose hidden states alone are kept. A processor is fastest while they stay in its
        caches.
        """
        if self.model.device.type != "cpu":
            return BATCH_TOKENS
        width = int(self.model.get_output_embeddings().weight.shape[1])
        return min(BATCH_TOKENS, max(256, HIDDEN_ELEMENTS // width))

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

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[tuple[Turn, ...]], max_new_tokens: int, advance: Advance | None = None
    ) -> list[str]:
        """The greedy answer to every prompt (turns that end with the user), without special tokens."""
        rows = [prompt_ids(turns, self.tokenizer) for turns in prompts]
        answers = [""] * len(rows)
        for batch in _batches([len(row) + max_new_tokens for row in rows], self._batch_tokens()):
            ids, mask = self._padded([rows[index] for index in batch], left=True)
            output = self.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=self._greedy(max_new_tokens)
            )
            texts = self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
            for index, text in zip(batch, texts, strict=True):
                answers[index] = text.strip()
            if advance:
                advance(len(batch))
        return answers

    @torch.inference_mode()
    def sample(
        self, prompts: Sequence[tuple[Turn, ...]], tokens: int, temperature: float, seed: int
    ) -> list[str]:
        """An answer of `tokens` tokens to every prompt, drawn at `temperature` from all that can be written;
        on one line.

        `seed` fixes them, on a CPU to the byte. White space at the ends is cut, so that an answer may be
        empty.
        """
        rows = [prompt_ids(turns, self.tokenizer) for turns in prompts]
        left_out = unwritable(self.tokenizer, int(self.model.get_output_embeddings().weight.shape[0]))
        answers = [""] * len(rows)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for batch in _batches([len(row) + tokens for row in rows], self._batch_tokens()):
                ids, mask = self._padded([rows[index] for index in batch], left=True)
                output = self.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=self._drawn(tokens, temperature, left_out),
                )
                texts = self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
                for index, text in zip(batch, texts, strict=True):
                    answers[index] = " ".join(text.split())
        return answers

    def _greedy(self, max_new_tokens: int) -> Any:
        """Plain greedy decoding, whatever sampling or penalties the model's own generation config names."""
        import transformers

        return transformers.GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            top_k=50,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.model.generation_config.eos_token_id or self.tokenizer.eos_token_id,
        )

    def _drawn(self, tokens: int, temperature: float, left_out: list[int]) -> Any:
        """Sampling from the whole vocabulary but for `left_out`, which holds the end token: all answers are
        of one length.
        """
        import transformers

        return transformers.GenerationConfig(
            do_sample=True,
            temperature=temperature,
            top_p=1.0,
            top_k=0,
            max_new_tokens=tokens,
            suppress_tokens=left_out,
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def _padded(self, rows: Sequence[Sequence[int]], left: bool = False) -> tuple[Tensor, Tensor]:
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[index, place] = torch.tensor(row, dtype=torch.long)
            mask[index, place] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def _batch_tokens(self) -> int:
        vocabulary = int(self.model.get_output_embeddings().weight.shape[0])
        return max(1, min(BATCH_TOKENS, LOGIT_ELEMENTS // vocabulary))

    def _tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=self.model.device)


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices by falling length (the largest batch comes first), at most `tokens` in a batch with its
    padding.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def _checked_folder(place: Path, base: str) -> Path:
    if not place.is_dir():
        raise UsageError(f"--model {base}", "a model folder or a hub id", "no such folder", "check the path")
    for needed, found in (
        ("config.json", (place / "config.json").is_file()),
        ("*.safetensors", any(place.glob("*.safetensors"))),
    ):
        if not found:
            raise UsageError(
                f"--model {base}",
                f"a folder with {needed}",
                "no such file in it",
                "save the model with save_pretrained (safetensors)",
            )
    if (
        place / adapters.CONFIG
    ).exists():  # Transformers would take it for an adapter, and load the base that it names
        raise UsageError(
            f"--model {base}",
            "a model's own folder",
            f"a folder with {adapters.CONFIG}",
            "move the adapter's files into a folder of their own",
        )
    return place
