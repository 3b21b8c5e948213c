"""Judges: which of two answers to one dialogue is better, behind one small protocol."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dpaudit.data.corpus import Turn
from dpaudit.judging.replies import Allowance, Keep, Reply, dropped, shown, verdict
from dpaudit.judging.rubric import Comparison, Outcome, Rubric
from dpaudit.judging.verdicts import Labels
from dpaudit.models.encode import counted_mask, encode
from dpaudit.models.language_model import Advance, LanguageModel

Answer = tuple[tuple[Turn, ...], str]  # a dialogue and what was answered to it
UNFITTING = "an answer that is too long for the judge"


class Judge(Protocol):
    """Whatever compares answers."""

    def compare_many(self, comparisons: Sequence[Comparison]) -> list[Outcome]: ...


class Replying(Protocol):
    """A rubric's judge, which hands on every reply besides."""

    def compare_many(
        self, comparisons: Sequence[Comparison], keep: Keep = ..., advance: Advance | None = None
    ) -> list[Outcome]: ...


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

    def compare_many(
        self, comparisons: Sequence[Comparison], keep: Keep = dropped, advance: Advance | None = None
    ) -> list[Outcome]:
        """Each answer is scored once, with those of this call alone: so that earlier calls, before a kill,
        change no digit.
        """
        answers = list(dict.fromkeys((c.turns, text) for c in comparisons for text in (c.first, c.second)))
        known = dict(zip(answers, self._scores(answers), strict=True))
        margins = [known[c.turns, c.first] - known[c.turns, c.second] for c in comparisons]
        replies = [Reply(fault=UNFITTING) if np.isnan(m) else Reply(margin=m) for m in margins]
        return _told(comparisons, replies, Labels(), self.tie_margin, keep, advance)

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


class ModelJudge:
    """Asks a local instruct model, greedily, and reads the verdict in its reply."""

    def __init__(self, model: LanguageModel, prompt: str, labels: Labels, max_new_tokens: int) -> None:
        self.model, self.prompt, self.labels, self.max_new_tokens = model, prompt, labels, max_new_tokens

    def compare_many(
        self, comparisons: Sequence[Comparison], keep: Keep = dropped, advance: Advance | None = None
    ) -> list[Outcome]:
        prompts = [(Turn("user", shown(self.prompt, comparison)),) for comparison in comparisons]
        replies = [Reply(text) for text in self.model.generate(prompts, self.max_new_tokens)]
        return _told(comparisons, replies, self.labels, 0.0, keep, advance)


def _told(
    comparisons: Sequence[Comparison],
    replies: Sequence[Reply],
    labels: Labels,
    tie_margin: float,
    keep: Keep,
    advance: Advance | None,
) -> list[Outcome]:
    """The verdicts of replies that came together, after each was handed on."""
    for comparison, reply in zip(comparisons, replies, strict=True):
        keep(comparison, reply)
    if advance:
        advance(len(replies))
    return [verdict(reply, labels, tie_margin) for reply in replies]


def open_judge(
    rubric: Rubric,
    max_length: int,
    allow_egress: Sequence[str] = (),
    parallel: int = 1,
    allowance: Allowance | None = None,
) -> Replying:
    """The judge of a rubric, its model loaded. `max_length` bounds the sequences that a likelihood judge
    scores; `parallel` and `allowance` are of an endpoint.

    Raises UsageError as the judges and the loading of models do.
    """
    if rubric.kind == "endpoint":
        from dpaudit.models.endpoint_judge import EndpointJudge

        return EndpointJudge(rubric, allow_egress, parallel, allowance)
    from dpaudit.models.hf_model import HFModel

    model = HFModel.load(rubric.model)
    if rubric.kind == "model":
        return ModelJudge(model, rubric.prompt, rubric.labels, rubric.max_new_tokens)
    if rubric.adapter is not None:
        model.add_adapter("judge", adapter_folder(rubric.adapter))
    adapter = "judge" if rubric.adapter is not None else None
    return LikelihoodJudge(model, model.tokenizer, adapter, rubric.tie_margin, max_length)


def adapter_folder(adapter: str) -> Path:
    """Where a rubric's adapter lies."""
    if adapter.startswith("builtin:"):
        return Path(__file__).parents[1] / "builtin" / adapter.removeprefix("builtin:")
    return Path(adapter).expanduser()
