"""Log-probabilities of canaries' secrets under a model whose training is unknown, in several renderings of a dialogue."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.audit_key import Planted
from dpaudit.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.models import Advance, TokenScores
from dpaudit.models.encode import Encoded, counted_mask, encode_text, render
from dpaudit.models.hf import HFModel

LONGEST = 2048  # tokens of one rendered canary
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{prompt}\n\n### Response:\n{answer}"
)


@dataclass(frozen=True)
class Text:
    """One text to score, and the secret whose last occurrence counts."""

    text: str
    secret: str


@dataclass(frozen=True, eq=False)
class SecretScores:
    """What a model says of the tokens that overlap a secret, arrays of shape (tokens,) in nats.

    `mean` and `std` as in `TokenScores`; NaN where only the log-probabilities are known.
    """

    logprob: Any
    mean: Any
    std: Any


def texts_of(canaries: Sequence[Planted], rendering: str, tokenizer: Any | None) -> list[Text] | None:
    """The texts of a rendering, a pair's chosen before its rejected; None where it cannot be made.

    `chat` needs a tokenizer with a chat template that takes these turns; the others need none.
    """
    if rendering == "chat" and (tokenizer is None or tokenizer.chat_template is None):
        return None
    made = []
    for canary in canaries:
        for record, secret in _sequences(canary):
            try:
                made.append(Text(_rendered(record, rendering, tokenizer), secret))
            except Exception as error:  # whatever a template raises: it does not take such turns
                if type(error).__module__.startswith("jinja2"):
                    return None
                raise
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
    """A folder's model, with an adapter or without, behind the questions that an audit asks."""

    def __init__(self, model: HFModel, adapter: str | None = None) -> None:
        self.model, self.adapter = model, adapter
        self.tokenizer = model.tokenizer

    def scores(self, texts: Sequence[Text], advance: Advance | None = None) -> list[SecretScores]:
        """What the model says of each secret; of a text that is too long for it, the last part is read."""
        encoded = [self._encoded(text) for text in texts]
        with self.model.active(self.adapter):
            found = self.model.token_scores(
                encoded, advance, [counted_mask(item.secret_mask) for item in encoded]
            )
        return [_at_secret(item, scores) for item, scores in zip(encoded, found, strict=True)]

    def _encoded(self, text: Text) -> Encoded:
        lead = _beginning(self.tokenizer)
        written = text.text if text.text.startswith(lead) else lead + text.text
        most = min(LONGEST, int(getattr(self.model.model.config, "max_position_embeddings", LONGEST)))
        coded = encode_text(written, self.tokenizer, len(written) + 8, secret=text.secret)
        kept = slice(max(0, len(coded.input_ids) - most), None)  # a secret stands at the end of its text
        ids, mask = coded.input_ids[kept], (False, *coded.secret_mask[kept][1:])
        if sum(mask) < max(1, sum(coded.secret_mask[1:])):
            raise UsageError(
                "--model", expected="a model that takes a canary's whole secret", got=f"one of {most} tokens"
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

    Raises UsageError for a folder that is no adapter and for a base that is not found.
    """
    from safetensors import SafetensorError

    from dpaudit.models import merge

    if not adapter.is_dir():
        raise UsageError(f"--adapter {adapter}", expected="an adapter folder", got="no such folder")
    for needed in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / needed).is_file():
            raise UsageError(f"--adapter {adapter}", expected=f"an adapter folder with {needed}", got="no such file",
                             remedy="save the adapter with save_pretrained (safetensors)")  # fmt: skip
    if base is None:
        try:
            base = merge.base_of(adapter)
        except UsageError:
            raise UsageError(f"--adapter {adapter}", expected="adapter_config.json that names a base", got="none",
                             remedy="--base DIR") from None  # fmt: skip
    model = _load(base, "--base")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Found missing adapter keys"
            )  # refused below, in one line
            model.add_adapter("audited", adapter)
    except (RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(f"--adapter {adapter}", expected=f"an adapter that fits {base}",
                         got=f"a {type(error).__name__} on loading it", remedy="name its base with --base DIR") from None  # fmt: skip
    _check_whole(model.model, adapter, base)
    return LocalModel(model, "audited"), LocalModel(model), base


def _check_whole(model: Any, adapter: Path, base: str) -> None:
    """Raises UsageError where PEFT left out tensors of the file, or invented some: it only warns, and half an adapter tells less.

    Nor is an adapter of virtual tokens audited: they are no tokens of the text.
    """
    import peft
    from safetensors import safe_open

    slot = model.active_adapter
    if model.peft_config[slot].is_prompt_learning:
        raise UsageError(f"--adapter {adapter}", expected="an adapter of the model's layers, such as LoRA",
                         got="one of virtual tokens")  # fmt: skip
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        saved = set(file.keys())
    loaded = set(peft.get_peft_model_state_dict(model, adapter_name=slot, save_embedding_layers=False))
    lost, absent = len(saved - loaded), len(loaded - saved)
    is_embedding = all("embed_tokens" in name or "lm_head" in name for name in saved - loaded)
    if absent or (lost and not is_embedding):
        raise UsageError(f"--adapter {adapter}", expected=f"an adapter whose tensors are those of {base}",
                         got=f"{lost} that have no place in it, and {absent} that are missing",
                         remedy="name its base with --base DIR, or merge it and give --model")  # fmt: skip


def open_whole(folder: str) -> LocalModel:
    return LocalModel(_load(folder, "--model"))


def check_folder(base: str, option: str) -> None:
    """Raises UsageError for a path that holds no model."""
    from dpaudit.models import hf

    try:
        hf.resolve(base)
    except UsageError as error:
        raise UsageError(
            f"{option} {base}", expected=error.expected, got=error.got, remedy=error.remedy
        ) from None


def open_base(folder: str, tokenizer: Any) -> LocalModel:
    """The base of a merged model. Raises UsageError where it does not have the merged model's vocabulary."""
    found = LocalModel(_load(folder, "--base"))
    if found.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UsageError(f"--base {folder}", expected="the model that was fine-tuned, with the same tokenizer",
                         got="another vocabulary")  # fmt: skip
    return found


def _load(base: str, option: str) -> HFModel:
    from dpaudit.models import merge

    check_folder(base, option)
    try:
        return HFModel.load(base, merge.own_dtype(base))
    except UsageError as error:
        raise UsageError(
            f"{option} {base}", expected=error.expected, got=error.got, remedy=error.remedy
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {base}", expected="a model folder or a hub id within reach",
                         got=f"a {type(error).__name__}", remedy="check the name, or give the folder") from None  # fmt: skip
