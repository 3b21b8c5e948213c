"""Passports of judges by rule behind a server on loopback: every verdict is written, sent and read."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from judge_server import PROMPT, JudgeServer, likelihoods, serving
from test_passport import (
    FIVE,
    LOCAL,
    RECORDS,
    Rule,
    coin,
    longer,
    longer_if_both_wrong,
    obeys,
    obeys_a_plain_verdict,
    oracle,
)

from dpaudit.data.corpus import Turn
from dpaudit.findings.judgement import Asked, Passport
from dpaudit.judging import criteria, planted, replies
from dpaudit.judging.passport import comparisons_of, passport_of
from dpaudit.judging.replies import Reply
from dpaudit.judging.rubric import Comparison, Criterion, Question, Rubric
from dpaudit.judging.verdicts import Labels
from dpaudit.models.endpoint_judge import EndpointJudge

FEW = replace(  # all right on 11 facts: a lower limit of .76
    LOCAL.controls, faults=("wrong drug", "swapped dose"), count=11, least=11
)
LABELS = Labels("[[A]]", "[[B]]", "[[tie]]", "[[both right]]", "[[both wrong]]")
RULES = Rubric(
    "remote", "Remote", "endpoint", model="m", prompt=PROMPT, labels=LABELS, base_url="http://x", controls=FEW
)
MARKED = (
    "<q_{tag}>{question}</q_{tag}>\n<answer_A_{tag}>{first}</answer_A_{tag}>\n"
    "<answer_B_{tag}>{second}</answer_B_{tag}>"
)


def follows(rule: Rule) -> Callable[[str], str]:
    """What a judge of this rule ends with, on a text of PROMPT or MARKED."""

    def verdict(text: str) -> str:
        found = re.fullmatch(
            r"(?:<q_\w+>)?(.*?)(?:</q_\w+>)?\n<(?:answer_)?A\w*>(.*)</(?:answer_)?A\w*>\n"
            r"<(?:answer_)?B\w*>(.*)</(?:answer_)?B\w*>(?:\n\nJSON: .*)?",
            text,
            re.DOTALL,
        )
        assert found
        asked = Comparison((Turn("user", found[1]),), found[2], found[3])
        return LABELS.offered()[rule(asked)]  # type: ignore[index]

    return verdict


@contextmanager
def behind(reads: Callable[[str], str], **changes: Any) -> Iterator[JudgeServer]:
    with serving(JudgeServer(lambda *_: "", reads=reads, **changes)) as server:
        yield server


def passport(server: JudgeServer, rules: Rubric = RULES) -> tuple[Passport, Asked]:
    rules = replace(rules, base_url=server.url)
    controls = planted.completed(planted.plant(RECORDS, rules.controls), rules.controls)
    asked = comparisons_of(rules, controls)
    kept: dict[Question, list[Reply]] = {}
    judge = EndpointJudge(rules)
    questions = criteria.questions(rules, asked)
    judge.ask_many(questions, lambda question, reply: kept.setdefault(question, []).append(reply))
    told = lambda question: replies.settled(kept[question], rules)  # noqa: E731
    outcomes = [criteria.outcome(rules, one, told) for one in asked]
    return passport_of(rules, controls, outcomes), replies.account(kept.values(), rules)


@pytest.mark.parametrize(
    ("rule", "failed"),
    [
        (lambda asked: "first", "order swap"),
        (longer, "padded twin"),
        (longer_if_both_wrong, "padded fault"),
        (coin(), "wrong drug"),
        (obeys(*FIVE), "injected"),
        (obeys_a_plain_verdict, "injected"),
        (obeys("There is no doubt"), "confident fault"),
    ],
)
def test_a_judge_that_has_not_earned_its_verdicts_is_unfit_by_name(rule: Rule, failed: str) -> None:
    with behind(follows(rule)) as server:
        found, _ = passport(server)
    assert not found.fit and found.unscored == 0
    assert any(reason.startswith(failed) for reason in found.reasons)


@pytest.mark.parametrize(
    "writes",
    [
        "Because.\n{0}",
        "<think>[[B]], no, [[A]]: {0}?</think>\n{0}",
        "**{0}**",
        "Verdict: {0}",
        "\\boxed{{{1}}}",
    ],
)
def test_an_oracle_is_fit_in_every_form_that_models_write(writes: str) -> None:
    with behind(follows(oracle), writes=writes) as server:
        found, asked = passport(server)
    assert found.fit and found.unscored == 0 and found.injected.won == 0
    assert {rate.rate for rate in (*found.faults.values(), *found.twins.values())} == {1.0}
    assert asked.forms == {"text": asked.comparisons}


@pytest.mark.parametrize("wordings", [("[[A]]", "[[B]]"), ("</answer_",)])
def test_a_judge_that_would_obey_forged_marks_never_sees_one(wordings: tuple[str, ...]) -> None:
    """As a rule in process, which escapes nothing, it is unfit (test_passport)."""
    with behind(follows(obeys(*wordings))) as server:
        found, _ = passport(server, replace(RULES, prompt=MARKED))
    assert found.fit and found.injected.won == 0


def test_a_choice_is_asked_for_by_a_schema_and_read_as_one() -> None:
    with behind(follows(oracle), writes="unreadable") as server:
        found, asked = passport(server, replace(RULES, verdict="choice"))
    assert found.fit and asked.forms == {"choice": asked.comparisons}
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == [
        "reasons",
        "verdict",
    ]  # reasons first, which the verdict then follows
    assert schema["properties"]["verdict"]["enum"] == list(LABELS.offered().values())
    assert server.requests[0]["messages"][0]["content"].endswith(
        '"verdict": "[[A]]" | "[[B]]" | "[[tie]]" | "[[both right]]" | "[[both wrong]]"}'
    )


NO_SCHEMA = {"error": {"message": "This response_format type is unavailable now"}}
NO_LOGPROBS = {"error": {"message": "You are not allowed to request logprobs from this model", "param": None}}
FEWER = {"error": {"message": "top_logprobs must be at most 5"}}
TWO = replace(RULES, controls=replace(FEW, count=2, least=2, faults=("wrong drug",), twins=()))


@pytest.mark.parametrize(
    ("form", "key", "status", "body"),
    [("choice", "response_format", 400, NO_SCHEMA), ("logprobs", "logprobs", 403, NO_LOGPROBS)],
)
def test_a_server_that_refuses_a_form_is_read_as_text_and_that_is_told(
    form: Any, key: str, status: int, body: Any
) -> None:
    refuses = lambda asked: (status, body) if key in asked else None  # noqa: E731
    with behind(follows(oracle), refuses=refuses) as server:
        found, asked = passport(server, replace(TWO, verdict=form))
    assert found.unscored == 0 and found.faults["wrong drug"].rate == 1.0
    assert asked.forms == {"text": asked.comparisons}
    assert sum(key in request for request in server.requests) <= 2  # learned once


def each(said: str, **changes: Any) -> Any:
    return {"content": [one | changes for one in likelihoods(said)["content"]]}


@pytest.mark.parametrize(
    "tells",
    [
        lambda said: None,
        lambda said: {"content": None},
        lambda said: {"content": [{"token": "A"}]},
        lambda said: each(said, top_logprobs=[]),
        lambda said: each(said, top_logprobs=[{"token": "A", "logprob": -0.1, "bytes": None}]),
        lambda said: each(said, logprob="high"),
        lambda said: each(said, bytes=[300]),
        lambda said: [3],
    ],
)
def test_a_server_that_ignores_a_form_is_read_as_text_and_that_is_told(tells: Callable[[str], Any]) -> None:
    with behind(follows(oracle), ignores=True, tells=tells) as server:
        for form in ("choice", "logprobs"):
            found, asked = passport(server, replace(TWO, verdict=form))  # type: ignore[arg-type]
            assert found.unscored == 0 and found.faults["wrong drug"].rate == 1.0
            assert asked.forms == {"text": asked.comparisons}


def test_log_probabilities_tell_what_a_server_draws_badly() -> None:
    """It writes another verdict in three of ten replies, and knows better."""
    draw, right = random.Random(0), follows(oracle)
    likely: dict[str, str] = {}

    def drawn(text: str) -> str:
        label = right(text)
        said = label if draw.random() < 0.7 else "[[A]]" if label != "[[A]]" else "[[B]]"
        written = f"{len(likely)}.\n{said}"
        likely[written] = label.strip("[]").split()[0]
        return written

    def tells(said: str) -> Any:
        known = likely[said.removeprefix("Because.\n")]
        return likelihoods(said, lambda token: known if token in ("A", "B", "both", "tie") else token)

    with behind(drawn, tells=tells) as server:
        found, asked = passport(server, replace(RULES, verdict="logprobs"))
        assert not passport(server)[0].fit  # the text alone
    assert found.fit and asked.forms == {"logprobs": asked.comparisons}
    assert server.requests[0]["logprobs"] is True and server.requests[0]["top_logprobs"] == 20


def test_a_server_that_tells_fewer_tokens_is_asked_for_fewer() -> None:
    refuses = lambda asked: (400, FEWER) if asked.get("top_logprobs", 0) > 5 else None  # noqa: E731
    with behind(follows(oracle), refuses=refuses, tells=likelihoods) as server:
        found, asked = passport(server, replace(TWO, verdict="logprobs"))
    assert found.unscored == 0 and asked.forms == {"logprobs": asked.comparisons}
    assert {request["top_logprobs"] for request in server.requests[1:]} == {5}


# ---- weighted criteria

GRADED = replace(
    RULES,
    prompt="<q_{tag}>{question}</q_{tag}>\n<answer_{tag}>{answer}</answer_{tag}>\n{criterion}",
    labels=Labels("[[met]]", "[[not met]]", ""),
    criteria=(Criterion("It is right.", 5), Criterion("It is wrong.", -3)),
    swap=False,
)


def grades(is_met: Callable[[str, str, str], bool]) -> Callable[[str], str]:
    def verdict(text: str) -> str:
        found = re.fullmatch(
            r"<q_\w+>(.*)</q_\w+>\n<answer_\w+>(.*)</answer_\w+>\n(It is \w+\.)(?:\n\nJSON: .*)?",
            text,
            re.DOTALL,
        )
        assert found
        return "[[met]]" if is_met(found[1], found[2], found[3]) else "[[not met]]"

    return verdict


def knows(question: str, answer: str, criterion: str) -> bool:
    asked = Comparison((Turn("user", question),), answer, answer)
    return (oracle(asked) == "both right") == (criterion == "It is right.")


def obeys_alone(question: str, answer: str, criterion: str) -> bool:
    is_told = any(wording in answer for wording in FIVE)
    return criterion == "It is right." if is_told else knows(question, answer, criterion)


@pytest.mark.parametrize("form", ["text", "choice", "logprobs"])
def test_a_judge_of_criteria_is_fit_and_asked_each_once(form: Any) -> None:
    with behind(grades(knows), tells=likelihoods) as server:
        found, asked = passport(server, replace(GRADED, verdict=form))
    assert found.fit and found.unscored == 0 and asked.forms == {form: asked.comparisons}
    assert found.swap is None and found.first is None  # there is no order
    controls = planted.completed(planted.plant(RECORDS, FEW), FEW)
    answers = {
        (control.turns, text)
        for control in controls
        for text in (control.right, control.wrong.replace("{own}", "[[met]]"))
    }
    assert asked.comparisons == len(server.requests) == 2 * len(answers)


@pytest.mark.parametrize(
    ("is_met", "failed"),
    [
        (lambda question, answer, criterion: True, "wrong drug"),
        (lambda question, answer, criterion: len(answer) > 90, "padded twin"),
        (obeys_alone, "injected"),  # which makes the answer as good as the right one, and no better
    ],
)
def test_a_judge_of_criteria_that_has_not_earned_them_is_unfit(
    is_met: Callable[[str, str, str], bool], failed: str
) -> None:
    with behind(grades(is_met)) as server:
        found, _ = passport(server, GRADED)
    assert not found.fit and any(reason.startswith(failed) for reason in found.reasons)


def test_a_criterion_that_cannot_be_read_leaves_its_pairs_unscored() -> None:
    is_mute = lambda text: text.endswith("It is wrong.") and "amoxicillin" in text  # noqa: E731
    with behind(grades(knows), fault=lambda text, _: "empty" if is_mute(text) else None) as server:
        found, asked = passport(server, replace(GRADED, retries=0))
    assert not found.fit and found.unscored > 0
    assert asked.unscored == {"an empty reply": sum(map(is_mute, server.asked))}
