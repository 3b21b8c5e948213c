"""Prompt log-probabilities from an OpenAI-compatible server: completions with `echo`, or vLLM's
`prompt_logprobs`.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dpaudit.errors import PartialError, UsageError
from dpaudit.models import served
from dpaudit.models.language_model import Advance
from dpaudit.models.secret_spans import Declined, SecretScores, Text
from dpaudit.system import threads

KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT, RETRIES = 120.0, 2
AT_ONCE = 8  # requests: enough to fill a server's batches
ROUNDING = 1e-3  # nats
WAYS: tuple[dict[str, Any], ...] = ({"echo": True, "logprobs": 1}, {"extra_body": {"prompt_logprobs": 1}})
OF_TEXT = (400, 413, 422)  # statuses that refuse a text, and not whoever asks or where
FAULT = 500  # some servers fail internally where they lack `echo`


class Endpoint:
    """A served model. Texts of canaries are sent to it, and nothing else.

    Raises UsageError for a host off this machine that `allow_egress` does not name, and for a model it does
    not serve.
    """

    tokenizer: Any = None  # a server shows none
    _ways: tuple[dict[str, Any], ...] = WAYS

    def __init__(self, url: str, model: str | None, allow_egress: Sequence[str] = ()) -> None:
        self.server = served.Server(
            url,
            "--endpoint",
            sent="the canaries' texts",
            allow_egress=allow_egress,
            key=lambda: os.environ.get(KEY_VARIABLE),
            key_remedy=f"export {KEY_VARIABLE}=... with a key for it",
            timeout=TIMEOUT,
            retries=RETRIES,
        )
        self.model = self._served(model)

    def beside(self, model: str) -> "Endpoint":
        """Another model of the same server."""
        other = object.__new__(Endpoint)
        other.server = self.server
        other.model = other._served(model, "--base")
        return other

    def scores(self, texts: Sequence[Text], advance: Advance | None = None) -> list[SecretScores]:
        """The model's scores of each secret, one text a request, AT_ONCE requests at a time.

        The first text is asked alone, in every way until one works; the others are asked in that way. Raises
        Declined for a text that the server refuses.
        """
        known = []
        if len(self._ways) > 1 and texts:
            known = [self._first(texts[0])]
            if advance:
                advance(1)
        return [*known, *threads.ordered(self._score, texts[len(known) :], AT_ONCE, advance)]

    def _served(self, model: str | None, option: str = "--model") -> str:
        names = self._asked(lambda client: [listed.id for listed in client.models.list().data])
        if model in names:
            return str(model)
        if model is None and len(names) == 1:
            return str(names[0])
        raise UsageError(
            f"{option} {model or ''}".strip(),
            f"one of the server's models: {', '.join(names)}",
            "no name" if model is None else "a model that it does not serve",
            f"{option} NAME",
        )

    def _first(self, text: Text) -> SecretScores:
        """The scores in the first way of asking that the server answers with log-probabilities, which is kept
        for all other texts.

        Whatever refuses one way, the others are tried. Where none works, the error of a request for nothing
        more than a completion is raised; where that works, the last error that may pass by itself.
        """
        passing = None
        for way in self._ways:
            try:
                pieces = self._pieces(text, way)
            except UsageError as error:
                if not _is_status(error):
                    raise
                continue
            except PartialError as error:
                if not _is_status(error):
                    raise
                passing = passing if _is_status(error, FAULT) else error
                continue
            if pieces is not None:
                self._ways = (way,)
                return self._at_secret(pieces, text)
        self._complete(text, {})
        raise passing or UsageError(
            self.server.where,
            "log-probabilities of the prompt's tokens (echo or prompt_logprobs)",
            "no log-probabilities in the reply",
            "serve with vLLM, or audit the weights with --adapter",
        )

    def _score(self, text: Text) -> SecretScores:
        """The scores in the way of asking that worked before."""
        (way,) = self._ways
        return self._at_secret(self._pieces(text, way) or [], text)

    def _pieces(self, text: Text, way: dict[str, Any]) -> list[tuple[str, float | None]] | None:
        """The prompt's tokens with their log-probabilities; None where the reply has none."""
        reply = self._complete(text, way)
        try:
            return _echoed(reply, text)
        except ValueError:
            raise UsageError(
                self.server.where,
                "one answer to one text, with as many log-probabilities as tokens",
                "another number",
                "see that nothing between here and the server joins or reorders requests",
            ) from None

    def _at_secret(self, pieces: list[tuple[str, float | None]], text: Text) -> SecretScores:
        at = _overlapping(pieces, text)
        if not at or not all(_is_logprob(pieces[index][1]) for index in at):
            raise UsageError(
                self.server.where,
                "the prompt's own tokens with their log-probabilities",
                "tokens of another text, or no log-probabilities",
            )
        logprob = np.array([pieces[index][1] for index in at], dtype=np.float32)
        unknown = np.full_like(logprob, np.nan)
        return SecretScores(logprob, unknown, unknown)

    def _complete(self, text: Text, asked: dict[str, Any]) -> Any:
        """The reply to one request. Raises Declined where the server refuses this text, and as `_asked`."""
        try:
            return self._asked(
                lambda client: client.completions.create(
                    model=self.model,
                    prompt=text.text,
                    max_tokens=1,  # several servers refuse 0
                    temperature=0.0,
                    **asked,
                )
            )
        except UsageError as error:
            if _is_status(error, *OF_TEXT):
                raise Declined(error.where, error.expected, error.got, error.remedy) from error.__cause__
            raise

    def _asked(self, question: Callable[[Any], Any]) -> Any:
        """As `Server.ask`; an answer of another shape raises `not_understood`."""
        try:
            return self.server.ask(question)
        except (AttributeError, TypeError, ValueError):
            raise served.not_understood(self.server.where) from None


