"""A judge behind a server on loopback that fails in every way: what is a verdict, what is asked again, and
what ends the work.
"""

import contextlib
import gzip
import json
import socketserver
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from judge_server import (
    FAULTS,
    FIRST_WAIT,
    HANG,
    PROMPT,
    RETRY_AFTER,
    JudgeServer,
    at_rate,
    completion,
    likelihoods,
    serving,
)

from dpaudit.data.corpus import Turn
from dpaudit.errors import PartialError, UsageError
from dpaudit.judging.replies import Allowance, Reply, estimate
from dpaudit.judging.rubric import Comparison, Outcome, Rubric
from dpaudit.models import served
from dpaudit.models.endpoint_judge import EndpointJudge
from dpaudit.storage.answer_log import AnswerLog

PATIENCE = 30.0  # seconds; a busy machine is no fault of the server
CONTEXT = {"error": {"message": "max_tokens is too large: the maximum context length is 16 tokens"}}
REFUSED_LENGTH = {"error": {"message": "Use 'max_completion_tokens' instead.", "param": "max_tokens"}}
REFUSED_TEMPERATURE = {"error": {"message": "'temperature' does not support 0 with this model."}}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", FIRST_WAIT)


def longer(first: str, second: str) -> str:
    """A perfect judge of numbered answers."""
    return "[[A]]" if int(first) > int(second) else "[[B]]"


def numbered(count: int) -> list[Comparison]:
    pairs = [(number + 1, number) if number % 3 else (number, number + 1) for number in range(count)]
    return [
        Comparison((Turn("user", f"Q{number}"),), str(first), str(second))
        for number, (first, second) in enumerate(pairs)
    ]


def truth(comparisons: Sequence[Comparison]) -> list[str]:
    return ["first" if int(one.first) > int(one.second) else "second" for one in comparisons]


def rubric(url: str, **changes: Any) -> Rubric:
    known = {"model": "m", "prompt": PROMPT, "base_url": url, "retries": 3, "timeout": PATIENCE}
    return Rubric("remote", "Remote", "endpoint", **known | changes)


def ask(
    judge: EndpointJudge, comparisons: Sequence[Comparison]
) -> tuple[list[Outcome], list[tuple[Comparison, Reply]]]:
    kept: list[tuple[Comparison, Reply]] = []
    return judge.ask_many(comparisons, lambda one, reply: kept.append((one, reply))), kept


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_asked_again_and_is_no_verdict(fault: str) -> None:
    with serving(JudgeServer(longer, lambda _, number: fault if number == 1 else None)) as server:
        rules = rubric(server.url, timeout=HANG / 2 if fault == "hang" else PATIENCE)
        outcomes, kept = ask(EndpointJudge(rules), numbered(1))
    assert [outcome.winner for outcome in outcomes] == truth(numbered(1))
    assert list(server.asked.values()) == [2]
    replies = [reply for _, reply in kept]
    assert replies[-1] == Reply(
        "Because.\n[[B]]", tokens_in=len("Q0\n<A>0</A>\n<B>1</B>"), tokens_out=7, is_last=False
    )
    unread = replies[:-1]
    assert len(unread) == (fault not in ("429", "500", "hang"))  # those gave no reply that could be kept
    assert all(reply.fault or reply.text == "Both have merits." for reply in unread)
    if fault == "429":
        assert server.times[1] - server.times[0] >= float(RETRY_AFTER)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("cut", "no whole JSON"),
        ("no choices", "without choices"),
        ("empty", "empty"),
        ("no verdict", "no verdict"),
        ("html", "another format"),
    ],
)
def test_what_never_holds_a_verdict_is_unscored_with_its_reason(fault: str, reason: str) -> None:
    plan = lambda text, number: fault if text.startswith("Q3\n") else None  # noqa: E731
    with serving(JudgeServer(longer, plan)) as server:
        outcomes, _ = ask(EndpointJudge(rubric(server.url, retries=2)), numbered(6))
    at = [index for index, outcome in enumerate(outcomes) if outcome.winner == "unscored"]
    assert len(at) == 1 and reason in outcomes[at[0]].reason
    assert max(server.asked.values()) == 3 and sum(server.asked.values()) == 8


