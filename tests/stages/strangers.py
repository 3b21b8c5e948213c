"""Helpers of the tests of `dpaudit verify`: a stranger's training, the typed command, a server."""

import json
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from regenerate_docs import ROOT
from typer.testing import CliRunner, Result

from dpaudit.cli import app
from dpaudit.errors import UsageError
from dpaudit.evidence import claims, questions
from dpaudit.planting import audit_key
from dpaudit.privacy.claim import Claim
from dpaudit.stages import asking, verify, verify_control, verify_verdicts
from dpaudit.stages.asking import Answers
from dpaudit.stages.audited import Audited
from dpaudit.system.progress import Progress

CLAIM = "eps=0.5,delta=1e-5,unit=record,relation=add_or_remove"


Scored = tuple[list[str], list[float | None]]


def trained(data: Path, model: Path, adapter: Path, *more: str) -> None:
    """The stranger's script, typed; in a forked process, which has PyTorch loaded already."""
    import peft  # noqa: F401

    script = ROOT / "benchmarks" / "stranger.py"
    words = ["--model", str(model), "--data", str(data), "--out", str(adapter)]
    words += ["--epochs", "40", "--learning-rate", "1e-2", "--batch", "8", *more]
    training = multiprocessing.get_context("fork").Process(target=_typed, args=(script, words))
    training.start()
    training.join()
    assert training.exitcode == 0


def _typed(script: Path, words: list[str]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.argv = [str(script), *words]
    runpy.run_path(str(script), run_name="__main__")


def check(*words: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, words)])


def asked(folder: Path, adapter: Path) -> tuple[audit_key.AuditKey, list[Answers]]:
    key = audit_key.load(folder / "key.json")
    return key, asking.ask(Audited(adapter=adapter), key, Progress(quiet=True)).answers


def found_in(folder: Path) -> dict[str, Any]:
    """What verification.json says of its only claim and of its model."""
    found = json.loads((folder / "verification.json").read_text(encoding="utf-8"))
    (answer,), (model,) = found["answers"], found["models"]
    return {**found, **model, **answer}


def judged(
    key: audit_key.AuditKey, claim: Claim, answers: list[Answers], look: verify_control.Look | None = None
) -> Any:
    """What is guessed from one model's answers, with its `verdict` on one claim."""
    found = verify_verdicts.guessed(key, answers)
    made = verify_verdicts.Claimed("the adapter", claim, found, look)
    (answer,) = questions.answered([verify_verdicts.asked(made)])
    return SimpleNamespace(verdict=answer, **vars(found))


def attempt(audited: Audited, key: Path, **more: Any) -> str:
    request = verify.Request(((audited, claims.parse(CLAIM)),), key, **more)
    with pytest.raises(UsageError) as caught:
        verify.run(verify.check(request), Progress(quiet=True))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Server(BaseHTTPRequestHandler):
    """An OpenAI-compatible server over the toy models: `style` is echo, vllm or none."""

    style = "echo"
    names: tuple[str, ...] = ()
    scored: Callable[[str, str], Scored]
    refuses: Any = None  # of a request, whether it is answered with 400
    done = 0

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.names]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice: dict[str, Any] = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if self.refuses is not None and type(self).refuses(asked):
            self.reply(400, {"error": {"message": "no"}})
            return
        if self.style == "vllm" and asked.get("echo"):
            self.reply(400, {"error": {"message": "echo is not supported"}})
            return
        tokens, values = type(self).scored(asked["model"], asked["prompt"])
        if self.style == "echo":
            choice["logprobs"] = {
                "tokens": [*tokens, "x"],
                "token_logprobs": [*values, -1.0],
                "top_logprobs": None,
                "text_offset": [0] * (len(tokens) + 1),
            }
        if self.style == "vllm" and asked.get("prompt_logprobs"):
            choice["prompt_logprobs"] = [
                None
                if value is None
                else {
                    "7": {"logprob": value, "rank": 9, "decoded_token": token},
                    "8": {"logprob": -0.1, "rank": 1, "decoded_token": "?"},
                }
                for token, value in zip(tokens, values, strict=True)
            ]
        self.reply(
            200, {"id": "c", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
        )

    def reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def scorer(models: dict[str, Any], tokenizer: Any) -> Callable[[str, str], Scored]:
    """What a server says of a text, worked out once: every test asks the same texts."""
    import torch

    @cache
    def scored(name: str, text: str) -> Scored:
        coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = torch.tensor([coded["input_ids"][-256:]])
        with torch.inference_mode():
            logp = models[name](input_ids=ids).logits.log_softmax(-1)[0]
        found = logp[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        return [text[a:b] for a, b in coded["offset_mapping"][-256:]], [None, *found]

    return scored


OTHER = "{% for m in messages %}{{ '\n== ' + m.role + ': ' + m.content }}{% endfor %}"


def with_template(folder: Path, toy_model_dir: Path, template: str) -> Path:
    """A folder with the toy's tokenizer and another template."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(toy_model_dir)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def page_of(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")
