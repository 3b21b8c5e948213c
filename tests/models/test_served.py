"""What a server refuses for good is a mistake with its remedy, exit code 2; what may pass by itself is work
left over, exit code 3.
"""

import json
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import openai
import pytest

from dpaudit.data.corpus import Turn
from dpaudit.errors import PartialError, UsageError
from dpaudit.judging.rubric import Comparison, Rubric
from dpaudit.models import prompt_logprobs, served
from dpaudit.models.endpoint_judge import EndpointJudge
from dpaudit.models.prompt_logprobs import Endpoint
from dpaudit.models.secret_spans import Text

WORDS = "Ilse Mopana takes calazole"
TEXT = Text(f"{WORDS}. The code is amber tulip", "amber tulip")
ASK = "{question} [[A]] {first} [[B]] {second}"
PAIR = Comparison((Turn("user", WORDS),), "a", "b")
CONTEXT = {
    "error": {
        "message": f"This model's maximum context length is 16 tokens: {WORDS}",
        "code": "context_length_exceeded",
    }
}
QUOTA = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}


def coded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


class Server(ThreadingHTTPServer):
    """Answers POST by `status` and `body`, or by what `answer` says of the request."""

    status, body, kind = 200, b"{}", "application/json"
    answer: Any = None
    asked = 0

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.headers: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def reply(self, status: int, body: Any) -> None:
        self.status, self.body = status, coded(body)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send(200, b'{"object": "list", "data": [{"id": "m", "object": "model"}]}', "application/json")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        self.server.headers.append(str(self.headers))
        if self.server.answer is None:
            self.send(self.server.status, self.server.body, self.server.kind)
        elif (answer := self.server.answer(asked)) is not None:  # else the connection ends here
            self.send(answer[0], coded(answer[1]), self.server.kind)

    def send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(prompt_logprobs, "RETRIES", 0)
    running = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def ask_judge(url: str) -> Any:
    rubric = Rubric("remote", "Remote", "endpoint", model="m", prompt=ASK, base_url=url, retries=0)
    return EndpointJudge(rubric).ask_many([PAIR])


def ask_scores(url: str) -> Any:
    return Endpoint(url, "m").scores([TEXT])


ASKERS = [pytest.param(ask_judge, id="judge"), pytest.param(ask_scores, id="verify")]
FOR_GOOD = [
    (401, {}, "a key that the server does not know", ""),
    (403, {}, "a key that may not", ""),
    (404, {}, "no such address or model", "ends with /v1"),
    (405, {}, "no such address", "URL"),
    (400, CONTEXT, "longer than the model's context", "longer context"),
    (413, CONTEXT, "longer than", "longer context"),
    (402, {}, "a request that it refuses", "log"),
    (501, {}, "a request that it refuses", "log"),
    (307, {}, "a redirect", "address"),
    (429, QUOTA, "no quota left", "another key"),
]


@pytest.mark.parametrize("ask", ASKERS)
@pytest.mark.parametrize(("status", "body", "got", "remedy"), FOR_GOOD)
def test_a_refusal_for_good_is_told_as_what_it_is(
    ask: Any, status: int, body: dict[str, Any], got: str, remedy: str, server: Server
) -> None:
    server.reply(status, body)
    with pytest.raises(UsageError) as caught:
        ask(server.url)
    told = str(caught.value)
    assert got in caught.value.got and str(status) in told and remedy in caught.value.remedy
    assert caught.value.remedy and "type the command again" not in told and "Mopana" not in told


@pytest.mark.parametrize("ask", ASKERS)
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 524])
def test_what_may_pass_is_work_left_over(ask: Any, status: int, server: Server) -> None:
    server.reply(status, {"error": {"message": WORDS}})
    with pytest.raises(PartialError, match=f"gave no answer .{status}.; type the command again") as caught:
        ask(server.url)
    assert "Mopana" not in str(caught.value)


@pytest.mark.parametrize("ask", ASKERS)
def test_a_page_in_place_of_an_answer(ask: Any, server: Server) -> None:
    server.reply(200, b"<html>")
    server.kind = "text/html"
    with pytest.raises(
        UsageError,
        match=r"OpenAI-compatible server, got a web page .HTML.; name the address of its API",
    ):
        ask(server.url)


@pytest.mark.parametrize("ask", ASKERS)
def test_connections_that_never_come_about(ask: Any, server: Server) -> None:
    with pytest.raises(UsageError, match=r"TLS and a certificate .* check http:// or https://"):
        ask(server.url.replace("http:", "https:"))

    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(10000)
            self.request.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(UsageError, match="a server that speaks HTTP"):
            ask(f"http://127.0.0.1:{other.server_address[1]}/v1")
        other.shutdown()


