"""What a judge replied, as it came: the verdict in it, what it cost, and how much more may be spent."""

import math
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dpaudit.errors import PartialError
from dpaudit.findings.judgement import Asked
from dpaudit.judging import verdicts
from dpaudit.judging.rubric import Comparison, Outcome, Rubric
from dpaudit.judging.verdicts import Labels

NO_VERDICT = "no verdict in the reply"
BYTES_A_TOKEN = 3  # rather few: about 4 in English, 3 in Chinese
OVERHEAD = 16  # tokens of a chat template around one message


@dataclass(frozen=True)
class Reply:
    """One reply to one comparison."""

    text: str = ""
    fault: str = ""  # why there is nothing to read
    margin: float | None = None  # of a judge that gives a score in place of a text
    tokens_in: int | None = None  # None where nobody tells
    tokens_out: int | None = None
    own_temperature: bool = False  # the server's, which refused that of the rubric
    is_last: bool = True  # whether no further one was asked for, had it no verdict


Keep = Callable[[Comparison, Reply], None]  # takes every reply as it comes, from any thread


def dropped(comparison: Comparison, reply: Reply) -> None:
    """Keeps nothing."""


def verdict(reply: Reply, labels: Labels, tie_margin: float) -> Outcome:
    """What a reply says, or "unscored" with its reason."""
    if reply.fault:
        return Outcome("unscored", reason=reply.fault)
    if reply.margin is None:
        winner = verdicts.parse(reply.text, labels)
        return Outcome(winner, reason=NO_VERDICT if winner == "unscored" else "")
    if abs(reply.margin) <= tie_margin:
        return Outcome("tie", reply.margin)
    return Outcome("first" if reply.margin > 0 else "second", reply.margin)


def settled(replies: Sequence[Reply], rules: Rubric) -> Outcome:
    """What several replies to one comparison say: the first verdict, else that there is none."""
    outcomes = [verdict(reply, rules.labels, rules.tie_margin) for reply in replies]
    return next((found for found in outcomes if found.winner != "unscored"), outcomes[-1])


def shown(prompt: str, comparison: Comparison) -> str:
    """What a judge reads of a comparison, with delimiters of this request alone."""
    tag = secrets.token_hex(4)
    return verdicts.shown(prompt, comparison.turns, comparison.first, comparison.second, tag)


def estimate(text: str) -> int:
    """About how many tokens a request with this text has: rather more than fewer."""
    return -(-len(text.encode()) // BYTES_A_TOKEN) + OVERHEAD


def account(replies: Iterable[Sequence[Reply]], rules: Rubric) -> Asked:
    """What was asked of a judge, from its replies to each comparison."""
    of_each = [kept for kept in replies if kept]
    every = [reply for kept in of_each for reply in kept]
    reasons = Counter(found.reason for kept in of_each if (found := settled(kept, rules)).reason)
    return Asked(
        comparisons=len(of_each),
        replies=len(every),
        tokens_in=sum(reply.tokens_in or 0 for reply in every),
        tokens_out=sum(reply.tokens_out or 0 for reply in every),
        untold=sum(reply.tokens_in is None or reply.tokens_out is None for reply in every),
        own_temperature=sum(reply.own_temperature for reply in every),
        unscored=dict(sorted(reasons.items())),
    )


class Allowance:
    """The tokens that a judge may take in all; None: as many as it needs. Threads share one.

    A text is estimated first, and by what the server says of others as soon as it says more than that.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most, self._used, self._reserved = most, 0, 0
        self._ratio = 1.0  # tokens that a server counts, to those estimated: the largest seen
        self._changed = threading.Condition()

    def count(self, text: str, reply: Reply, tokens_out: int) -> None:
        """Counts a reply that came before."""
        with self._changed:
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
        """Ends a reservation; a request without a reply took nothing."""
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
