"""Replies of a judge: what they say together, what they cost, and how a server is asked for them."""

from pathlib import Path

import pytest
import yaml

from dpaudit import content
from dpaudit.errors import UsageError
from dpaudit.findings.judgement import Asked
from dpaudit.judging import replies, rubric
from dpaudit.judging.replies import Reply
from dpaudit.judging.rubric import Outcome, Rubric

RULES = Rubric("l", "L", "likelihood", model="m", tie_margin=0.1)
CUT, MUTE = Reply(fault="cut"), Reply("Both have merits.", tokens_in=5, tokens_out=2)
FIRST = Reply("[[A]]", tokens_in=7, tokens_out=1, own_temperature=True)


def test_the_first_verdict_counts_and_a_text_beside_a_fault_is_none() -> None:
    assert replies.settled([CUT, MUTE, FIRST, Reply("[[B]]")], RULES) == Outcome("first")
    assert replies.settled([MUTE, CUT], RULES) == Outcome("unscored", reason="cut")
    assert replies.settled([CUT, MUTE], RULES) == Outcome("unscored", reason=replies.NO_VERDICT)
    assert replies.settled([Reply("[[A]]", fault="cut")], RULES).winner == "unscored"


def test_a_margin_is_read_with_the_rubrics_tie() -> None:
    margins = (0.2, -0.2, 0.1, 0.0)
    assert [replies.settled([Reply(margin=margin)], RULES).winner for margin in margins] == [
        "first",
        "second",
        "tie",
        "tie",
    ]


@pytest.mark.parametrize("margin", [float("inf"), float("-inf"), float("nan")])
def test_a_score_that_is_no_number_is_no_verdict(margin: float) -> None:
    found = replies.settled([Reply(margin=margin)], RULES)
    assert found == Outcome("unscored", reason=replies.NO_NUMBER)
    logprobs = {"first": margin, "second": -1.0}
    told = replies.settled([Reply("[[A]]", form="logprobs", logprobs=logprobs)], RULES)
    assert told == Outcome("first", form="text")


def test_an_account_counts_comparisons_replies_tokens_and_reasons() -> None:
    found = replies.account([[CUT, FIRST], [MUTE], [], [CUT], [MUTE, CUT]], RULES)
    assert found == Asked(
        comparisons=4,
        replies=6,
        tokens_in=7 + 5 + 5,
        tokens_out=1 + 2 + 2,
        untold=3,
        own_temperature=1,
        forms={"text": 1},
        unscored={"cut": 2, replies.NO_VERDICT: 1},
        failed={"cut": 1, replies.NO_VERDICT: 1},
    )
    lost = [replies.Lost("status 429")] * 2
    assert replies.account([[FIRST]], RULES, lost).failed == {"status 429": 2}


@pytest.mark.parametrize(
    ("text", "winner", "form"),
    [
        ('{"reasons": "[[B]] is longer.", "verdict": "[[A]]"}', "first", "choice"),
        ('<think>[[B]]</think>```json\n{"verdict": "tie"}\n```', "tie", "choice"),
        (
            '{"reasons": "The instruction was [[A]] or", "ver',
            "unscored",
            "",
        ),  # cut: its reasons are no verdict
        ('{"reasons": "[[A]]"}', "unscored", ""),
        ('{"verdict": "[[C]]"}', "unscored", ""),
        ('{"verdict": ["[[A]]"]} {}', "unscored", ""),
        ("{" * 5000, "unscored", ""),
        ("Because.\n[[B]]", "second", "text"),  # the server ignored what was asked for
    ],
)
def test_a_choice_is_read_as_json_and_never_in_its_reasons(text: str, winner: str, form: str) -> None:
    found = replies.settled([Reply(text, form="choice")], RULES)
    assert (found.winner, found.form or form) == (winner, form) and bool(found.reason) == (
        winner == "unscored"
    )


@pytest.mark.parametrize(
    ("logprobs", "winner", "margin"),
    [
        ({"first": -0.2, "second": -2.0, "tie": -5.0}, "first", 1.8),
        ({"first": -0.7, "second": -0.75, "tie": -5.0}, "tie", 0.05),  # the rubric's tie
        ({"first": -3.0, "second": -2.5, "both wrong": -0.2}, "both wrong", -0.5),
        ({"first": -3.0, "both wrong": -0.2, "both right": -0.2}, "tie", None),  # one of both, unknown which
    ],
)
def test_the_likeliest_verdict_counts_whatever_was_written(
    logprobs, winner: str, margin: float | None
) -> None:
    found = replies.settled([Reply("[[B]]", form="logprobs", logprobs=logprobs)], RULES)
    assert (found.winner, found.form) == (winner, "logprobs")
    assert found.margin == (None if margin is None else pytest.approx(margin))


def test_log_probabilities_that_decide_nothing_leave_it_to_the_text() -> None:
    even = {"first": -1.0, "both wrong": -1.0, "second": -3.0}
    found = replies.settled([Reply("[[B]]", form="logprobs", logprobs=even)], RULES)
    assert (found.winner, found.form) == ("second", "text")
    assert replies.settled([Reply("Hm.", form="logprobs")], RULES).reason == replies.NO_VERDICT


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("temperature", -0.1, "at least 0"),
        ("temperature", float("nan"), "a number"),
        ("timeout", 0.0, "above 0"),
        ("retries", -1, "at least 0"),
        ("max_new_tokens", 0, "at least 1"),
        ("max_tokens_as", "max_length", "max_completion_tokens"),
    ],
)
def test_how_a_server_is_asked_is_checked(key: str, value: object, expected: str, tmp_path: Path) -> None:
    rules = yaml.safe_load((content.shipped("judges") / "endpoint.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(rules | {key: value}), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"mine\.yaml: {key}: expected .*{expected}"):
        rubric.load(str(file))


def test_a_server_s_own_temperature_is_no_number(tmp_path: Path) -> None:
    rules = yaml.safe_load((content.shipped("judges") / "endpoint.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(rules | {"temperature": None}), encoding="utf-8")
    assert rubric.load(str(file)).temperature is None
