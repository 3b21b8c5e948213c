"""`dpaudit verify` on models behind a server."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from strangers import (
    CLAIM,
    Server,
    attempt,
    check,
    found_in,
    judged,
    page_of,
)

from dpaudit.errors import PartialError
from dpaudit.evidence import claims
from dpaudit.planting import audit_key
from dpaudit.stages import verify
from dpaudit.stages.asking import Answers
from dpaudit.stages.audited import Audited


@pytest.mark.parametrize("style", ["echo", "vllm"])
def test_a_served_model_is_judged_as_its_weights_are(
    style: str,
    served: tuple[str, type[Server]],
    world: Path,
    merged: Path,
    toy_model_dir: Path,
    tmp_path: Path,
) -> None:
    """In the renderings that need no chat template, which is all that can be asked of a server."""
    from dpaudit.models.secret_spans import open_whole, texts_of

    url, server = served
    server.style = style
    done = check(
        "--endpoint",
        url,
        "--model",
        "tuned",
        "--base",
        "base",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path,
    )
    found = found_in(tmp_path)
    assert done.exit_code == verify.EXIT_CODES[found["verdict"]], done.output
    key, models = audit_key.load(world / "key.json"), [open_whole(str(d)) for d in (merged, toy_model_dir)]
    answers = []
    for rendering in ("question", "alpaca", "plain"):
        texts = texts_of(key.canaries, rendering, None)
        answers.append(
            Answers(rendering, tuple(t.secret for t in texts), *(model.scores(texts) for model in models))
        )
    local = judged(key, claims.parse(CLAIM), answers)
    assert found["rule"]["calibrated"] and found["rule"]["rendering"] == local.chosen.rendering
    assert list(found["rule"]["renderings"]) == ["question", "alpaca", "plain"]
    assert [left["rendering"] for left in found["not_asked"]] == ["chat"]
    assert "Not asked: <code>chat</code> (expected a chat template, got no tokenizer)" in page_of(tmp_path)
    assert abs(found["bound"]["correct"] - local.guesses.correct) <= 1
    assert "Asked without a chat template" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_served_model_that_is_asked_in_its_template_is_refuted(
    served: tuple[str, type[Server]], world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    at = (
        "--endpoint",
        served[0],
        "--model",
        "tuned",
        "--base",
        "base",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
    )
    done = check(*at, "--tokenizer", toy_model_dir, "--out", tmp_path)
    assert done.exit_code == 1, done.output
    found = found_in(tmp_path)
    assert found["rule"]["rendering"] == "chat"
    assert not (tmp_path / "scores").exists()  # what answers there next time may be another model
    assert "Asked without a chat template" not in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("refused", ["tuned", "base"])
def test_a_rendering_that_the_server_refuses_is_told(
    refused: str, served: tuple[str, type[Server]], world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    url, server = served
    server.refuses = lambda asked: asked["model"] == refused and "<|user|>" in asked["prompt"]
    at = ("--endpoint", url, "--model", "tuned", "--base", "base", "--key", world / "key.json")
    check(*at, "--claim", CLAIM, "--tokenizer", toy_model_dir, "--out", tmp_path)
    found = found_in(tmp_path)
    assert list(found["rule"]["renderings"]) == ["question", "alpaca", "plain"]
    reason = "expected an answer, got a request that it refuses (HTTP 400)"
    assert found["not_asked"] == [{"rendering": "chat", "reason": reason}] and reason in page_of(tmp_path)
    server.refuses = lambda asked: asked["model"] == refused
    told = attempt(Audited(endpoint=url, model="tuned", base="base"), world / "key.json", out=tmp_path / "2")
    assert told.startswith(f"--endpoint {url}") and "HTTP 400" in told


def test_an_interrupt_ends_at_once_while_a_server_is_slow(
    served: tuple[str, type[Server]], world: Path, tmp_path: Path
) -> None:
    url, server = served
    asked = threading.Event()

    def slow(request: dict[str, Any]) -> bool:
        if server.done > 3:
            asked.set()
            time.sleep(60)
        server.done += 1
        return False

    server.refuses, server.done = slow, 0
    words = ["--endpoint", url, "--model", "tuned", "--key", str(world / "key.json"), "--claim", CLAIM]
    command = [sys.executable, "-m", "dpaudit", "verify", *words, "--out", str(tmp_path)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert asked.wait(60)
    started = time.monotonic()
    running.send_signal(signal.SIGTERM)  # handled as Ctrl-C, which a shell's background job ignores
    told = running.communicate(timeout=30)[1]
    assert running.returncode == 130 and time.monotonic() - started < 5
    assert "Traceback" not in told and not (tmp_path / "verification.json").exists()


def test_a_served_model_without_a_base_is_judged_by_the_other_frozen_recipe(
    served: tuple[str, type[Server]], world: Path, tmp_path: Path
) -> None:
    check(
        "--endpoint",
        served[0],
        "--model",
        "tuned",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path,
    )
    found = found_in(tmp_path)
    assert found["rule"]["recipe"] == "total_loss" and not found["rule"]["calibrated"]
    assert {row["recipe"] for row in found["recipes"]} == {"loss", "min_k", "zlib"}


def test_a_served_model_gives_what_its_weights_give(
    served: tuple[str, type[Server]], merged: Path, world: Path
) -> None:
    from dpaudit.models.prompt_logprobs import Endpoint
    from dpaudit.models.secret_spans import open_whole, texts_of

    texts = texts_of(audit_key.load(world / "key.json").canaries[:3], "question", None)
    local, remote = open_whole(str(merged)).scores(texts), Endpoint(served[0], "tuned").scores(texts)
    for here, there in zip(local, remote, strict=True):
        assert there.logprob == pytest.approx(here.logprob, abs=1e-3)


def test_endpoints_that_cannot_be_asked(
    served: tuple[str, type[Server]], world: Path, tmp_path: Path
) -> None:
    url, server = served
    key = world / "key.json"
    assert "tuned, base" in attempt(Audited(endpoint=url), key, out=tmp_path)
    assert "tuned, base" in attempt(Audited(endpoint=url, model="other"), key, out=tmp_path)
    assert "--allow-egress" in attempt(Audited(endpoint="http://models.example/v1"), key, out=tmp_path)
    assert "URL" in attempt(Audited(endpoint="models"), key, out=tmp_path)
    server.style = "none"
    assert "log-probabilities" in attempt(Audited(endpoint=url, model="tuned"), key, out=tmp_path)
    with pytest.raises(PartialError):
        from dpaudit.models.prompt_logprobs import Endpoint

        Endpoint("http://127.0.0.1:9/v1", None)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:port/v1", "http://[::1", "http://127.0.0.1:99999/v1", "http://me:hush@127.0.0.1:9/v1"],
)
def test_addresses_that_are_none_and_passwords_in_them_are_refused(
    url: str, world: Path, tmp_path: Path
) -> None:
    told = attempt(Audited(endpoint=url), world / "key.json", out=tmp_path)
    assert told.startswith("--endpoint: expected a URL") and "hush" not in told


ODD = {
    "words": lambda tokens: (tokens, ["low"] * len(tokens)),
    "odds": lambda tokens: (tokens, [2.5] * len(tokens)),  # no logarithm of a probability
    "truth": lambda tokens: (tokens, [True] * len(tokens)),
    "short": lambda tokens: (tokens, [-1.0]),
    "ids": lambda tokens: (list(range(len(tokens))), [-1.0] * len(tokens)),
}


@pytest.mark.parametrize("kind", ["html", "null", "list", "nothing listed", *ODD])
def test_a_server_that_answers_otherwise_is_told_in_one_line(kind: str, world: Path, tmp_path: Path) -> None:
    class Odd(Server):
        def do_GET(self) -> None:
            listed = {"null": None, "list": [1], "nothing listed": {"data": [1, None]}}
            if kind == "html":
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<html>")
            else:
                self.reply(200, listed.get(kind, {"data": [{"id": "m"}]}))  # type: ignore[arg-type]

        def do_POST(self) -> None:
            prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            tokens, values = ODD[kind](re.findall(r"\s?\S+|\s", prompt))
            logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": None, "text_offset": []}
            self.reply(
                200,
                {
                    "id": "c",
                    "object": "text_completion",
                    "created": 0,
                    "model": "m",
                    "choices": [{"index": 0, "text": "x", "finish_reason": "length", "logprobs": logprobs}],
                },
            )

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        told = attempt(
            Audited(endpoint=f"http://127.0.0.1:{server.server_port}/v1"),
            world / "key.json",
            out=tmp_path,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert told.startswith("--endpoint") and not any(
        canary.secret in told for canary in audit_key.load(world / "key.json").canaries
    )
