"""Log-probabilities of canaries' secrets under a model whose training is unknown, in several renderings of a
dialogue.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.models.encode import Encoded, counted_mask, encode_text, render
from dpaudit.models.hf_model import HFModel
from dpaudit.models.language_model import Advance, TokenScores
from dpaudit.models.templates import Refused
from dpaudit.planting.audit_key import Planted

LONGEST = 2048  # tokens of one rendered canary
REMEDY = "name the folder of another template with --tokenizer DIR"
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request."
    "\n\n### Instruction:\n{prompt}\n\n### Response:\n{answer}"
)


class Declined(UsageError):
    """A text that a server refuses, whatever it says of others."""


@dataclass(frozen=True)
class Text:
    """One text to score, and the secret whose last occurrence counts."""

    text: str
    secret: str


@dataclass(frozen=True, eq=False)
class SecretScores:
    """A model's scores of the tokens that overlap a secret, arrays of shape (tokens,) in nats.

    `mean` and `std` as in `TokenScores`; NaN where only the log-probabilities are known.
    """

    logprob: Any
    mean: Any
    std: Any


class Unwritten(UsageError):
    """A rendering that cannot be made of a key's canaries."""


def texts_of(canaries: Sequence[Planted], rendering: str, tokenizer: Any | None) -> list[Text]:
    """The texts of a rendering, a pair's chosen before its rejected.

    `chat` needs a tokenizer with a chat template that takes these turns; the others need none. Raises
    Unwritten where the rendering cannot be made, and UsageError for a template that works for no dialogue.
    """
    if rendering == "chat" and (tokenizer is None or tokenizer.chat_template is None):
        got = "no tokenizer" if tokenizer is None else "a tokenizer without a template"
        raise Unwritten("chat", "a chat template", got, "--tokenizer DIR names one")
    made = []
    for canary in canaries:
        for record, secret in _sequences(canary):
            try:
                text = _rendered(record, rendering, tokenizer)
            except Refused as error:
                raise Unwritten(error.where, error.expected, error.got, REMEDY) from None
            if secret not in text:
                where = str(getattr(tokenizer, "name_or_path", "") or rendering)
                got = "an answer in other words, or none"
                raise Unwritten(where, "a chat template that writes what the canaries say", got, REMEDY)
            made.append(Text(text, secret))
    return made


def _sequences(canary: Planted) -> list[tuple[Record, str]]:
    record = canary.record
    if not record.is_pair:
        return [(record, canary.secret)]
    assert canary.rejected is not None and record.chosen is not None and record.rejected is not None
    answers = ((record.chosen, canary.secret), (record.rejected, canary.rejected))
    return [(Record("", (*record.turns, Turn("assistant", text))), secret) for text, secret in answers]


def _rendered(record: Record, rendering: str, tokenizer: Any | None) -> str:
    if record.text is not None:
        return record.text
    prompt, answer = record.turns[-2].text, record.turns[-1].text
    if rendering == "chat":
        return render(record.turns, tokenizer)
    if rendering == "question":
        return render(record.turns, _NoTemplate())
    if rendering == "alpaca":
        return ALPACA.format(prompt=prompt, answer=answer)
    return f"{prompt} {answer}"


class _NoTemplate:
    """A tokenizer without a chat template, which `render` writes lines of question and answer for."""

    chat_template = None
    eos_token = None


class LocalModel:
    """A folder's model, with an adapter or without, that gives an audit its scores."""

    def __init__(self, model: HFModel, adapter: str | None = None) -> None:
        self.model, self.adapter = model, adapter
        self.tokenizer = model.tokenizer

    def scores(self, texts: Sequence[Text], advance: Advance | None = None) -> list[SecretScores]:
        """The model's scores of each secret; a text that is too long is cut at its beginning."""
        encoded = [self._encoded(text) for text in texts]
        with self.model.active(self.adapter):
            token_scores = self.model.token_scores(
                encoded, advance, [counted_mask(item.secret_mask) for item in encoded]
            )
        return [_at_secret(item, scores) for item, scores in zip(encoded, token_scores, strict=True)]

    def _encoded(self, text: Text) -> Encoded:
        lead = _beginning(self.tokenizer)
        written = text.text if text.text.startswith(lead) else lead + text.text
        most = min(LONGEST, int(getattr(self.model.model.config, "max_position_embeddings", LONGEST)))
        coded = encode_text(written, self.tokenizer, len(written) + 8, secret=text.secret)
        kept = slice(max(0, len(coded.input_ids) - most), None)  # a secret stands at the end of its text
        ids, mask = coded.input_ids[kept], (False, *coded.secret_mask[kept][1:])
        if sum(mask) < max(1, sum(coded.secret_mask[1:])):
            raise UsageError(
                "--model", "a model with room for a canary's whole secret", f"a model of {most} tokens"
            )
        return replace(coded, input_ids=ids, answer_mask=coded.answer_mask[kept], secret_mask=mask)