def test_a_server_that_only_sends_web_pages_is_the_wrong_address() -> None:
    with (
        serving(JudgeServer(longer, lambda *_: "html")) as server,
        pytest.raises(UsageError, match="answers in another format; the URL commonly ends with /v1"),
    ):
        ask(EndpointJudge(rubric(server.url)), numbered(40))
    assert sum(server.asked.values()) == 4


@pytest.mark.parametrize(("fault", "told"), [("hang", "no answer in time"), ("500", "500")])
def test_what_outlasts_the_budget_is_work_left_over_and_what_was_answered_is_kept(
    fault: str, told: str
) -> None:
    plan = lambda text, number: fault if text.startswith("Q10\n") else None  # noqa: E731
    with serving(JudgeServer(longer, plan, seconds=0.01)) as server:
        kept: list[Comparison] = []
        with pytest.raises(PartialError, match=told):
            rules = rubric(server.url, retries=1, timeout=HANG / 2 if fault == "hang" else PATIENCE)
            EndpointJudge(rules, parallel=4).ask_many(numbered(800), lambda one, _: kept.append(one))
    assert len(kept) == sum(server.answered.values()) >= 9
    assert sum(server.asked.values()) <= len(kept) + 2 < 800


def test_a_refusal_for_good_is_sent_once() -> None:
    with (
        serving(JudgeServer(longer, lambda *_: "401")) as server,
        pytest.raises(UsageError, match=r"a key that the server does not know.*api_key_env"),
    ):
        ask(EndpointJudge(rubric(server.url)), numbered(40))
    assert sum(server.asked.values()) == 1


def test_outcomes_keep_their_order_at_the_parallelism_that_was_asked_for() -> None:
    comparisons = numbered(41)
    with serving(JudgeServer(longer, at_rate(0.1, faults=("500", "cut", "empty")), seconds=0.02)) as server:
        outcomes, _ = ask(EndpointJudge(rubric(server.url, timeout=5), parallel=5), comparisons)
    assert [outcome.winner for outcome in outcomes] == truth(comparisons)
    assert 3 <= server.most_at_once <= 5 and sum(server.asked.values()) > 41


def refuses_both(asked: dict[str, Any]) -> tuple[int, Any] | None:
    if "max_tokens" in asked:
        return 400, REFUSED_LENGTH
    return (400, REFUSED_TEMPERATURE) if "temperature" in asked else None


def test_settings_that_a_model_refuses_are_learned_once() -> None:
    with serving(JudgeServer(longer, refuses=refuses_both)) as server:
        outcomes, kept = ask(EndpointJudge(rubric(server.url, retries=0)), numbered(9))
    assert [outcome.winner for outcome in outcomes] == truth(numbered(9))
    assert len(server.requests) == 2 + 9
    assert all(request["max_completion_tokens"] == 512 for request in server.requests[1:])
    assert all("temperature" not in request for request in server.requests[2:])
    assert all(reply.own_temperature for _, reply in kept)


def test_settings_can_be_named_beforehand() -> None:
    with serving(JudgeServer(longer, refuses=refuses_both)) as server:
        named = rubric(server.url, max_tokens_as="max_completion_tokens", temperature=None)
        _, kept = ask(EndpointJudge(named), numbered(3))
    assert len(server.requests) == 3 and not any(reply.own_temperature for _, reply in kept)


def test_a_text_that_is_too_long_is_no_matter_of_settings() -> None:
    with (
        serving(JudgeServer(longer, refuses=lambda _: (400, CONTEXT))) as server,
        pytest.raises(UsageError, match="longer than the model's context"),
    ):
        ask(EndpointJudge(rubric(server.url)), numbered(3))
    assert len(server.requests) == 1


def test_the_allowance_ends_the_work_before_it_is_passed() -> None:
    comparisons = numbered(60)
    with serving(JudgeServer(longer, seconds=0.01)) as server:
        kept: list[Reply] = []
        judge = EndpointJudge(rubric(server.url, max_new_tokens=10), allowance=Allowance(600))
        with pytest.raises(PartialError, match=r"could pass 600 tokens, .* --max-tokens-total"):
            judge.ask_many(comparisons, lambda _, reply: kept.append(reply))
    used = sum((reply.tokens_in or 0) + (reply.tokens_out or 0) for reply in kept)
    at_most = estimate(PROMPT) + 10
    assert 600 - at_most < used <= 600 and len(kept) == len(server.requests) < 60


