"""Claims as they are typed, what coins test of them, and what would refute them."""

import math

import pytest

from dpaudit.errors import UsageError
from dpaudit.evidence import claims, detection
from dpaudit.findings.verification import Detection
from dpaudit.privacy.claim import Claim


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("delta=1e-5,unit=record,relation=add_or_remove", "eps"),
        ("eps=3,unit=record,relation=add_or_remove", "delta"),
        ("eps=3,delta=1e-5,relation=add_or_remove", "unit"),
        ("eps=3,delta=1e-5,unit=record", "relation"),
        ("eps=3,delta=1e-5,unit=record,relation=add_or_remove,sigma=1", "sigma"),
        ("eps=3,eps=4,delta=1e-5,unit=record,relation=add_or_remove", "twice"),
        ("eps=three,delta=1e-5,unit=record,relation=add_or_remove", "three"),
        ("eps=3,delta=1,unit=record,relation=add_or_remove", "below 1"),
        ("eps=-3,delta=0,unit=record,relation=add_or_remove", "0 or more"),
        ("eps=inf,delta=0,unit=record,relation=add_or_remove", "finite, got inf; an infinite epsilon claims"),
        ("eps=3,delta=1e-5,unit=person,relation=add_or_remove", "person"),
    ],
)
def test_claims_that_say_too_little_or_too_much(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        claims.parse(text)


def test_a_claim_is_read_whole() -> None:
    assert claims.parse(" eps=3, delta=1e-5 ,unit=pair,relation=replace") == Claim(
        3.0, 1e-5, "pair", "replace"
    )
    assert (
        claims.parse("eps=3,delta=1e\N{MINUS SIGN}5,unit=pair,relation=replace").delta == 1e-5
    )  # from a page


def test_claims_that_the_coins_do_not_test() -> None:
    with pytest.raises(UsageError, match="replace"):
        claims.check_testable(Claim(3, 1e-5, "record", "replace"), "record")
    with pytest.raises(UsageError, match="never compared"):
        claims.check_testable(Claim(3, 1e-5, "patient", "add_or_remove"), "record")
    with pytest.raises(UsageError, match="no canary is planted"):
        claims.check_testable(Claim(3, 1e-5, "label", "add_or_remove"), "pair")
    claims.check_testable(Claim(3, 1e-5, "record", "add_or_remove"), "record")


def test_detection_is_at_the_edge() -> None:
    from scipy.stats import binom

    from dpaudit.stats.epsilon import epsilon_lower_one_run

    at = {"canaries": 500, "guesses": 200, "delta": 1e-5, "confidence": 0.95}
    found = detection.of_one_run(epsilon=3, **at)  # type: ignore[arg-type]
    assert found.correct is not None and found.epsilon is not None
    assert epsilon_lower_one_run(correct=found.correct, **at) > 3  # type: ignore[arg-type]
    assert epsilon_lower_one_run(correct=found.correct - 1, **at) <= 3  # type: ignore[arg-type]
    assert binom.sf(found.correct - 1, 200, 1 / (1 + math.exp(-found.epsilon))) == pytest.approx(0.8)
    assert detection.of_one_run(epsilon=5, **at) == Detection(None, None, 0.8)  # type: ignore[arg-type]


def test_a_lower_bound_is_rounded_down_in_words() -> None:
    from dpaudit.evidence.verdict import compare
    from dpaudit.privacy.claim import Claim

    claim = Claim(3.0, 1e-5, "record", "add_or_remove")
    assert "2.11 is not above" in compare(claim, 2.1173, 4.189).reason
    assert "4.18" in compare(claim, 2.1173, 4.189).reason