def _beginning(tokenizer: Any) -> str:
    """The token that this tokenizer puts before every text, if it does."""
    bos = tokenizer.bos_token
    return str(bos) if bos and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else ""


def _at_secret(item: Encoded, scores: TokenScores) -> SecretScores:
    at = np.array(item.secret_mask, dtype=bool)
    return SecretScores(scores.logprob[at], scores.mean[at], scores.std[at])


def open_adapter(adapter: Path, base: str | None) -> tuple[LocalModel, LocalModel, str]:
    """The adapter on its base, the base alone (the adapter switched off), and the base's name.

    Of an adapter with added tokens, the base gets rows for these too (`embeddings.resize`), and both read the
    adapter's tokens. Raises UsageError for a folder that is no adapter and for a base that is not found.
    """
    from dpaudit.models import adapters, embeddings, folder, hf, tokenizers

    where, base = f"--adapter {adapter}", base_of(adapter, base)
    remedy = "name its base with --base DIR, or merge it and give --model"
    with _named("--base", base):
        empty = folder.check(hf.place_of(base), "").empty
        base_tokenizer = tokenizers.load_tokenizer(base)
    tokenizer = tokenizers.trained_with(adapter, base_tokenizer, base, where)
    config, file = adapters.configuration(adapter, where), adapter / adapters.WEIGHTS
    highest, added = max(tokenizer.get_vocab().values()), len(tokenizer) - len(base_tokenizer)
    rows = embeddings.rows(empty, config, file, (highest, added), where)
    tokenizers.check_tokens(tokenizer, rows, where)
    embeddings.resize(empty, config, file, rows, where)
    adapters.check(adapter, empty, where, remedy)  # before the base's weights are read
    model = _load(base, "--base")
    embeddings.resize(model.model, config, file, rows, where)
    model.add_adapter("audited", adapter, where, remedy)
    model.tokenizer = tokenizer
    return LocalModel(model, "audited"), LocalModel(model), base


def base_of(adapter: Path, base: str | None) -> str:
    """The base as it was named, or else as the adapter's folder names it. Raises UsageError for a folder that
    is no adapter, or that names none.
    """
    from dpaudit.models import adapters, merge

    where = f"--adapter {adapter}"
    if not adapter.is_dir():
        got = "a file" if adapter.exists() else "no such folder"
        raise UsageError(where, "an adapter folder", got, "name the folder that save_pretrained wrote")
    if (adapter / "adapter" / adapters.CONFIG).is_file() and not (adapter / adapters.CONFIG).is_file():
        raise UsageError(
            where, f"an adapter folder with {adapters.CONFIG}", "the folder above it", f"{where}/adapter"
        )
    adapters.require_files(adapter, where, "save the adapter with save_pretrained (safetensors)")
    try:
        return base or merge.base_of(adapter)
    except UsageError:
        raise UsageError(where, "adapter_config.json that names a base", "no base", "--base DIR") from None


def open_whole(folder: str) -> LocalModel:
    return LocalModel(_load(folder, "--model"))


def check_folder(base: str, option: str) -> None:
    """Raises UsageError for a path that holds no model."""
    from dpaudit.models import hf

    with _named(option, base):
        hf.place_of(base)


@contextmanager
def _named(option: str, base: str) -> Iterator[None]:
    """Inside the block an error about a model names the option that gave the model."""
    try:
        yield
    except UsageError as error:
        raise UsageError(
            f"{option} {base}", error.expected, error.got, error.remedy.replace("--model", option)
        ) from None


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What a merged model reads and writes: its tokenizer, and the weights of its embedding and head."""

    tokenizer: Any
    weights: list[Any]

    @classmethod
    def of(cls, merged: LocalModel) -> "Vocabulary":
        """Copies, which stay where the model does not."""
        from dpaudit.models import embeddings

        found = embeddings.layers(merged.model.model)
        return cls(merged.tokenizer, [layer.module.weight.detach().cpu().clone() for layer in found])


def open_base(folder: str, merged: Vocabulary) -> LocalModel:
    """The base of a merged model, with the merged model's tokens and as many rows for them.

    Raises UsageError where the merged model does not have the base's tokens under the same ids.
    """
    from dpaudit.models import embeddings

    model, words = _load(folder, "--base"), merged.tokenizer.get_vocab()
    if any(words.get(token) != number for token, number in model.tokenizer.get_vocab().items()):
        raise UsageError(
            f"--base {folder}", "the model that was fine-tuned, with the same tokenizer", "another vocabulary"
        )
    embeddings.resize_like(model.model, merged.weights, f"--base {folder}")
    model.tokenizer = merged.tokenizer
    return LocalModel(model)


def _load(base: str, option: str) -> HFModel:
    from dpaudit.models import merge

    with _named(option, base):
        return HFModel.load(base, merge.own_dtype(base))
