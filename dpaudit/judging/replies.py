"""What a judge replied, as it came: the verdict in it, what it cost, and how much more may be spent."""

import contextlib
import json
import math
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dpaudit.errors import PartialError
from dpaudit.findings.judgement import Asked
from dpaudit.judging import verdicts
from dpaudit.judging.rubric import Form, Grading, Outcome, Question, Rubric
from dpaudit.judging.verdicts import EVEN, Labels, Winner

NO_VERDICT = "no verdict in the reply"
NO_NUMBER = "a score that is no finite number"
CUT = "JSON without a whole verdict"
REASONS, VERDICT = "reasons", "verdict"  # keys of the JSON object that `choice` asks for
BYTES_A_TOKEN = 3  # rather few: about 4 in English, 3 in Chinese
OVERHEAD = 16  # tokens of a chat template around one message


@dataclass(frozen=True)
class Reply:
    """One reply to one question."""

    text: str = ""
    fault: str = ""  # why there is nothing to read
    margin: float | None = None  # of a judge that gives a score in place of a text
    tokens_in: int | None = None  # None where nobody tells
    tokens_out: int | None = None
    own_temperature: bool = False  # the server's, which refused that of the rubric
    is_last: bool = True  # whether no further one was asked for, had it no verdict
    form: Form = "text"  # of the verdict that was asked for
    logprobs: dict[str, float] | None = None  # verdict -> nats; None where the text alone tells


@dataclass(frozen=True)
class Lost:
    """A try without a reply, after which the question is asked again, by this command or the next one."""

    reason: str


Keep = Callable[[Question, Reply | Lost], None]  # takes every reply and loss as it comes, from any thread


def dropped(question: Question, reply: Reply | Lost) -> None:
    """Keeps nothing."""


def verdict(reply: Reply, labels: Labels, tie_margin: float) -> Outcome:
    """What a reply says, or "unscored" with its reason."""
    if reply.fault:
        return Outcome("unscored", reason=reply.fault)
    if reply.margin is not None:
        return _by_margin(reply.margin, tie_margin, "score")
    if reply.logprobs and (weighed := _by_logprobs(reply.logprobs, tie_margin)):
        return weighed
    return _by_text(reply, labels)


def _by_margin(margin: float, tie_margin: float, form: str) -> Outcome:
    if not math.isfinite(margin):
        return Outcome("unscored", reason=NO_NUMBER)
    if abs(margin) <= tie_margin:
        return Outcome("tie", margin, form=form)
    return Outcome("first" if margin > 0 else "second", margin, form=form)


def _by_logprobs(logprobs: Mapping[str, float], tie_margin: float) -> Outcome | None:
    """The likeliest verdict; a tie where several that prefer neither are; None where that cannot be told."""
    if not all(map(math.isfinite, logprobs.values())):
        return None
    most = max(logprobs.values())
    best = [verdict for verdict, logprob in logprobs.items() if logprob == most]
    margin = logprobs["first"] - logprobs["second"] if {"first", "second"} <= logprobs.keys() else None
    if set(best) <= {"first", "second"} and margin is not None:
        return _by_margin(margin, tie_margin, "logprobs")
    if set(best) <= set(EVEN):
        return Outcome(cast(Winner, best[0] if len(best) == 1 else "tie"), margin, form="logprobs")
    return None


def _by_text(reply: Reply, labels: Labels) -> Outcome:
    """The verdict of a JSON object as `choice` asks for it, else the last one in the text."""
    told = (verdicts.unthought(reply.text) or "").strip().removeprefix("```json").strip("`\n ")
    if reply.form == "choice" and told.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(told)
            winner = verdicts.parse(str(said.get(VERDICT)), labels) if isinstance(said, dict) else "unscored"
            if winner != "unscored":
                return Outcome(winner, form="choice")
        return Outcome("unscored", reason=CUT)
    winner = verdicts.parse(reply.text, labels)
    return Outcome(winner, reason=NO_VERDICT if winner == "unscored" else "", form="text")


def settled(replies: Sequence[Reply], rules: Rubric) -> Outcome:
    """What several replies to one question say: the first verdict, else that there is none."""
    tie_margin = 0.0 if rules.criteria else rules.tie_margin  # which is that of scores
    outcomes = [verdict(reply, rules.labels, tie_margin) for reply in replies]
    return next((found for found in outcomes if found.winner != "unscored"), outcomes[-1])


