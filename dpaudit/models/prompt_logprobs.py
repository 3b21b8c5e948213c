"""Prompt log-probabilities from an OpenAI-compatible server: completions with `echo`, or vLLM's `prompt_logprobs`."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dpaudit.errors import PartialError, UsageError
from dpaudit.models import Advance
from dpaudit.models.judge import is_loopback
from dpaudit.models.secret_spans import SecretScores, Text

KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT, RETRIES = 120.0, 2
ROUNDING = 1e-3  # nats


class Endpoint:
    """A served model. Texts of canaries are sent to it, and nothing else.

    Raises UsageError for a host off this machine that `allow_egress` does not name, and for a model it does not serve.
    """

    tokenizer: Any = None  # that of its chat template, where it is at hand

    def __init__(self, url: str, model: str | None, allow_egress: Sequence[str] = ()) -> None:
        import openai

        host = _host(url)
        if not is_loopback(host) and host not in allow_egress:
            raise UsageError("--endpoint", expected="a server on this machine, or one that --allow-egress names", got=host,
                             remedy=f"to send the canaries' texts there, add --allow-egress {host}")  # fmt: skip
        self.url = url
        self.client = openai.OpenAI(
            base_url=url,
            api_key=os.environ.get(KEY_VARIABLE) or "none",  # the client insists; a local server ignores it
            timeout=TIMEOUT,
            max_retries=RETRIES,
            # a redirect could lead to a host that nobody allowed; so could a proxy in front of this machine
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=not is_loopback(host)),
        )
        self.model = self._served(model)

    def beside(self, model: str) -> "Endpoint":
        """Another model of the same server."""
        other = object.__new__(Endpoint)
        other.url, other.client = self.url, self.client
        other.model = other._served(model, "--base")
        return other

    def scores(self, texts: Sequence[Text], advance: Advance | None = None) -> list[SecretScores]:
        """What the model says of each secret, one text a request."""
        found = []
        for text in texts:
            found.append(self._score(text))
            if advance:
                advance(1)
        return found

    def _served(self, model: str | None, option: str = "--model") -> str:
        names = self._asked(lambda: [found.id for found in self.client.models.list().data]) or []
        if model in names:
            return str(model)
        if model is None and len(names) == 1:
            return str(names[0])
        raise UsageError(f"{option} {model or ''}".strip(), expected=f"one of the server's models: {', '.join(names)}",
                         got="none named" if model is None else "another", remedy=f"{option} NAME")  # fmt: skip

    def _score(self, text: Text) -> SecretScores:
        reply = self._asked(
            lambda: self.client.completions.create(
                model=self.model,
                prompt=text.text,
                max_tokens=1,  # several servers refuse 0
                temperature=0.0,
                echo=True,
                logprobs=1,
            )
        )
        pieces = _echoed(reply, text) or _echoed(self._with_prompt_logprobs(text), text)
        if pieces is None:
            raise UsageError(f"--endpoint {self.url}", expected="log-probabilities of the prompt's tokens (echo or prompt_logprobs)",
                             got="none in the reply", remedy="serve with vLLM, or audit the weights with --adapter")  # fmt: skip
        at = _overlapping(pieces, text)
        if not at or not all(_is_logprob(pieces[index][1]) for index in at):
            raise UsageError(f"--endpoint {self.url}", expected="the prompt's own tokens with their log-probabilities",
                             got="other text, or no log-probabilities")  # fmt: skip
        logprob = np.array([pieces[index][1] for index in at], dtype=np.float32)
        unknown = np.full_like(logprob, np.nan)
        return SecretScores(logprob, unknown, unknown)

    def _with_prompt_logprobs(self, text: Text) -> Any:
        """The reply to vLLM's own way of asking; None from a server that does not know it."""
        import openai

        try:
            return self._asked(
                lambda: self.client.completions.create(
                    model=self.model,
                    prompt=text.text,
                    max_tokens=1,
                    temperature=0.0,
                    extra_body={"prompt_logprobs": 1},
                ),
                openai.BadRequestError,
            )
        except openai.BadRequestError:
            return None

    def _asked(self, question: Any, passed: type[Exception] | tuple[()] = ()) -> Any:
        import openai

        try:
            return question()
        except passed:
            raise
        except openai.BadRequestError:  # a server that knows no `echo` says so like this
            return None
        except (
            AttributeError,
            TypeError,
            ValueError,
        ):  # the client takes any JSON for an answer, and any text for JSON
            raise UsageError(f"--endpoint {self.url}", expected="the answers of an OpenAI-compatible server",
                             got="others", remedy="the URL commonly ends with /v1") from None  # fmt: skip
        except openai.APIError as error:
            status = getattr(error, "status_code", None) or type(error).__name__  # a body may repeat the text
            raise PartialError(
                f"--endpoint {self.url} gave no answer ({status}); type the command again"
            ) from error


def _host(url: str) -> str:
    """The host of an endpoint. Raises UsageError for what is no URL of one, and for a password, which the page would show."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:  # brackets or a port that are none
        host = None
    if not host:
        raise UsageError("--endpoint", expected="a URL such as http://localhost:8000/v1",
                         got="one with a password" if "@" in url else f"{url:.80}")  # fmt: skip
    if parts.username is not None or parts.password is not None:
        raise UsageError("--endpoint", expected="a URL without user and password", got="one with them",
                         remedy=f"put a key into {KEY_VARIABLE}")  # fmt: skip
    return host


def _is_logprob(value: object) -> bool:
    """Whether a server may mean it: a number, above 0 by no more than rounding. NaN is told later, with all the others."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not value > ROUNDING


def _echoed(reply: Any, text: Text) -> list[tuple[str, float | None]] | None:
    """The prompt's tokens with their log-probabilities, of either kind of reply; None where it has none."""
    choices = getattr(reply, "choices", None) or []
    if not choices:
        return None
    listed = getattr(choices[0], "prompt_logprobs", None) or getattr(reply, "prompt_logprobs", None)
    if isinstance(listed, list):
        return [_actual(entry) for entry in listed]
    logprobs = getattr(choices[0], "logprobs", None)
    tokens = getattr(logprobs, "tokens", None)
    values = getattr(logprobs, "token_logprobs", None)
    if (
        not tokens
        or not values
        or not all(isinstance(token, str) for token in tokens)
        or text.secret not in "".join(tokens)
    ):
        return None
    return list(zip(map(str, tokens), values, strict=False))


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
    end, at, found = start + len(text.secret), 0, []
    for index, (token, _) in enumerate(pieces):
        if at < end and at + len(token) > start:
            found.append(index)
        at += len(token)
    return found
