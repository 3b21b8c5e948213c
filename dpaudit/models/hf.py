"""Hugging Face causal language models: loading, adapters on one base, scoring and greedy generation.

Weights are read from safetensors only and no code of a model repository is ever run.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpaudit.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import Advance, TokenScores
from dpaudit.models.encode import Encoded, prompt_ids

BATCH_TOKENS = 8192  # tokens in one forward pass, padding included
LOGIT_ELEMENTS = 2**26  # tokens x vocabulary of one forward pass: 256 MB in float32
CHUNK_ELEMENTS = 2**21  # tokens x vocabulary of one log-softmax
CACHE_TOKENS = 2**15  # rows x positions of one expanded key-value cache

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve(base: str) -> str:
    """The folder or hub id that `base` means; `builtin:NAME` is a folder inside the package.

    Raises UsageError for a folder that lacks config.json or safetensors weights, and for a path that is none.
    """
    if base.startswith("builtin:"):
        return str(
            _checked_folder(Path(__file__).parents[1] / "builtin" / base.removeprefix("builtin:"), base)
        )
    folder = Path(base).expanduser()
    if folder.is_dir() or base.startswith((".", "/", "~")) or base.count("/") > 1:
        return str(_checked_folder(folder, base))
    return base


def load_tokenizer(base: str) -> Any:
    """The fast tokenizer of a model, with a padding token. Raises UsageError in one line where there is none."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            resolve(base), trust_remote_code=False, use_fast=True
        )
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(base, "a model with a tokenizer", error) from None
    if not tokenizer.is_fast:
        raise UsageError(f"--model {base}", expected="a fast tokenizer (tokenizer.json)", got="a slow one")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(base: str, dtype: str = "float32") -> Any:
    """The causal language model of `base` in evaluation mode. Raises UsageError in one line where there is none."""
    import transformers

    if dtype not in _DTYPES:
        raise UsageError("model.dtype", expected=f"one of {', '.join(_DTYPES)}", got=repr(dtype))
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            resolve(base), dtype=_DTYPES[dtype], use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(base, "a causal language model in safetensors", error) from None
    return model.eval()


def with_adapter(model: Any, adapter: Path, name: str = "default") -> Any:
    """The PEFT model of `model` with the adapter of a folder beside those that it has.

    Raises UsageError for a folder without adapter_config.json or adapter_model.safetensors.
    """
    import peft

    for needed in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / needed).is_file():
            raise UsageError(str(adapter), expected=f"an adapter folder with {needed}", got="no such file",
                             remedy="train the arm again or name another folder")  # fmt: skip
    if isinstance(model, peft.PeftModel):
        model.load_adapter(str(adapter), adapter_name=name, is_trainable=False)
        return model.eval()
    return peft.PeftModel.from_pretrained(model, str(adapter), adapter_name=name, is_trainable=False).eval()


