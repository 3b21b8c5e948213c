"""Judges: which of two answers to one dialogue is better, behind one small protocol."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dpaudit.data.corpus import Turn
from dpaudit.judging import verdicts
from dpaudit.judging.replies import Allowance, Keep, Reply, dropped, settled, shown
from dpaudit.judging.rubric import Comparison, Outcome, Question, Rubric
from dpaudit.models.encode import counted_mask, encode, render
from dpaudit.models.language_model import Advance, LanguageModel

Answer = tuple[tuple[Turn, ...], str]  # a dialogue and what was answered to it
ADAPTER = "judge"
UNFITTING = "an answer that is too long for the judge"


class Judge(Protocol):
    """Whatever compares answers."""

    def compare_many(self, comparisons: Sequence[Comparison]) -> list[Outcome]: ...


class Replying(Protocol):
    """A rubric's judge, which hands on every reply besides. Its outcomes are of questions."""

    def ask_many(
        self, questions: Sequence[Question], keep: Keep = ..., advance: Advance | None = None
    ) -> list[Outcome]: ...


class LikelihoodJudge:
    """Prefers the answer with the higher mean log-probability a token, its closing token included, under
    `model`.

    Answers within the rubric's `tie_margin` tie; one that does not fit into `max_length` tokens is unscored.
    """

    def __init__(self, model: LanguageModel, tokenizer: Any, rubric: Rubric, max_length: int) -> None:
        self.model, self.tokenizer, self.rubric, self.max_length = model, tokenizer, rubric, max_length

    def ask_many(
        self, questions: Sequence[Question], keep: Keep = dropped, advance: Advance | None = None
    ) -> list[Outcome]:
        """Each answer is scored once, with those of this call alone: so that earlier calls, before a kill,
        change no digit.
        """
        comparisons = [question for question in questions if isinstance(question, Comparison)]
        answers = list(dict.fromkeys((c.turns, text) for c in comparisons for text in (c.first, c.second)))
        known = dict(zip(answers, self._scores(answers), strict=True))
        margins = [known[c.turns, c.first] - known[c.turns, c.second] for c in comparisons]
        replies = [Reply(fault=UNFITTING) if np.isnan(m) else Reply(margin=m) for m in margins]
        return _told(self.rubric, comparisons, replies, keep, advance)

    def _scores(self, answers: Sequence[Answer]) -> list[float]:
        """Nats a token of each answer, NaN for one that was cut."""
        encoded = [
            encode((*turns, Turn("assistant", text)), self.tokenizer, self.max_length, last_only=True)
            for turns, text in answers
        ]
        with self.model.active(ADAPTER if self.rubric.adapter is not None else None):
            scored = self.model.token_scores(
                encoded, counted=[counted_mask(item.answer_mask) for item in encoded]
            )
        means = []
        for item, scores in zip(encoded, scored, strict=True):
            kept = scores.logprob[np.array(item.answer_mask)]
            means.append(float("nan") if item.truncated or not kept.size else float(kept.mean()))
        return means


class ModelJudge:
    """Asks a local instruct model, greedily, and reads the verdict in its reply.

    With `logprobs` its reply is cut before the verdict, and every label is scored there: the exact
    log-probability of its text, in nats, behind the tokens that all labels begin with. Without
    `max_new_tokens` the labels are scored at once, without reasons.
    """

    def __init__(self, model: LanguageModel, tokenizer: Any, rubric: Rubric) -> None:
        self.model, self.tokenizer, self.rubric = model, tokenizer, rubric

    def ask_many(
        self, questions: Sequence[Question], keep: Keep = dropped, advance: Advance | None = None
    ) -> list[Outcome]:
        prompts = [(Turn("user", shown(self.rubric, question)),) for question in questions]
        tokens = self.rubric.max_new_tokens
        texts = self.model.generate(prompts, tokens) if tokens else [""] * len(prompts)
        replies = [Reply(text, form=self.rubric.verdict) for text in texts]
        if self.rubric.verdict == "logprobs":
            pairs = zip(prompts, replies, strict=True)
            replies = [replace(r, logprobs=self._logprobs(turns, r.text)) for turns, r in pairs]
        return _told(self.rubric, questions, replies, keep, advance)

    def _logprobs(self, turns: tuple[Turn, ...], text: str) -> dict[str, float] | None:
        """The log-probability of each label at the end of the reasons; None for thoughts that were cut."""
        if verdicts.unthought(text) is None:
            return None
        labels = self.rubric.labels
        offered, found = labels.offered(), verdicts.located(text, labels)
        before = text if found is None else text[: found.start]
        before = f"{before}\n" if found is None and before else before
        written = render(turns, self.tokenizer, prompt=True) + before
        rows = [self._ids(written + label) for label in offered.values()]
        columns = enumerate(zip(*rows, strict=False))
        shared = next((place for place, column in columns if len(set(column)) > 1), min(map(len, rows)))
        logprobs = self.model.sequence_logprobs(rows[0][:shared], [row[shared:] for row in rows])
        return dict(zip(offered, map(float, logprobs), strict=True))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _told(
    rubric: Rubric,
    questions: Sequence[Question],
    replies: Sequence[Reply],
    keep: Keep,
    advance: Advance | None,
) -> list[Outcome]:
    """The verdicts of replies that came together, after each was handed on."""
    for question, reply in zip(questions, replies, strict=True):
        keep(question, reply)
    if advance:
        advance(len(replies))
    return [settled([reply], rubric) for reply in replies]


def open_judge(
    rubric: Rubric,
    max_length: int,
    allow_egress: Sequence[str] = (),
    parallel: int = 1,
    allowance: Allowance | None = None,
    dtype: str = "float32",
) -> Replying:
    """The judge of a rubric, its model loaded in `dtype`. `max_length` bounds the sequences that a likelihood
    judge scores; `parallel` and `allowance` are of an endpoint.

    Raises UsageError as the judges and the loading of models do.
    """
    if rubric.kind == "endpoint":
        from dpaudit.models.endpoint_judge import EndpointJudge

        return EndpointJudge(rubric, allow_egress, parallel, allowance)
    from dpaudit.models.hf_model import HFModel

    model = HFModel.load(rubric.model, dtype)
    if rubric.kind == "model":
        return ModelJudge(model, model.tokenizer, rubric)
    if rubric.adapter is not None:
        model.add_adapter(ADAPTER, adapter_folder(rubric.adapter))
    return LikelihoodJudge(model, model.tokenizer, rubric, max_length)


def adapter_folder(adapter: str) -> Path:
    """Where a rubric's adapter lies."""
    if adapter.startswith("builtin:"):
        return Path(__file__).parents[1] / "builtin" / adapter.removeprefix("builtin:")
    return Path(adapter).expanduser()
