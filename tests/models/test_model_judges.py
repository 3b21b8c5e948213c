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
from dpaudit.judging.rubric import Comparison, Rubric
from dpaudit.judging.verdicts import Labels
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
