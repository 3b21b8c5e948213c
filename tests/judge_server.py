"""A judge on this machine that speaks /v1/chat/completions: perfect by its rule, behind faults that a test
plans.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

PROMPT = "{question}\n<A>{first}</A>\n<B>{second}</B>"
FAULTS = ("429", "500", "hang", "cut", "no choices", "empty", "html", "no verdict")
HANG = 0.6  # seconds; a test's timeout is shorter
RETRY_AFTER = "0.25"  # seconds; longer than FIRST_WAIT
FIRST_WAIT = 0.02  # seconds that tests wait before they ask again
Plan = Callable[[str, int], str | None]  # text, number of its request from 1 -> a fault, or None


def never(text: str, number: int) -> str | None:
    return None


def at_rate(rate: float, seed: int = 0, faults: tuple[str, ...] = FAULTS) -> Plan:
    """Every request fails with this probability."""

    def plan(text: str, number: int) -> str | None:
        draw = Random(f"{seed} {number} {text}")
        return draw.choice(faults) if draw.random() < rate else None

    return plan


@dataclass
class JudgeServer:
    """Its log: how often each text was asked and answered, and the settings of all requests."""

    verdict: Callable[[str, str], str]  # the two answers -> what it ends with
    fault: Plan = never
    seconds: float = 0.0  # of a reply
    refuses: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda asked: None
    reads: Callable[[str], str] | None = None  # the whole text -> what it ends with, in place of `verdict`
    writes: str = "Because.\n{0}"  # its reply around what it ends with; {1} is that without brackets
    tells: Callable[[str], Any] = lambda said: (
        None
    )  # its reply -> log-probabilities, where they are asked for
    ignores: bool = False  # a schema that is asked for
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    requests: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def reply(self, request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        text = request["messages"][0]["content"]
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.requests.append(request)
            self.times.append(time.monotonic())
            refusal = self.refuses(request)
            if refusal is None:
                self.asked[text] += 1
            number = self.asked[text]
        try:
            time.sleep(self.seconds)
            if refusal is not None:
                return refusal[0], json.dumps(refusal[1]).encode(), {}
            return self._said(text, self.fault(text, number), request)
        finally:
            with self._lock:
                self._at_once -= 1

    def _said(
        self, text: str, fault: str | None, request: dict[str, Any]
    ) -> tuple[int, bytes, dict[str, str]]:
        if fault in ("429", "500", "503", "401"):
            return int(fault), b"{}", {"Retry-After": RETRY_AFTER} if fault == "429" else {}
        if fault == "hang":
            time.sleep(HANG)
        if fault == "html":
            return 200, b"<html>[[A]]</html>", {"Content-Type": "text/html"}
        said = {None: self._reply_to(text, request), "no verdict": "Both have merits."}.get(fault, "")
        sent = completion(said, len(text)) | ({"choices": []} if fault == "no choices" else {})
        if "logprobs" in request and sent["choices"]:
            sent["choices"][0]["logprobs"] = self.tells(said)
        body = json.dumps(sent)
        if fault == "cut":
            body = body[: body.index("Because") if "Because" in body else 30]
        if fault is None:
            with self._lock:
                self.answered[text] += 1
        return 200, body.encode(), {}

    def _reply_to(self, text: str, request: dict[str, Any]) -> str:
        label = self.reads(text) if self.reads else self._verdict_on(text)
        if "response_format" not in request or self.ignores:
            return self.writes.format(label, label.strip("[]"))
        schema = request["response_format"]["json_schema"]["schema"]
        assert (
            label in schema["properties"]["verdict"]["enum"]
            and request["response_format"]["type"] == "json_schema"
        )
        return json.dumps(dict(zip(schema["properties"], ("Because.", label), strict=True)))

    def _verdict_on(self, text: str) -> str:
        first = text.partition("<A>")[2].partition("</A>")[0]
        return self.verdict(first, text.rpartition("<B>")[2].partition("</B>")[0])


def likelihoods(said: str, favourite: Callable[[str], str] = lambda token: token) -> dict[str, Any]:
    """Log-probabilities of a reply as servers tell them: at every token `favourite` of it has most."""
    names = ("A", "B", "both", "tie", "met", "not", " right", " wrong", " met")
    content = []
    for token in re.findall(r"\[\[|\]\]|\s*\w+|\W", said):
        shares = dict.fromkeys((token, *names), -4.0) | {favourite(token): -0.1}
        told = [{"token": name, "logprob": shares[name], "bytes": list(name.encode())} for name in shares]
        content.append({**told[0], "top_logprobs": told})
    return {"content": content}


def completion(text: str, tokens_in: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": 7, "total_tokens": tokens_in + 7},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, body, headers = self.server.judge.reply(request)  # type: ignore[attr-defined]
        try:
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # whoever asked is gone
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving(judge: JudgeServer) -> Iterator[JudgeServer]:
    """The judge at its `url` inside the block."""
    with _Listening(("127.0.0.1", 0), _Handler) as listening:
        listening.judge = judge  # type: ignore[attr-defined]
        judge.url = f"http://127.0.0.1:{listening.server_port}/v1"
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield judge
        finally:
            listening.shutdown()
