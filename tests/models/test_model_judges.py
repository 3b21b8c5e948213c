"""Judges: likelihood on the toy model, a local model's reply, an endpoint against a real server on
loopback.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from dpaudit.data.corpus import Turn
from dpaudit.errors import PartialError, UsageError
from dpaudit.judging.replies import Reply
from dpaudit.judging.rubric import Comparison, Outcome, Rubric
from dpaudit.judging.verdicts import Labels
from dpaudit.models.encode import Encoded, render
from dpaudit.models.endpoint_judge import EndpointJudge
from dpaudit.models.hf_model import HFModel
from dpaudit.models.judge import LikelihoodJudge, ModelJudge, open_judge
from dpaudit.models.served import is_loopback

ASK = "{question}\n<A>{first}</A>\n<B>{second}</B>"
TURNS = (Turn("user", "What should I take?"),)
LIKELY = Rubric("l", "L", "likelihood", model="toy")
PAIR = Comparison(TURNS, "Take paracetamol.", "Drink water.")


class Server(ThreadingHTTPServer):
    """Speaks /v1/chat/completions; `replies` are sent one after the other, the last one again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple[int, str]] = []
        self.seen: list[dict] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def say(self, content: object) -> None:
        message = {"role": "assistant", "content": content}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
        self.replies.append((200, json.dumps(body)))


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        self.server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.headers.append({key.lower(): value for key, value in self.headers.items()})
        status, body = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        self.send_response(status)
        if status in (301, 307):
            self.send_header("Location", body)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def endpoint(url: str, **changes: object) -> Rubric:
    return Rubric(
        "remote",
        "Remote",
        "endpoint",
        **{"model": "m", "prompt": ASK, "base_url": url, "retries": 0} | changes,
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "winner"),
    [
        ("Good.\n[[A]]", "first"),
        ("[[B]]", "second"),
        ("[[tie]]", "tie"),
        ("A wins", "unscored"),
        ("", "unscored"),
        (None, "unscored"),
    ],
)
def test_an_endpoint_is_asked_and_its_verdict_read(server: Server, content: object, winner: str) -> None:
    server.say(content)
    assert [o.winner for o in EndpointJudge(endpoint(server.url)).ask_many([PAIR])] == [winner]
    request = server.seen[0]
    assert request["messages"] == [
        {"role": "user", "content": "What should I take?\n<A>Take paracetamol.</A>\n<B>Drink water.</B>"}
    ]
    assert (request["model"], request["temperature"]) == ("m", 0.0)


@pytest.mark.parametrize(
    "body", ["not JSON at all", "{}", '{"choices": []}', '{"choices": [{}]}', "[]", "null"]
)
def test_a_malformed_reply_is_an_invalid_outcome_and_stops_nothing(server: Server, body: str) -> None:
    server.replies.append((200, body))
    server.say("[[A]]")
    outcomes = EndpointJudge(endpoint(server.url)).ask_many([PAIR, PAIR])
    assert [o.winner for o in outcomes] == ["unscored", "first"]


def test_the_client_retries_and_a_server_that_stays_down_ends_in_a_resumable_error(server: Server) -> None:
    server.replies.append((500, '{"error": {"message": "Take paracetamol."}}'))
    server.say("[[A]]")
    assert EndpointJudge(endpoint(server.url, retries=1)).ask_many([PAIR])[0].winner == "first"
    server.replies[:] = [(500, '{"error": {"message": "Take paracetamol."}}')]
    with pytest.raises(PartialError) as caught:
        EndpointJudge(endpoint(server.url)).ask_many([PAIR])
    assert "500" in str(caught.value)
    assert "paracetamol" not in str(caught.value)


def test_a_redirect_is_not_followed(server: Server) -> None:
    server.replies.append((307, "http://example.org/v1/chat/completions"))
    with pytest.raises(UsageError, match="a redirect, which is not followed"):
        EndpointJudge(endpoint(server.url)).ask_many([PAIR])


def test_the_key_comes_from_the_named_variable_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-this-server")
    server.say("[[A]]")
    EndpointJudge(endpoint(server.url)).ask_many([PAIR])
    assert "not-for-this-server" not in json.dumps(server.headers)
    with pytest.raises(UsageError, match="JUDGE_KEY"):
        EndpointJudge(endpoint(server.url, api_key_env="JUDGE_KEY"))
    monkeypatch.setenv("JUDGE_KEY", "right")
    EndpointJudge(endpoint(server.url, api_key_env="JUDGE_KEY")).ask_many([PAIR])
    assert server.headers[-1]["authorization"] == "Bearer right"


