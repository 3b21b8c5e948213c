"""Log-probabilities of verdicts, from the likeliest tokens at the place of the one that was written."""

import math

import pytest

from dpaudit.judging.verdicts import Labels
from dpaudit.judging.weighed import Token, weigh

BOTH = Labels("[[A]]", "[[B]]", "", "[[both right]]", "[[both wrong]]")
CHINESE = Labels("[[A]]", "[[B]]", "", "[[都对]]", "[[都错]]")


def token(text: str | bytes, share: float = 1.0, **likeliest: float) -> Token:
    raw = text.encode() if isinstance(text, str) else text
    told = tuple((name.encode(), math.log(value)) for name, value in likeliest.items())
    return Token(raw, math.log(share), told or ((raw, math.log(share)), (b"x", -9.0)))


def at(text: str, share: float, likeliest: dict[str, float]) -> Token:
    return token(text, share, **likeliest)


def shares(*tokens: Token, labels: Labels = BOTH) -> dict[str, float] | None:
    found = weigh(tokens, labels)
    return None if found is None else {name: math.exp(value) for name, value in found.items()}


def test_every_verdict_has_the_probability_of_its_token_there() -> None:
    likeliest = {"A": 0.6, "B": 0.2, "both": 0.1, " A": 0.05}
    told = [token("[[A]] looks right.\n"), token("[["), at("A", 0.6, likeliest), token("]]")]
    assert shares(*told) == pytest.approx(
        {"first": 0.65, "second": 0.2, "both right": 0.1, "both wrong": 0.1}
    )


def test_verdicts_that_begin_alike_part_where_they_differ() -> None:
    told = [
        token("Because.\n[["),
        at("both", 0.7, {"both": 0.7, "A": 0.2, "B": 0.1}),
        at(" wrong", 0.9, {" wrong": 0.9, " right": 0.1}),
        token("]]"),
    ]
    assert shares(*told) == pytest.approx(
        {"first": 0.2, "second": 0.1, "both wrong": 0.63, "both right": 0.07}
    )


def test_what_was_drawn_need_not_be_the_likeliest() -> None:
    found = shares(token("[["), at("B", 0.1, {"A": 0.8, "C": 0.05}), token("]]"))
    assert (
        found is not None and found["first"] == pytest.approx(0.8) and found["second"] == pytest.approx(0.1)
    )
    assert found["both right"] == pytest.approx(0.05)  # not told: the least of those told, at most


def test_a_token_may_hold_brackets_and_half_a_letter() -> None:
    found = shares(at("[[A", 0.9, {"[[A": 0.9, "[[B": 0.08, "**": 0.01}), token("]]"))
    assert found is not None and found["second"] == pytest.approx(0.08)
    half = "都".encode()
    told = [
        token(b"[[" + half[:2]),
        Token(half[2:], -0.1, ((half[2:], -0.1), (b"y", -4.0))),
        at("对", 0.5, {"对": 0.5, "错": 0.4}),
        token("]]"),
    ]
    told[0] = Token(told[0].raw, -0.1, ((told[0].raw, -0.1), (b"[[A", -3.0), (b"[[B", -2.0)))
    found = weigh(told, CHINESE)
    assert found == pytest.approx(
        {
            "first": -3.0,
            "second": -2.0,
            "both right": -0.2 + math.log(0.5),
            "both wrong": -0.2 + math.log(0.4),
        }
    )


@pytest.mark.parametrize(
    "told",
    [
        [],
        [token("No verdict here.")],
        [token("[["), Token(b"A", -0.1, ()), token("]]")],  # no likeliest
        [token("[["), Token(b"A", -0.1, ((b"A", -0.1),)), token("]]")],  # too few
        [token("<think>[["), token("A"), token("]]")],
        [token("[[A]] or [[B]]")],
        [token(b"\xff[["), token("A"), token("]]")],
    ],
)
def test_where_they_do_not_tell_there_is_no_weight(told: list[Token]) -> None:
    assert weigh(told, BOTH) is None