@pytest.mark.parametrize("ask", ASKERS)
def test_a_server_that_is_not_there_or_hangs_up_may_come_back(ask: Any) -> None:
    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(10000)

    with socketserver.TCPServer(("127.0.0.1", 0), Silent) as silent:
        threading.Thread(target=silent.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{silent.server_address[1]}/v1"
        with pytest.raises(PartialError, match="no connection"):
            ask(url)
        silent.shutdown()
    with pytest.raises(PartialError, match="see that the server runs, then type the command again"):
        ask(url)


@pytest.mark.parametrize(
    ("number", "kind"), [(socket.EAI_NONAME, UsageError), (socket.EAI_AGAIN, PartialError)]
)
def test_a_name_that_nobody_knows_is_a_mistake_and_a_resolver_that_is_down_is_none(
    number: int, kind: type[Exception]
) -> None:
    error = openai.APIConnectionError(request=httpx2.Request("POST", "http://nowhere.invalid/v1"))
    error.__cause__ = socket.gaierror(number, "x")
    assert isinstance(served.told(error, "--endpoint URL", "KEY"), kind)


def busy(asked_wait: str | None) -> PartialError:
    """A failure of a server that asks to wait so long."""
    headers = {} if asked_wait is None else {"Retry-After": asked_wait}
    response = httpx2.Response(429, headers=headers, request=httpx2.Request("POST", "http://x/v1"))
    failure = PartialError("busy")
    failure.__cause__ = openai.APIStatusError("busy", response=response, body=None)
    return failure


@pytest.mark.parametrize(
    ("asked_wait", "tried", "wait"),
    [
        (None, 0, 0.5),
        (None, 2, 2.0),
        (None, 50, 8.0),
        ("later", 1, 1.0),
        ("nan", 0, 0.5),
        ("0", 5, 0.0),
        ("-3", 0, 0.0),
        ("1.5", 3, 1.5),
        ("120", 0, 120.0),
        ("121", 0, None),
        ("inf", 0, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0.0),
        ("Wed, 21 Oct 2095 07:28:00 GMT", 0, None),
        ("Mon, 01 Jan 99999 00:00:00 GMT", 0, None),
    ],
)
def test_a_server_is_waited_for_as_it_asks(asked_wait: str | None, tried: int, wait: float | None) -> None:
    assert served.wait_of(busy(asked_wait), tried) == wait


def test_nothing_of_the_environment_is_sent_but_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, f"X-Own: private-{name}")
    server.reply(404, {})
    for ask in (ask_judge, ask_scores):
        with pytest.raises(UsageError):
            ask(server.url)
    assert len(server.headers) >= 2 and "private-" not in " ".join(server.headers)


def test_a_date_to_wait_for_is_seconds_from_now() -> None:
    wait = served.wait_of(busy(formatdate(time.time() + 30, usegmt=True)), 0)
    assert wait is not None and 25 < wait <= 30


def fails_on_echo(asked: dict[str, Any]) -> tuple[int, Any]:
    """As servers that fail within where they know no `echo`; `prompt_logprobs` they take for nothing."""
    choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
    body = {"id": "c", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
    return (500, {}) if asked.get("echo") else (200, body)


def fails_on_log_probs(asked: dict[str, Any]) -> tuple[int, Any]:
    return (500, {}) if asked.get("prompt_logprobs") else fails_on_echo(asked)


def knows_prompt_logprobs(asked: dict[str, Any]) -> tuple[int, Any]:
    status, body = fails_on_echo(asked)
    if asked.get("prompt_logprobs"):
        listed = [None, *({"1": {"logprob": -1.0, "decoded_token": piece}} for piece in (" amber", " tulip"))]
        body["choices"][0]["prompt_logprobs"] = listed
    return status, body


@pytest.mark.parametrize("answer", [fails_on_echo, fails_on_log_probs])
def test_a_server_that_fails_on_echo_alone_has_no_log_probabilities(answer: Any, server: Server) -> None:
    server.answer = answer
    with pytest.raises(UsageError, match=r"log-probabilities of the prompt's tokens .* serve with vLLM"):
        ask_scores(server.url)


def test_a_way_that_fails_is_not_tried_for_every_text(server: Server) -> None:
    server.answer = knows_prompt_logprobs
    scores = Endpoint(server.url, "m").scores([TEXT] * 5)
    assert [list(one.logprob) for one in scores] == [[-1.0, -1.0]] * 5
    assert server.asked == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422, 429, 500, 501, 503])
def test_whatever_refuses_echo_the_other_way_is_tried(status: int, server: Server) -> None:
    def answer(asked: dict[str, Any]) -> tuple[int, Any]:
        return (status, {}) if asked.get("echo") else knows_prompt_logprobs(asked)

    server.answer = answer
    (found,) = ask_scores(server.url)
    assert list(found.logprob) == [-1.0, -1.0]


