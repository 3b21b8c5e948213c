"""Servers that speak OpenAI's protocol: one client for all, and which of their refusals are temporary."""

import email.utils
import ipaddress
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from dpaudit.errors import PartialError, UsageError

TEMPORARY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, *range(520, 530)})
TOO_LONG = (
    "context_length",
    "context length",
    "maximum context",
    "max_model_len",
    "too long",
    "maximum length",
)
UNTAKEN = (400, 403, 422)  # statuses that refuse a setting of a request; 403: log-probabilities, by OpenAI
FIRST_WAIT, LONGEST_OWN_WAIT = 0.5, 8.0  # seconds
LONGEST_WAIT = 120.0  # seconds that a server may ask to wait for
LARGEST = 256 * 2**20  # bytes of a reply
TOO_LONG_TOLD = "a text longer than the model's context"
ANSWERS = "the JSON answers of an OpenAI-compatible server"
PROTOCOL = "the URL commonly ends with /v1"


class Server:
    """One server, asked at `url` and nowhere else.

    Lines of errors name the `option` that gave the URL. `key` is read after the address is allowed;
    `key_remedy` is the remedy for a key that the server refuses, `timeout` seconds are for a whole
    reply once its headers are there, `largest` bytes at most are read of it. Raises UsageError for an invalid
    address, and for a host off this machine that `allow_egress` does not name; `sent` is what would go there.
    """

    def __init__(
        self,
        url: str,
        option: str,
        *,
        sent: str,
        allow_egress: Sequence[str],
        key: Callable[[], str | None],
        key_remedy: str,
        timeout: float,
        retries: int,
        largest: int = LARGEST,
    ) -> None:
        import openai

        from dpaudit.models.bounded_replies import Client

        host = _host_of(url, option, key_remedy)
        _check_egress(host, option, sent, allow_egress)
        self.where, self.key_remedy = f"{option}{':' if ':' in option else ''} {url}", key_remedy
        self.client = openai.OpenAI(
            base_url=url,
            api_key=key() or "none",  # the client insists on a value; a local server ignores it
            timeout=timeout,
            max_retries=retries,
            # a redirect could lead to a host that nobody allowed; so could a proxy in front of this machine
            http_client=Client(largest, follow_redirects=False, trust_env=not is_loopback(host)),
        )
        # the client takes these from the environment, and would send them to any server
        self.client.organization = self.client.project = None
        self.client._custom_headers = {}

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer to one request, `question` of the client.

        Raises UsageError for a permanent refusal and PartialError for a temporary failure, both after the
        retries. The client accepts any JSON as an answer and any text as JSON: what `question` then raises
        (AttributeError, TypeError, ValueError) passes through.
        """
        import openai

        try:
            reply = question(self.client)
        except openai.APIError as error:
            raise told(error, self.where, self.key_remedy) from error
        if isinstance(reply, str):  # not JSON
            raise (_web_page if reply.lstrip().startswith("<") else not_understood)(self.where)
        return reply


def is_about(refusal: BaseException | None, setting: str) -> bool:
    """Whether a server refuses a request for a setting that it names, and not for the length of its text."""
    import openai

    if not isinstance(refusal, openai.APIStatusError) or refusal.status_code not in UNTAKEN:
        return False
    body = str(refusal.body).lower()
    return setting in body and not any(words in body for words in TOO_LONG)


def wait_of(failure: PartialError, tried: int) -> float | None:
    """Seconds to wait before the next try, after `tried` others: as long as the server asks for, else twice
    as long each time; None where it asks for longer than LONGEST_WAIT.
    """
    headers = getattr(getattr(failure.__cause__, "response", None), "headers", {})
    asked = _asked_wait(headers.get("retry-after", ""))
    if asked is None:
        return float(min(FIRST_WAIT * 2**tried, LONGEST_OWN_WAIT))
    return asked if asked <= LONGEST_WAIT else None


def _asked_wait(header: str) -> float | None:
    """The seconds of a Retry-After header, which has them or a date; None where it has neither."""
    try:
        seconds = float(header)
    except ValueError:
        seconds = _seconds_until(header)
    return None if math.isnan(seconds) else max(0.0, seconds)


def _seconds_until(date: str) -> float:
    """NaN for what is no date; infinity for one that no calendar has."""
    try:
        parts = email.utils.parsedate_tz(date)
        return math.nan if parts is None else email.utils.mktime_tz(parts) - time.time()
    except (ValueError, OverflowError):
        return math.inf


def loss_of(failure: PartialError) -> str:
    """Why a temporary failure gave no answer, in a few words."""
    import openai

    cause = failure.__cause__
    if isinstance(cause, openai.APIStatusError):
        return f"status {cause.status_code}"
    if isinstance(cause, openai.APITimeoutError):
        return "no answer in time"
    return "a connection that broke off" if was_sent(failure) else "no connection"


def was_sent(failure: PartialError) -> bool:
    """Whether a request without an answer had reached the server, which may have worked on it."""
    import httpx2
    import openai

    unsent = httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
    causes = list(_causes(failure))
    is_lost = any(isinstance(cause, openai.APIConnectionError) for cause in causes)
    return is_lost and not any(isinstance(cause, unsent) for cause in causes)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_egress(host: str, option: str, sent: str, allowed: Sequence[str]) -> None:
    if not is_loopback(host) and host not in allowed:
        raise UsageError(
            option,
            "a server on this machine, or one that --allow-egress names",
            host,
            f"to send {sent} there, add --allow-egress {host}",
        )


def _host_of(url: str, where: str, remedy: str) -> str:
    """The host of a server's address. Raises UsageError for an invalid address, and for a password in it,
    which a page would show.
    """
    try:
        parts = urlsplit(url)
        is_usable = (
            parts.scheme in ("http", "https")
            and parts.port != 0
            and url.isascii()
            and url.isprintable()
            and " " not in url
        )
        host = parts.hostname if is_usable else None
    except ValueError:  # malformed brackets or port
        host = None
    if not host:
        raise UsageError(
            where,
            "a URL such as http://localhost:8000/v1",
            "a URL with a password" if "@" in url else url or "an empty text",
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(where, "a URL without user and password", "a URL with user or password", remedy)
    return host


def told(error: Exception, where: str, key: str) -> UsageError | PartialError:
    """The error of a failed request: a user's mistake with its remedy, or a temporary failure.

    `where` names the option and the URL, `key` what to do about a key. Nothing of a body is quoted: it may
    repeat the text.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        return _of_status(error, where, key)
    if isinstance(error, openai.APIConnectionError):
        return _of_connection(error, where)
    return not_understood(where)