def shown(rules: Rubric, question: Question) -> str:
    """What a judge reads of a question, with delimiters of this request alone."""
    if isinstance(question, Grading):
        texts = {"answer": question.answer, "criterion": question.criterion}
    else:
        texts = {"first": question.first, "second": question.second}
    texts["question"] = verdicts.question_of(question.turns)
    text = verdicts.shown(rules.prompt, texts, secrets.token_hex(4), rules.labels)
    return f"{text}\n\n{_object(rules.labels)}" if rules.verdict == "choice" else text


def schema(labels: Labels) -> dict[str, Any]:
    """The JSON object that `choice` asks for, as a JSON schema: reasons first, then one of the labels."""
    reasons, verdict = {"type": "string"}, {"type": "string", "enum": list(labels.offered().values())}
    return {
        "type": "object",
        "properties": {REASONS: reasons, VERDICT: verdict},
        "required": [REASONS, VERDICT],
        "additionalProperties": False,
    }


def _object(labels: Labels) -> str:
    """The same as an example, in no language."""
    verdict = " | ".join(json.dumps(label, ensure_ascii=False) for label in labels.offered().values())
    return f'JSON: {{"{REASONS}": "...", "{VERDICT}": {verdict}}}'


def estimate(text: str) -> int:
    """About how many tokens a request with this text has: rather more than fewer."""
    return -(-len(text.encode()) // BYTES_A_TOKEN) + OVERHEAD


def account(replies: Iterable[Sequence[Reply]], rules: Rubric, lost: Iterable[Lost] = ()) -> Asked:
    """What was asked of a judge, from its replies to each question and the tries that had none."""
    of_each = [kept for kept in replies if kept]
    every = [reply for kept in of_each for reply in kept]
    outcomes = [settled(kept, rules) for kept in of_each]
    reasons = Counter(found.reason for found in outcomes if found.reason)
    forms = Counter(found.form for found in outcomes if found.winner != "unscored")
    failed = Counter(settled([reply], rules).reason for reply in every)
    failed += Counter(one.reason for one in lost)
    del failed[""]
    return Asked(
        comparisons=len(of_each),
        replies=len(every),
        tokens_in=sum(reply.tokens_in or 0 for reply in every),
        tokens_out=sum(reply.tokens_out or 0 for reply in every),
        untold=sum(reply.tokens_in is None or reply.tokens_out is None for reply in every),
        own_temperature=sum(reply.own_temperature for reply in every),
        forms=dict(sorted(forms.items())),
        unscored=dict(sorted(reasons.items())),
        failed=dict(sorted((failed - reasons).items())),
    )


class Allowance:
    """The tokens that a judge may take in all; None: as many as it needs. Threads share one.

    A text is estimated first, and by what the server says of others as soon as it says more than that.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most, self._used, self._reserved = most, 0, 0
        self._ratio = 1.0  # tokens that a server counts, to those estimated: the largest seen
        self._changed = threading.Condition()
        self.before: list[Reply] = []  # those that came before this command

    def count(self, text: str, reply: Reply, tokens_out: int) -> None:
        """Counts a reply that came before."""
        with self._changed:
            self.before.append(reply)
            self._take(text, reply, self._at_most(text, tokens_out))

    def reserve(self, text: str, tokens_out: int) -> int:
        """Holds the tokens of a request and its reply, and says how many; waits for requests under way where
        only they might leave room.

        Raises PartialError where the request could pass what is allowed.
        """
        with self._changed:
            while self._most is not None:
                if self._used + self._reserved + self._at_most(text, tokens_out) <= self._most:
                    break
                if not self._reserved:
                    raise PartialError(
                        f"the judge: the next request could pass {self._most} tokens, {self._used} are used; "
                        "all replies are kept: allow more with --max-tokens-total"
                    )
                self._changed.wait()
            reserved = self._at_most(text, tokens_out)
            self._reserved += reserved
            return reserved

    def settle(self, reserved: int, text: str, reply: Reply | None) -> None:
        """Ends a reservation; without a reply nothing was taken."""
        with self._changed:
            self._reserved -= reserved
            if reply is not None:
                self._take(text, reply, reserved)
            self._changed.notify_all()

    def _at_most(self, text: str, tokens_out: int) -> int:
        return math.ceil(self._ratio * estimate(text)) + tokens_out

    def _take(self, text: str, reply: Reply, at_most: int) -> None:
        """Adds what a reply took: `at_most` where the server does not tell."""
        if reply.tokens_in is None or reply.tokens_out is None:
            self._used += at_most
            return
        self._used += reply.tokens_in + reply.tokens_out
        self._ratio = max(self._ratio, reply.tokens_in / estimate(text))