class HFModel:
    """A `LanguageModel` over a Hugging Face model: one base in memory, its adapters switched and never reloaded.

    Starts with the first adapter that `model` already has switched on, if it is a PEFT model.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self._slots: dict[str, str] = {}  # adapter -> PEFT's name of it, which may hold no dot

    @classmethod
    def load(cls, base: str, dtype: str = "float32") -> "HFModel":
        """The base of a suite with its tokenizer. Raises UsageError as `load_model` does."""
        return cls(load_model(base, dtype), load_tokenizer(base))

    def add_adapter(self, name: str, folder: Path) -> None:
        """Loads the adapter in `folder` under `name`; `active(name)` switches it on."""
        slot = f"arm{len(self._slots)}"
        self.model = with_adapter(self.model, folder, slot)
        self._slots[name] = slot

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

    @torch.inference_mode()
    def token_scores(self, encoded: Sequence[Encoded], advance: Advance | None = None) -> list[TokenScores]:
        """Log-probability, mean and standard deviation at every token, in the order of `encoded`.

        Sequences are sorted by length and batched; statistics are float32 whatever the model's dtype.
        """
        scores: list[TokenScores | None] = [None] * len(encoded)
        for batch in _batches([len(item.input_ids) for item in encoded], self._batch_tokens()):
            rows = [encoded[index].input_ids for index in batch]
            ids, mask = self._padded(rows)
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            statistics = _statistics(logits, ids).cpu().numpy()  # (batch, tokens, 3)
            for row, index in enumerate(batch):
                kept = statistics[row, : len(rows[row])]
                scores[index] = TokenScores(*(np.ascontiguousarray(kept[:, k]) for k in range(3)))
            if advance:
                advance(len(batch))
        return [score for score in scores if score is not None]

    @torch.inference_mode()
    def sequence_logprobs(
        self, prefix_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """log p(continuation | prefix) in nats for every continuation, shape (continuations,).

        Exact: continuations that begin alike share their forward passes (a trie of token ids, level by level)
        and all share the prefix's key-value cache. The last token of a branch needs no pass at all. Both the
        prefix and every continuation hold at least one token.
        """
        trie = _Trie(continuations)
        output = self.model(input_ids=self._tensor([list(prefix_ids)]), use_cache=True)
        self._descend(trie, 0, np.zeros(1, np.int64), output.logits[:, -1], output.past_key_values)
        return trie.leaf_scores()

    @torch.inference_mode()
    def greedy_ids(self, prefix_ids: Sequence[int], length: int) -> list[int]:
        """The `length` most probable next tokens, one after the other; end of text does not stop it."""
        output = self.model(input_ids=self._tensor([list(prefix_ids)]), use_cache=True)
        chosen = [int(output.logits[0, -1].argmax())]
        while len(chosen) < length:
            output = self.model(
                input_ids=self._tensor([[chosen[-1]]]), past_key_values=output.past_key_values, use_cache=True
            )
            chosen.append(int(output.logits[0, -1].argmax()))
        return chosen

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

    def _descend(
        self, trie: "_Trie", level: int, parents: NDArray[np.int64], logits: Tensor, cache: Any
    ) -> None:
        """Scores the children of `parents`, nodes of one level whose next-token logits and cache rows are given."""
        children = trie.children(level, parents)
        rows = trie.parent[level][children] - parents[0]
        tokens = trie.token[level][children]
        gathered = _log_softmax_at(logits, self._tensor(rows), self._tensor(tokens))
        trie.add(level, children, gathered.cpu().numpy().astype(np.float64))
        inner = np.flatnonzero(trie.has_children[level][children])
        size = max(1, CACHE_TOKENS // (cache.get_seq_length() + 1))
        for run in trie.contiguous(children[inner], size):
            position = run - children[0]
            branch = _selected(cache, self._tensor(rows[position]))
            output = self.model(
                input_ids=self._tensor(tokens[position])[:, None], past_key_values=branch, use_cache=True
            )
            self._descend(trie, level + 1, run, output.logits[:, -1], output.past_key_values)

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


class _Trie:
    """Distinct prefixes of token sequences, by level. A level's nodes are numbered in the order of their parents."""

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        if not sequences or not all(len(sequence) for sequence in sequences):
            raise ValueError("expected continuations of at least one token each")
        self.lengths = np.array([len(sequence) for sequence in sequences])
        depth = int(self.lengths.max())
        table = np.zeros((len(sequences), depth), np.int64)  # (sequences, depth), 0 behind a sequence's end
        for index, sequence in enumerate(sequences):
            table[index, : len(sequence)] = sequence
        self.parent: list[NDArray[np.int64]] = []
        self.token: list[NDArray[np.int64]] = []
        self.node: list[
            NDArray[np.int64]
        ] = []  # (sequences,): the node that each sequence passes, -1 behind its end
        passed, width = np.zeros(len(sequences), np.int64), int(table.max()) + 1
        for level in range(depth):
            alive = self.lengths > level
            keys, inverse = np.unique(passed[alive] * width + table[alive, level], return_inverse=True)
            self.parent.append(keys // width)
            self.token.append(keys % width)
            passed = np.full(len(sequences), -1, np.int64)
            passed[alive] = inverse
            self.node.append(passed)
        self.total = [np.zeros(len(nodes)) for nodes in self.parent]
        self.has_children = [
            np.isin(np.arange(len(nodes)), self.parent[level + 1]) if level + 1 < depth else np.zeros(len(nodes), bool)
            for level, nodes in enumerate(self.parent)
        ]  # fmt: skip

    def children(self, level: int, parents: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nodes of `level` under a contiguous run of nodes of the level above."""
        start, stop = np.searchsorted(self.parent[level], [parents[0], parents[-1] + 1])
        return np.arange(start, stop)

    def add(self, level: int, nodes: NDArray[np.int64], logprobs: NDArray[np.float64]) -> None:
        above = self.total[level - 1][self.parent[level][nodes]] if level else 0.0
        self.total[level][nodes] = above + logprobs

    def leaf_scores(self) -> NDArray[np.float64]:
        """The score of each sequence's last node, shape (sequences,)."""
        scores = np.empty(len(self.lengths))
        for level, nodes in enumerate(self.node):
            ends = self.lengths == level + 1
            scores[ends] = self.total[level][nodes[ends]]
        return scores

    @staticmethod
    def contiguous(nodes: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
        """Runs of consecutive node numbers, at most `size` long each."""
        for run in np.split(nodes, np.flatnonzero(np.diff(nodes) != 1) + 1):
            for start in range(0, len(run), size):
                yield run[start : start + size]


def _statistics(logits: Tensor, ids: Tensor) -> Tensor:
    """(batch, tokens, 3): log-probability of each token, mean and deviation over the vocabulary; NaN at token 0."""
    batch, tokens, vocabulary = logits.shape
    found = torch.full((batch, tokens, 3), math.nan, device=logits.device)
    predictions = logits[:, :-1].reshape(-1, vocabulary)
    targets = ids[:, 1:].reshape(-1, 1)
    step = max(1, CHUNK_ELEMENTS // vocabulary)
    parts = []
    for start in range(0, len(predictions), step):
        logp = torch.log_softmax(predictions[start : start + step].float(), dim=-1)
        probability = logp.exp()
        mean = (probability * logp).nansum(-1)  # 0 * -inf counts as 0
        variance = (probability * (logp - mean[:, None]).square()).nansum(-1)
        chosen = logp.gather(1, targets[start : start + step]).squeeze(1)
        parts.append(torch.stack([chosen, mean, variance.sqrt()], dim=-1))
    if parts:
        found[:, 1:] = torch.cat(parts).reshape(batch, tokens - 1, 3)
    return found


def _log_softmax_at(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """log p(token) under the row's distribution, shape (tokens,)."""
    normaliser = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, 256)])
    return logits[rows, tokens].float() - normaliser[rows]


def _selected(cache: Any, rows: Tensor) -> Any:
    """A new cache with the given rows; the old one, whose tensors are replaced and never written, stays whole."""
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) for layer in cache.layers]
    branch.batch_select_indices(rows)
    return branch


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices by falling length (the largest batch comes first), at most `tokens` in a batch with its padding."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def _checked_folder(folder: Path, base: str) -> Path:
    if not folder.is_dir():
        raise UsageError(f"--model {base}", expected="a model folder or a hub id", got="no such folder",
                         remedy="check the path")  # fmt: skip
    for needed, found in (("config.json", (folder / "config.json").is_file()),
                          ("*.safetensors", any(folder.glob("*.safetensors")))):  # fmt: skip
        if not found:
            raise UsageError(f"--model {folder}", expected=f"a folder with {needed}", got="none in it",
                             remedy="save the model with save_pretrained (safetensors)")  # fmt: skip
    return folder


def _not_loaded(base: str, expected: str, error: Exception) -> UsageError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UsageError(f"--model {base}", expected=expected, got=f"{reason:.160}",
                      remedy="check the folder or hub id, and the network for a hub id")  # fmt: skip