def _is_status(error: Exception, *statuses: int) -> bool:
    """Whether a server answered with an error status, or with one of `statuses`."""
    status = getattr(error.__cause__, "status_code", None)
    return status is not None and (not statuses or status in statuses)


def _is_logprob(value: object) -> bool:
    """Whether a value can be a log-probability: a number, above 0 by no more than rounding. NaN is reported
    later, with all the others.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and not value > ROUNDING


def _echoed(reply: Any, text: Text) -> list[tuple[str, float | None]] | None:
    """The prompt's tokens with their log-probabilities, of either kind of reply; None where it has none.

    Raises ValueError for a reply to another number of texts, and for tokens and values that do not pair up.
    """
    choices = getattr(reply, "choices", None) or []
    if not choices:
        return None
    if len(choices) != 1 or getattr(choices[0], "index", None) not in (None, 0):
        raise ValueError("not one answer to one text")
    listed = getattr(choices[0], "prompt_logprobs", None) or getattr(reply, "prompt_logprobs", None)
    if isinstance(listed, list):
        return [_actual(entry) for entry in listed]
    logprobs = getattr(choices[0], "logprobs", None)
    tokens = getattr(logprobs, "tokens", None)
    values = getattr(logprobs, "token_logprobs", None)
    if not tokens or not values or not all(isinstance(token, str) for token in tokens):
        return None
    if text.secret not in "".join(tokens):
        return None
    return list(zip(map(str, tokens), values, strict=True))


def _actual(entry: Any) -> tuple[str, float | None]:
    """The token that stands there: vLLM lists it first, the more probable ones after it."""
    if not isinstance(entry, dict) or not entry:
        return "", None
    first = next(iter(entry.values()))
    if not isinstance(first, dict):
        return "", None
    return str(first.get("decoded_token") or ""), first.get("logprob")


def _overlapping(pieces: list[tuple[str, float | None]], text: Text) -> list[int]:
    """The places of the tokens that overlap the secret's last occurrence in what they spell."""
    spelled = "".join(token for token, _ in pieces)
    start = spelled.rfind(text.secret)
    if start < 0:
        return []
    end, at, places = start + len(text.secret), 0, []
    for index, (token, _) in enumerate(pieces):
        if at < end and at + len(token) > start:
            places.append(index)
        at += len(token)
    return places
