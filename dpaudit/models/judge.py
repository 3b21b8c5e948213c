"""Judges: which of two answers to one dialogue is better, behind one small protocol."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.judging import verdicts
from dpaudit.judging.rubric import Comparison, Outcome, Rubric
from dpaudit.judging.verdicts import Labels
from dpaudit.models import served
from dpaudit.models.encode import counted_mask, encode
from dpaudit.models.language_model import LanguageModel

Answer = tuple[tuple[Turn, ...], str]  # a dialogue and what was answered to it


class Judge(Protocol):
    """Whatever compares answers."""

    def compare_many(self, comparisons: Sequence[Comparison]) -> list[Outcome]: ...


class LikelihoodJudge:
    """Prefers the answer with the higher mean log-probability a token, its closing token included, under
    `model`.

    Answers within `tie_margin` nats tie; one that does not fit into `max_length` tokens is unscored.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Any, adapter: str | None, tie_margin: float, max_length: int
    ) -> None:
        self.model, self.tokenizer, self.adapter = model, tokenizer, adapter
        self.tie_margin, self.max_length = tie_margin, max_length

    def compare_many(self, comparisons: Sequence[Comparison]) -> list[Outcome]:
        """Each answer is scored once, with those of this call alone: so that earlier calls, before a kill,
        change no digit.
        """
        answers = list(dict.fromkeys((c.turns, text) for c in comparisons for text in (c.first, c.second)))
        known = dict(zip(answers, self._scores(answers), strict=True))
        return [self._outcome(known[c.turns, c.first], known[c.turns, c.second]) for c in comparisons]

    def _scores(self, answers: Sequence[Answer]) -> list[float]:
        """Nats a token of each answer, NaN for one that was cut."""
        encoded = [
            encode((*turns, Turn("assistant", text)), self.tokenizer, self.max_length, last_only=True)
            for turns, text in answers
        ]
        with self.model.active(self.adapter):
            scored = self.model.token_scores(
                encoded, counted=[counted_mask(item.answer_mask) for item in encoded]
            )
        means = []
        for item, scores in zip(encoded, scored, strict=True):
            kept = scores.logprob[np.array(item.answer_mask)]
            means.append(float("nan") if item.truncated or not kept.size else float(kept.mean()))
        return means

    def _outcome(self, first: float, second: float) -> Outcome:
        margin = first - second
        if np.isnan(margin):
            return Outcome("unscored")
        if abs(margin) <= self.tie_margin:
            return Outcome("tie", margin)
        return Outcome("first" if margin > 0 else "second", margin)


class ModelJudge:
    """Asks a local instruct model, greedily, and reads the verdict in its reply."""

    def __init__(self, model: LanguageModel, prompt: str, labels: Labels, max_new_tokens: int) -> None:
        self.model, self.prompt, self.labels, self.max_new_tokens = model, prompt, labels, max_new_tokens

    def compare_many(self, comparisons: Sequence[Comparison]) -> list[Outcome]:
        prompts = [(Turn("user", shown(self.prompt, comparison)),) for comparison in comparisons]
        replies = self.model.generate(prompts, self.max_new_tokens)
        return [Outcome(verdicts.parse(reply, self.labels)) for reply in replies]


class EndpointJudge:
    """Asks an OpenAI-compatible server, one comparison a request.

    Raises UsageError for a host off this machine that `allow_egress` does not name, for a key that is not
    set, and for a permanent refusal; PartialError where the server fails after the client's retries.
    """

    def __init__(self, rubric: Rubric, allow_egress: Sequence[str] = ()) -> None:
        key_remedy = "name a variable with a key for it in api_key_env"
        if rubric.api_key_env:
            key_remedy = f"export {rubric.api_key_env}=... with a key for it"
        self.rubric = rubric
        self.server = served.Server(
            rubric.base_url,
            f"judges/{rubric.name}.yaml: base_url",
            sent="prompts and answers",
            allow_egress=allow_egress,
            key=lambda: _api_key(rubric),
            key_remedy=key_remedy,
            timeout=rubric.timeout,
            retries=rubric.retries,
        )

    def compare_many(self, comparisons: Sequence[Comparison]) -> list[Outcome]:
        return [self._compare(comparison) for comparison in comparisons]

    def _compare(self, comparison: Comparison) -> Outcome:
        text = shown(self.rubric.prompt, comparison)
        try:
            reply = self.server.ask(
                lambda client: client.chat.completions.create(
                    model=self.rubric.model,
                    messages=[{"role": "user", "content": text}],
                    temperature=0.0,
                    max_tokens=self.rubric.max_new_tokens,
                )
            )
        except ValueError:
            return Outcome("unscored")  # a body that is no JSON
        return Outcome(verdicts.parse(_content(reply), self.rubric.labels))


def shown(prompt: str, comparison: Comparison) -> str:
    """What a judge reads of a comparison, with delimiters of this request alone."""
    tag = secrets.token_hex(4)
    return verdicts.shown(prompt, comparison.turns, comparison.first, comparison.second, tag)


def open_judge(rubric: Rubric, max_length: int, allow_egress: Sequence[str] = ()) -> Judge:
    """The judge of a rubric, its model loaded. `max_length` bounds the sequences that a likelihood judge
    scores.

    Raises UsageError as the judges and the loading of models do.
    """
    if rubric.kind == "endpoint":
        return EndpointJudge(rubric, allow_egress)
    from dpaudit.models.hf_model import HFModel

    model = HFModel.load(rubric.model)
    if rubric.kind == "model":
        return ModelJudge(model, rubric.prompt, rubric.labels, rubric.max_new_tokens)
    if rubric.adapter is not None:
        model.add_adapter("judge", adapter_folder(rubric.adapter))
    adapter = "judge" if rubric.adapter is not None else None
    return LikelihoodJudge(model, model.tokenizer, adapter, rubric.tie_margin, max_length)


def _api_key(rubric: Rubric) -> str | None:
    if not rubric.api_key_env:
        return None
    key = os.environ.get(rubric.api_key_env, "")
    if not key:
        raise UsageError(
            f"judges/{rubric.name}.yaml: api_key_env",
            f"a key in ${rubric.api_key_env}",
            "no value",
            f"export {rubric.api_key_env}=...",
        )
    return key


def adapter_folder(adapter: str) -> Path:
    """Where a rubric's adapter lies."""
    if adapter.startswith("builtin:"):
        return Path(__file__).parents[1] / "builtin" / adapter.removeprefix("builtin:")
    return Path(adapter).expanduser()


def _content(reply: Any) -> str:
    """The text of a chat completion; empty where the reply has another shape."""
    choices = getattr(reply, "choices", None) or []
    text = getattr(getattr(choices[0], "message", None), "content", None) if choices else None
    return text if isinstance(text, str) else ""