def test_an_allowance_waits_for_requests_that_may_leave_room() -> None:
    allowance, done = Allowance(100), threading.Event()
    text, half = "a" * 30, Reply("x", tokens_in=26, tokens_out=24)
    reserved = allowance.reserve(text, 40)
    assert reserved == estimate(text) + 40 == 66
    waiting = threading.Thread(target=lambda: (allowance.reserve(text, 24), done.set()), daemon=True)
    waiting.start()
    assert not done.wait(0.05)
    allowance.settle(reserved, text, half)
    assert done.wait(5)
    allowance.settle(50, text, half)
    with pytest.raises(PartialError):
        allowance.reserve("", 0)


def test_an_allowance_learns_what_a_server_counts() -> None:
    allowance = Allowance(1000)
    allowance.count("a" * 30, Reply("x", tokens_in=52, tokens_out=8), 40)
    assert allowance.reserve("a" * 30, 40) == 52 + 40
    allowance.count("a" * 30, Reply("x"), 40)  # a server that does not tell
    with pytest.raises(PartialError, match="could pass 1000 tokens, 152 are used"):
        allowance.settle(92, "", None)
        allowance.reserve("a" * 30, 800)


def test_tokens_that_a_server_does_not_tell_are_estimated_whatever_it_says_in_place() -> None:
    body = completion("[[A]]", 0)
    body["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    with serving(JudgeServer(longer)) as server:
        server._said = lambda *_: (200, json.dumps(body).encode(), {})  # type: ignore[method-assign]
        kept: list[Reply] = []
        judge = EndpointJudge(rubric(server.url, max_new_tokens=10), allowance=Allowance(300))
        with pytest.raises(PartialError, match="could pass 300 tokens"):
            judge.ask_many(numbered(60), lambda _, reply: kept.append(reply))
    assert kept and all(reply.tokens_in is None and reply.tokens_out is None for reply in kept)


def test_a_reply_that_came_too_late_is_paid_and_a_refused_connection_is_not() -> None:
    allowance = Allowance(10_000)
    with serving(JudgeServer(longer, lambda *_: "hang")) as server:
        rules = rubric(server.url, retries=0, timeout=HANG / 2, max_new_tokens=100)
        with pytest.raises(PartialError, match="no answer in time"):
            EndpointJudge(rules, allowance=allowance).ask_many(numbered(1))
    paid = allowance._used
    assert paid == estimate("Q0\n<A>0</A>\n<B>1</B>") + 100
    with pytest.raises(PartialError, match="no connection"):  # nobody listens there any more
        EndpointJudge(rules, allowance=allowance).ask_many(numbered(1))
    assert allowance._used == paid


def test_where_no_reply_holds_a_verdict_few_are_asked() -> None:
    allowance = Allowance()
    with serving(JudgeServer(longer, lambda *_: "no verdict")) as server:
        rules = rubric(server.url, retries=0)
        for _ in range(2):
            with pytest.raises(
                UsageError, match=r"rubric remote: expected a verdict .*, got none from 40 quest.*say so in"
            ):
                EndpointJudge(rules, allowance=allowance, parallel=4).ask_many(numbered(2000))
            allowance.count("Q", Reply("No verdict."), 10)  # of the first command, kept
        assert len(server.requests) <= 2 * 44
        allowance.count("Q", Reply("[[A]]"), 10)  # it can be read: these are what is left of a whole run
        outcomes = EndpointJudge(rules, allowance=allowance).ask_many(numbered(60))
    assert len(outcomes) == 60


def test_where_no_reply_comes_whole_the_remedy_is_the_server() -> None:
    wanted = r"got none from 40 .*; replies do not come whole"
    with serving(JudgeServer(longer, lambda *_: "cut")) as server, pytest.raises(UsageError, match=wanted):
        EndpointJudge(rubric(server.url, retries=0), parallel=4).ask_many(numbered(60))


@pytest.mark.parametrize("packed", [False, True])
def test_a_reply_that_does_not_end_is_not_read_to_its_end(packed: bool) -> None:
    body = json.dumps(completion("[[A]]" + " " * 60_000_000, 9)).encode()
    headers = {"Content-Encoding": "gzip"} if packed else {}
    body = gzip.compress(body, 1) if packed else body
    plan = [(200, body, headers), (200, json.dumps(completion("[[A]]", 9)).encode(), {})]
    with serving(JudgeServer(longer)) as server:
        server._said = lambda *_: plan.pop(0)  # type: ignore[method-assign]
        outcomes, kept = ask(EndpointJudge(rubric(server.url, timeout=20)), numbered(1))
    assert [reply.fault for _, reply in kept] == ["a reply that is too large", ""]
    assert outcomes[0].winner == "first"


def test_a_packed_reply_is_read() -> None:
    body = gzip.compress(json.dumps(completion("[[A]]", 9)).encode())
    with serving(JudgeServer(longer)) as server:
        server._said = lambda *_: (200, body, {"Content-Encoding": "gzip"})  # type: ignore[method-assign]
        outcomes, _ = ask(EndpointJudge(rubric(server.url)), numbered(1))
    assert outcomes[0].winner == "first"


def test_a_reply_that_trickles_ends_with_the_timeout() -> None:
    class Slow(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(10000)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.request.sendall(b" ")
                    time.sleep(0.05)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as slow:
        slow.daemon_threads = True
        threading.Thread(target=slow.serve_forever, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(PartialError, match="no answer in time"):
            rules = rubric(f"http://127.0.0.1:{slow.server_address[1]}/v1", retries=0, timeout=HANG / 2)
            ask(EndpointJudge(rules), numbered(1))
        assert time.monotonic() - began < 2
        slow.shutdown()


@pytest.mark.parametrize("logprob", ["Infinity", "-Infinity", "NaN", "0.5", "null"])
def test_log_probabilities_that_are_none_leave_it_to_the_text(logprob: str) -> None:
    told = completion("[[B]]", 9)
    told["choices"][0]["logprobs"] = likelihoods("[[B]]", lambda token: "A" if token == "B" else token)
    whole = json.dumps(told)
    for body, winner, form in (
        (whole, "first", "logprobs"),
        (whole.replace("-4.0", logprob), "second", "text"),
    ):
        with serving(JudgeServer(longer)) as server:
            server._said = lambda *_, body=body: (200, body.encode(), {})  # type: ignore[method-assign]
            outcomes, _ = ask(EndpointJudge(rubric(server.url, verdict="logprobs")), numbered(1))
        assert (outcomes[0].winner, outcomes[0].form) == (winner, form)


STRANGE = (
    '{"choices": [{"message": {"content": 3}}]}',
    "[]",
    "null",
    '{"choices": [{}], "usage": {"prompt_tokens": -1}}',
    '{"choices": [{"message": "[[A]]"}], "usage": 3}',
    '{"choices": {"0": "[[A]]"}}',
    "[" * 3000 + "]" * 3000,
)


def test_a_reply_of_another_shape_is_read_as_what_it_is() -> None:
    bodies = iter(STRANGE)
    with serving(JudgeServer(longer)) as server:
        server._said = lambda *_: (200, next(bodies).encode(), {})  # type: ignore[method-assign]
        outcomes, kept = ask(EndpointJudge(rubric(server.url, retries=len(STRANGE) - 1)), numbered(1))
    assert outcomes[0].winner == "unscored" and len(kept) == len(STRANGE)
    assert all(reply.fault and reply.tokens_in is None for _, reply in kept)


def test_a_text_that_no_file_can_hold_is_kept_as_far_as_it_can(tmp_path: Path) -> None:
    body = json.dumps(completion("\ud800 [[A]]", 9)).encode()
    with serving(JudgeServer(longer)) as server:
        server._said = lambda *_: (200, body, {})  # type: ignore[method-assign]
        outcomes, kept = ask(EndpointJudge(rubric(server.url)), numbered(1))
    AnswerLog(tmp_path / "log", b"key", []).keep("asked", asdict(kept[0][1]))
    assert outcomes[0].winner == "first" and kept[0][1].text == "? [[A]]"