class NotUnderstood(UsageError):
    """An answer that is none of the protocol."""


class WebPage(NotUnderstood):
    """HTML, which another server sends, or this one at another address."""


class TooLarge(NotUnderstood):
    """An answer of more bytes than are read."""


def not_understood(where: str) -> NotUnderstood:
    return NotUnderstood(where, ANSWERS, "answers in another format", PROTOCOL)


def _web_page(where: str) -> WebPage:
    return WebPage(
        where,
        ANSWERS,
        "a web page (HTML)",
        "name the address of its API, not of its website: it commonly ends with /v1",
    )


def _of_status(error: Any, where: str, key: str) -> UsageError | PartialError:
    status, body = int(error.status_code), str(error.body).lower()
    if status == 429 and "insufficient_quota" in body:
        return _refused(where, status, "no quota left", "raise the quota, or use another key")
    if status in TEMPORARY:
        return PartialError(f"{where} gave no answer ({status}); type the command again to continue")
    if status == 401:
        return _refused(where, status, "a key that the server does not know, or no key", key)
    if status == 403:
        return _refused(where, status, "a key that may not do this", key)
    if 300 <= status < 400:
        return _refused(
            where, status, "a redirect, which is not followed", "name the address that it leads to"
        )
    if status in (404, 405):
        return _refused(
            where, status, "no such address or model", f"check the model's name and the URL; {PROTOCOL}"
        )
    if any(words in body for words in TOO_LONG):
        return _refused(
            where,
            status,
            TOO_LONG_TOLD,
            "serve the model with a longer context (vLLM: --max-model-len), or use shorter texts",
        )
    return _refused(
        where, status, "a request that it refuses", "the server's own log says what it does not take"
    )


def _of_connection(error: Exception, where: str) -> UsageError | PartialError:
    import httpx2
    import openai

    from dpaudit.models.bounded_replies import OversizedError

    causes = list(_causes(error))
    if any(isinstance(cause, OversizedError) for cause in causes):
        return TooLarge(where, "answers of a usual size", "an answer that does not end", PROTOCOL)
    if any(isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError) for cause in causes):
        return UsageError(
            where,
            "a server with TLS and a certificate that this machine trusts",
            "no trusted TLS connection",
            "check http:// or https:// in the URL, or trust its certificate (SSL_CERT_FILE)",
        )
    if any(isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN for cause in causes):
        return UsageError(where, "a host that can be found", "an unknown host name", "check the URL")
    if any(isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL) for cause in causes):
        return UsageError(where, "a URL such as http://localhost:8000/v1", "a URL of another form")
    if any(isinstance(c, httpx2.RemoteProtocolError) and "disconnect" not in str(c) for c in causes):
        return UsageError(
            where, "a server that speaks HTTP", "another protocol", "check port and scheme in the URL"
        )
    late = "no answer in time" if isinstance(error, openai.APITimeoutError) else "no connection"
    return PartialError(
        f"{where} gave {late}; see that the server runs, then type the command again to continue"
    )


def _refused(where: str, status: int, what: str, remedy: str) -> UsageError:
    return UsageError(where, "an answer", f"{what} (HTTP {status})", remedy)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