@pytest.mark.parametrize(
    "url", ["https://api.example.org/v1", "http://127.0.0.1.example.org/v1", "http://10.0.0.1/v1"]
)
def test_nothing_leaves_the_machine_without_permission_by_name(url: str) -> None:
    with pytest.raises(UsageError, match="--allow-egress"):
        EndpointJudge(endpoint(url))
    with pytest.raises(UsageError, match="--allow-egress"):
        EndpointJudge(endpoint(url), allow_egress=["example.org"])
    host = url.split("/")[2]
    EndpointJudge(endpoint(url), allow_egress=[host])


def test_loopback_is_this_machine_and_nothing_else() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("localhost.example.org", "0.0.0.0", "192.168.0.1", "", "evil")))


def test_likelihood_is_the_mean_over_the_answer_with_its_closing_token(toy_model_dir: Path) -> None:
    from dpaudit.models.encode import prompt_ids

    model = HFModel.load(str(toy_model_dir))
    outcome = LikelihoodJudge(model, model.tokenizer, LIKELY, 96).ask_many([PAIR])[0]
    means = []
    for answer in (PAIR.first, PAIR.second):
        ids = model.tokenizer(answer + "<|end|>", add_special_tokens=False)["input_ids"]
        means.append(model.sequence_logprobs(prompt_ids(TURNS, model.tokenizer), [ids])[0] / len(ids))
    assert outcome.margin == pytest.approx(means[0] - means[1], abs=1e-4)
    assert outcome.winner == ("first" if means[0] > means[1] else "second")


def test_likelihood_has_no_favourite_place_and_ties_within_its_margin(toy_model_dir: Path) -> None:
    model = HFModel.load(str(toy_model_dir))
    swapped = Comparison(TURNS, PAIR.second, PAIR.first)
    twin = Comparison(TURNS, PAIR.first, PAIR.first)
    there, back, same = LikelihoodJudge(model, model.tokenizer, LIKELY, 96).ask_many([PAIR, swapped, twin])
    assert {there.winner, back.winner} == {"first", "second"}
    assert there.margin == pytest.approx(-(back.margin or 0.0))
    assert (same.winner, same.margin) == ("tie", 0.0)
    generous = LikelihoodJudge(model, model.tokenizer, replace(LIKELY, tie_margin=100.0), 96).ask_many(
        [PAIR]
    )[0]
    assert generous.winner == "tie"


