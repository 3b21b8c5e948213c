"""A judge behind an OpenAI-compatible server, asked several questions at a time."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dpaudit.errors import PartialError, UsageError
from dpaudit.judging import weighed
from dpaudit.judging.replies import NO_VERDICT, Allowance, Keep, Lost, Reply, dropped, schema, settled, shown
from dpaudit.judging.rubric import Form, Outcome, Question, Rubric, served_key
from dpaudit.judging.verdicts import Labels
from dpaudit.judging.weighed import Token
from dpaudit.models import served
from dpaudit.models.language_model import Advance
from dpaudit.system import threads

PARALLEL = 8
LIKELIEST = 20  # tokens at each place, the most that OpenAI and vLLM give
ROUNDING = 1e-3  # nats that a log-probability may be above 0
FEWER = 5  # the most that others give
LEAST_BYTES, BYTES_OF_TOKEN, BYTES_OF_LIKELIEST = 2**20, 64, 2**13  # of a reply that is read whole
UNREAD = 40  # questions without any verdict after which no more are asked
OF_CHOICE = ("response_format", "json_schema", "json schema", "grammar", "guided", "structured")
NOT_UNDERSTOOD: dict[type[UsageError], str] = {
    served.NotUnderstood: "a reply in another format",
    served.WebPage: "a web page",
    served.TooLarge: "a reply that is too large",
}
READ_AGAIN = "say so in prompt, set verdict: choice, or raise max_new_tokens; replies are kept"
SEND_WHOLE = "replies do not come whole: look at the server, and raise max_new_tokens; replies are kept"


@dataclass(frozen=True)
class Decoding:
    """The settings of a request that some models refuse."""

    length_key: Literal["max_tokens", "max_completion_tokens"]
    temperature: float | None  # None: the server's own
    form: Form
    labels: Labels
    likeliest: int = LIKELIEST

    def without(self, refusal: BaseException | None) -> "Decoding | None":
        """As a server that refuses one of these settings by name takes them; None for another refusal."""
        if self.length_key == "max_tokens" and served.is_about(refusal, "max_tokens"):
            return replace(self, length_key="max_completion_tokens")
        if self.temperature is not None and served.is_about(refusal, "temperature"):
            return replace(self, temperature=None)
        if self.form == "choice" and any(served.is_about(refusal, word) for word in OF_CHOICE):
            return replace(self, form="text")
        if self.form == "logprobs" and served.is_about(refusal, "logprobs"):
            fewer = replace(self, likeliest=FEWER)
            return fewer if self.likeliest > FEWER else replace(self, form="text")
        return None

    def settings(self, tokens: int) -> dict[str, Any]:
        asked: dict[str, Any] = {self.length_key: tokens}
        if self.temperature is not None:
            asked["temperature"] = self.temperature
        if self.form == "choice":
            named = {"name": "verdict", "strict": True, "schema": schema(self.labels)}
            asked["response_format"] = {"type": "json_schema", "json_schema": named}
        if self.form == "logprobs":
            asked |= {"logprobs": True, "top_logprobs": self.likeliest}
        return asked


class EndpointJudge:
    """Asks a server, `parallel` requests at a time, with a budget of `retries` for each question.

    A reply that cannot be read, or holds no verdict, is asked for again within the budget, then it is
    "unscored" with its reason. The first question is asked alone: what the server refuses for good it refuses
    once, and which settings and which form of a verdict it takes is learned once.

    Raises UsageError for a host off this machine that `allow_egress` does not name, for a key that is not
    set, and for a permanent refusal; PartialError where a temporary one outlasts the budget, or where the
    `allowance` of tokens ends. Requests under way are waited for and kept before that.
    """

    def __init__(
        self,
        rubric: Rubric,
        allow_egress: Sequence[str] = (),
        parallel: int = PARALLEL,
        allowance: Allowance | None = None,
    ) -> None:
        key_remedy = "name a variable with a key for it in api_key_env"
        if rubric.api_key_env:
            key_remedy = f"export {rubric.api_key_env}=... with a key for it"
        self.rubric, self.parallel = rubric, parallel
        self._allowance = allowance or Allowance()
        self._decoding = Decoding(rubric.max_tokens_as, rubric.temperature, rubric.verdict, rubric.labels)
        self._is_understood = False
        self._unread = 0  # questions, before the first verdict
        self._is_read = False
        self._ended = threading.Event()
        self.server = served.Server(
            rubric.base_url,
            f"rubric {rubric.name}: base_url",
            sent="prompts and answers",
            allow_egress=allow_egress,
            key=lambda: served_key(rubric),
            key_remedy=key_remedy,
            timeout=rubric.timeout,
            retries=0,  # counted here, where a reply that cannot be read counts too
            largest=LEAST_BYTES
            + rubric.max_new_tokens
            * (BYTES_OF_LIKELIEST if rubric.verdict == "logprobs" else BYTES_OF_TOKEN),
        )

    def ask_many(
        self, questions: Sequence[Question], keep: Keep = dropped, advance: Advance | None = None
    ) -> list[Outcome]:
        errors: list[UsageError | PartialError] = []
        self._ended.clear()

        def asked(question: Question) -> Outcome:
            if self._ended.is_set():
                return Outcome("unscored")
            try:
                outcome = self._ask(question, keep)
                self._require_readable(outcome)
            except (UsageError, PartialError) as error:
                errors.append(error)
                self._ended.set()
                return Outcome("unscored")
            if advance:
                advance(1)
            return outcome

        outcomes = [asked(question) for question in questions[:1]]
        outcomes += threads.ordered(asked, questions[1:], self.parallel)
        if errors:
            raise errors[0]
        return outcomes

    def _require_readable(self, outcome: Outcome) -> None:
        """Raises UsageError where no reply to the first UNREAD questions, and none before, held a verdict."""
        self._is_read = self._is_read or outcome.winner != "unscored"
        if self._is_read:
            return
        self._unread += 1
        if self._unread < UNREAD:
            return
        self._is_read = any(
            settled([reply], self.rubric).winner != "unscored" for reply in self._allowance.before
        )
        if not self._is_read:
            labels = " or ".join(self.rubric.labels.offered().values())
            raise UsageError(
                f"rubric {self.rubric.name}",
                f"a verdict in a reply, {labels} alone on its last line",
                f"none from {UNREAD} questions, the last time {outcome.reason}",
                READ_AGAIN if outcome.reason == NO_VERDICT else SEND_WHOLE,
            )

    def _ask(self, question: Question, keep: Keep) -> Outcome:
        text, outcome = shown(self.rubric, question), Outcome("unscored", reason=NO_VERDICT)
        for tried in range(self.rubric.retries + 1):
            reply = self._reply(text, tried, lambda lost: keep(question, lost))
            if reply is not None:
                keep(question, replace(reply, is_last=tried == self.rubric.retries))
                outcome = settled([reply], self.rubric)
            if outcome.winner != "unscored" or self._ended.is_set():
                break
        return outcome

    def _reply(self, text: str, tried: int, keep: Callable[[Lost], None]) -> Reply | None:
        """One reply within the allowance; None after a temporary failure that was waited out."""
        reply, lost, reserved = None, None, self._allowance.reserve(text, self.rubric.max_new_tokens)
        try:
            reply = self._sent(text, tried)
            return reply
        except PartialError as error:
            failure, lost = error, Reply() if served.was_sent(error) else None
        finally:
            self._allowance.settle(reserved, text, reply or lost)
        keep(Lost(served.loss_of(failure)))
        wait = served.wait_of(failure, tried)
        if tried == self.rubric.retries or wait is None:
            raise failure
        self._ended.wait(wait)
        return None

    def _sent(self, text: str, tried: int) -> Reply:
        decoding = self._decoding
        try:
            answer = self._completed(text, decoding)
        except served.NotUnderstood as error:
            if not self._is_understood and tried == self.rubric.retries:
                raise  # it never spoke the protocol: the address is wrong
            return Reply(fault=NOT_UNDERSTOOD[type(error)])
        except (ValueError, RecursionError):
            return Reply(fault="a reply that is no whole JSON")
        except UsageError as error:
            other = decoding.without(error.__cause__)
            if other is None:
                raise
            self._decoding = other
            return self._sent(text, tried)
        reply = _read(answer, decoding)
        self._is_understood = self._is_understood or not reply.fault
        return replace(reply, own_temperature=decoding.temperature != self.rubric.temperature)

    def _completed(self, text: str, decoding: Decoding) -> Any:
        return self.server.ask(
            lambda client: client.chat.completions.create(
                model=self.rubric.model,
                messages=[{"role": "user", "content": text}],
                **decoding.settings(self.rubric.max_new_tokens),
            )
        )


def _read(answer: Any, decoding: Decoding) -> Reply:
    """The text of a chat completion, what it took, and how likely each verdict was where the server tells; a
    fault where it has another shape.
    """
    usage = getattr(answer, "usage", None)
    tokens_in, tokens_out = (_count(usage, key) for key in ("prompt_tokens", "completion_tokens"))
    choices = getattr(answer, "choices", None)
    first = choices[0] if isinstance(choices, list) and choices else None
    said = getattr(getattr(first, "message", None), "content", None)
    # half a surrogate, which JSON may hold, is no text
    text = said.encode("utf-8", "replace").decode() if isinstance(said, str) else ""
    fault = "" if text.strip() else "an empty reply" if first is not None else "a reply without choices"
    logprobs = weighed.weigh(_tokens(first), decoding.labels) if decoding.form == "logprobs" else None
    return Reply(
        text, fault, tokens_in=tokens_in, tokens_out=tokens_out, form=decoding.form, logprobs=logprobs
    )


def _tokens(choice: Any) -> list[Token]:
    """The tokens of a reply with the likeliest ones at each place; none where they have another shape."""
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    try:
        return [
            Token(*_token(one), tuple(_token(other) for other in one.top_logprobs or ()))
            for one in content or ()
        ]
    except (AttributeError, TypeError, ValueError):
        return []


def _token(told: Any) -> tuple[bytes, float]:
    raw = told.token.encode() if told.bytes is None else bytes(told.bytes)
    if type(told.logprob) not in (int, float) or not -math.inf < told.logprob <= ROUNDING:
        raise ValueError("no log-probability")
    return raw, min(0.0, float(told.logprob))


def _count(usage: Any, key: str) -> int | None:
    """The tokens that a server tells; None where it does not, and for none: no text has none."""
    value = getattr(usage, key, None)
    return value if type(value) is int and value > 0 else None