def test_a_server_that_is_busy_is_not_said_to_lack_log_probabilities(server: Server) -> None:
    def answer(asked: dict[str, Any]) -> tuple[int, Any]:
        return (503, {}) if asked.get("echo") else fails_on_echo(asked)

    server.answer = answer
    with pytest.raises(PartialError, match="503"):
        ask_scores(server.url)


# ---- many texts


def numbered(count: int) -> list[Text]:
    return [Text(f"{WORDS}. The code is amber{number}x", f"amber{number}x") for number in range(count)]


def echoes(asked: dict[str, Any]) -> tuple[int, Any]:
    """The words of a text and a completion behind them; the log-probability of a code is less its number."""
    words = re.findall(r"\s?\S+", asked["prompt"])
    values = [None, *(-1.0 for _ in words[2:]), -float(number_of(asked)), -0.5]
    logprobs = {"tokens": [*words, " x"], "token_logprobs": values, "top_logprobs": None, "text_offset": []}
    choice = {"index": 0, "text": " x", "finish_reason": "length", "logprobs": logprobs}
    return 200, {"id": "c", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}


def number_of(asked: dict[str, Any]) -> int:
    return int(re.findall(r"amber(\d+)x", asked["prompt"])[0])


def told_by(server: Server, count: int) -> list[float]:
    return [float(one.logprob[0]) for one in Endpoint(server.url, "m").scores(numbered(count))]


def test_scores_keep_the_order_of_the_texts_whatever_order_answers_come_in(server: Server) -> None:
    lock, at_once, most, done = threading.Lock(), 0, 0, []

    def answer(asked: dict[str, Any]) -> tuple[int, Any]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002 * (23 - number_of(asked) % 23))
        with lock:
            at_once -= 1
            done.append(number_of(asked))
        return echoes(asked)

    server.answer = answer
    assert told_by(server, 100) == [-number for number in range(100)]
    assert done != sorted(done) and 1 < most <= prompt_logprobs.AT_ONCE


def test_connections_that_break_now_and_then_cost_no_score(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def answer(asked: dict[str, Any]) -> tuple[int, Any] | None:
        number = number_of(asked)
        if number % 5 == 3 and number not in seen:
            seen.add(number)
            return None
        return echoes(asked)

    server.answer = answer
    monkeypatch.setattr(prompt_logprobs, "RETRIES", 1)
    assert told_by(server, 12) == [-number for number in range(12)] and len(seen) == 2


def test_a_connection_that_breaks_for_good_is_work_left_over(server: Server) -> None:
    server.answer = lambda asked: None if number_of(asked) == 30 else echoes(asked)
    with pytest.raises(PartialError, match="no connection"):
        told_by(server, 2000)
    assert server.asked < 200


def twice(body: Any) -> None:
    body["choices"].append(body["choices"][0] | {"index": 1})


def second(body: Any) -> None:
    body["choices"][0]["index"] = 1


def fewer(body: Any) -> None:
    body["choices"][0]["logprobs"]["token_logprobs"].pop()


@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("change", [twice, second, fewer])
def test_answers_of_another_number_are_refused(change: Any, at: int, server: Server) -> None:
    def answer(asked: dict[str, Any]) -> tuple[int, Any]:
        status, body = echoes(asked)
        if number_of(asked) == at:
            change(body)
        return status, body

    server.answer = answer
    with pytest.raises(UsageError, match="as many log-probabilities as tokens"):
        told_by(server, 10)


@pytest.mark.parametrize("wrong", ["of texts", "of tokens"])
def test_answers_in_another_order_are_refused(wrong: str, server: Server) -> None:
    def answer(asked: dict[str, Any]) -> tuple[int, Any]:
        number = number_of(asked)
        if wrong == "of texts" and number in (4, 5):
            asked["prompt"] = numbered(9 - number + 1)[-1].text
        status, body = echoes(asked)
        if wrong == "of tokens" and number == 4:
            logprobs = body["choices"][0]["logprobs"]
            logprobs["tokens"][-2:] = ["4x", " amber", " x"]
            logprobs["token_logprobs"].append(-1.0)
        return status, body

    server.answer = answer
    with pytest.raises(UsageError, match="tokens of another text"):
        told_by(server, 10)


@pytest.mark.parametrize("ask", ASKERS)
@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://127.0.0.1:x/v1",
        "localhost:8000",
        "ftp://localhost/",
        "http://local host/v1",
        "http://localhost/\x1b",
        "http://me:hush@localhost/v1",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(ask: Any, url: str) -> None:
    with pytest.raises(UsageError, match="expected a URL") as caught:
        ask(url)
    assert "hush" not in str(caught.value)