def test_what_was_asked_before_does_not_change_what_is_scored_together(
    toy_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of others rounds otherwise: a judge that was killed and goes on is to end with the same
    bytes.
    """
    model = HFModel.load(str(toy_model_dir))
    asked: list[int] = []
    scores = model.token_scores
    monkeypatch.setattr(
        model,
        "token_scores",
        lambda encoded, **rest: (asked.append(len(encoded)), scores(encoded, **rest))[1],
    )
    other = Comparison(TURNS, PAIR.first, "a third answer, and a longer one")
    going_on, anew = (LikelihoodJudge(model, model.tokenizer, LIKELY, 96) for _ in range(2))
    going_on.ask_many([PAIR])
    assert going_on.ask_many([other]) == anew.ask_many([other])
    assert asked == [2, 2, 2]


def test_an_answer_that_does_not_fit_is_invalid_and_not_scored_by_its_head(toy_model_dir: Path) -> None:
    model = HFModel.load(str(toy_model_dir))
    long = Comparison(TURNS, "Drink water. " * 60, "Drink water.")
    assert LikelihoodJudge(model, model.tokenizer, LIKELY, 64).ask_many([long])[0].winner == "unscored"


def test_the_reference_adapter_is_on_while_scoring(toy_model_dir: Path, toy_adapter_dir: Path) -> None:
    rules = Rubric("l", "L", "likelihood", model=str(toy_model_dir), adapter=str(toy_adapter_dir))
    bare = Rubric("l", "L", "likelihood", model=str(toy_model_dir))
    with_adapter, without = (open_judge(r, 96).ask_many([PAIR])[0].margin for r in (rules, bare))
    assert with_adapter is not None and without is not None
    assert not np.isclose(with_adapter, without)


def test_a_local_model_that_babbles_is_invalid(toy_model_dir: Path) -> None:
    judge = open_judge(Rubric("m", "M", "model", model=str(toy_model_dir), prompt=ASK, max_new_tokens=8), 96)
    assert isinstance(judge, ModelJudge)
    assert [o.winner for o in judge.ask_many([PAIR, PAIR])] == ["unscored", "unscored"]


def test_a_local_model_s_verdict_is_read(toy_model_dir: Path) -> None:
    model = HFModel.load(str(toy_model_dir))
    reply = model.generate(
        [(Turn("user", f"{TURNS[0].text}\n<A>{PAIR.first}</A>\n<B>{PAIR.second}</B>"),)], 4
    )[0]
    last = [line.strip() for line in reply.splitlines() if line.strip()][-1]
    labels = Labels(first="[[A]]", second=last, tie="[[tie]]")
    judge = ModelJudge(
        model,
        model.tokenizer,
        Rubric("m", "M", "model", model="m", prompt=ASK, labels=labels, max_new_tokens=4),
    )
    assert judge.ask_many([PAIR])[0].winner == "second"


# ---- log-probabilities of the labels


def logprobs(model: HFModel, **changes: object) -> tuple[Outcome, Reply]:
    known = {"model": "m", "prompt": ASK, "verdict": "logprobs", "max_new_tokens": 0}
    rules = Rubric("m", "M", "model", **known | changes)  # type: ignore[arg-type]
    kept: list[Reply] = []
    outcomes = ModelJudge(model, model.tokenizer, rules).ask_many([PAIR], lambda _, reply: kept.append(reply))
    return outcomes[0], kept[0]


def of_text(model: HFModel, before: str, label: str) -> float:
    """The slow double: the log-probability of a label's tokens in one pass over the whole text."""
    turns = (Turn("user", ASK.format(question=TURNS[0].text, first=PAIR.first, second=PAIR.second)),)
    written = render(turns, model.tokenizer, prompt=True) + before
    whole = model.tokenizer(written + label, add_special_tokens=False)["input_ids"]
    start = len(model.tokenizer(written, add_special_tokens=False)["input_ids"])
    encoded = Encoded(tuple(whole), (False,) * len(whole), (False,) * len(whole), False, 0)
    return float(model.token_scores([encoded])[0].logprob[start:].sum())


def double(model: HFModel, before: str) -> dict[str, float]:
    return beyond({name: of_text(model, before, label) for name, label in Labels().offered().items()})


def beyond(logprobs: dict[str, float] | None) -> dict[str, float]:
    """Without the tokens that all labels share, which are as likely for each."""
    assert logprobs is not None
    return {name: value - logprobs["first"] for name, value in logprobs.items()}


def test_labels_are_scored_at_once_and_the_likeliest_is_the_verdict(toy_model_dir: Path) -> None:
    model = HFModel.load(str(toy_model_dir))
    outcome, reply = logprobs(model)
    expected = double(model, "")
    assert reply.text == "" and beyond(reply.logprobs) == pytest.approx(expected, abs=1e-4)
    assert outcome.winner == max(expected, key=lambda name: expected[name]) and outcome.form == "logprobs"
    assert logprobs(model) == (outcome, reply)


def test_labels_are_scored_at_the_end_of_the_reasons(toy_model_dir: Path) -> None:
    model = HFModel.load(str(toy_model_dir))
    _, direct = logprobs(model)
    outcome, reply = logprobs(model, max_new_tokens=6)
    assert reply.text and outcome.winner != "unscored" and reply.logprobs != direct.logprobs
    assert beyond(reply.logprobs) == pytest.approx(double(model, f"{reply.text}\n"), abs=1e-4)
    model.generate = lambda prompts, tokens, advance=None: ["<think> both"]  # type: ignore[method-assign]
    outcome, reply = logprobs(model, max_new_tokens=6)
    assert (outcome.winner, reply.logprobs) == ("unscored", None)
    model.generate = lambda prompts, tokens, advance=None: ["Right.\n[[tie]]"]  # type: ignore[method-assign]
    _, reply = logprobs(model, max_new_tokens=6)  # the verdict that it wrote is one among the labels
    assert beyond(reply.logprobs) == pytest.approx(double(model, "Right.\n"), abs=1e-4)


def test_a_judge_on_this_machine_is_loaded_in_the_dtype_that_is_asked_for(toy_model_dir: Path) -> None:
    for rules in (
        Rubric("l", "L", "likelihood", model=str(toy_model_dir)),
        Rubric("m", "M", "model", model=str(toy_model_dir), prompt=ASK, verdict="logprobs", max_new_tokens=0),
    ):
        whole, rounded = (open_judge(rules, 96, dtype=dtype) for dtype in ("float32", "bfloat16"))
        assert whole.ask_many([PAIR])[0].margin != rounded.ask_many([PAIR])[0].margin
        weight = next(iter(rounded.model.model.parameters()))  # type: ignore[attr-defined]
        assert (weight.float() == weight.bfloat16().float()).all()
