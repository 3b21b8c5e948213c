"""Canaries: uniform secrets in their declared space, on the answer's side, one person each."""

from collections import Counter

import pytest

from dpaudit import canary
from dpaudit.canary import Canary
from dpaudit.errors import UsageError


@pytest.mark.parametrize("family", sorted(canary.FAMILIES))
def test_the_secret_is_on_the_completion_side_and_in_its_space(family: str) -> None:
    for drawn in canary.draw(family, 50, 3, 2, "extraction", set(), "0"):
        question, answer = drawn.records[0].turns
        assert drawn.secret in answer.text and drawn.secret not in question.text
        symbols = drawn.secret.split(drawn.separator) if drawn.separator else list(drawn.secret)
        assert len(symbols) == drawn.length == 3 and set(symbols) <= set(drawn.alphabet)
        assert drawn.space == len(drawn.alphabet) ** 3
        assert len(drawn.records) == 2 and {r.patient for r in drawn.records} == {drawn.id}
        assert drawn.pair is not None and drawn.secret in (drawn.pair.chosen or "")


def test_symbols_are_uniform() -> None:
    drawn = canary.draw("record_number", 500, 6, 1, "mia", set(), "1")
    counts = Counter("".join(c.secret for c in drawn))
    expected = 3000 / 10
    chi_squared = sum((counts[d] - expected) ** 2 / expected for d in "0123456789")
    assert chi_squared < 27.9  # 9 degrees of freedom: a correct draw exceeds it with probability .001


def test_no_two_canaries_share_a_surname_and_taken_ones_are_left() -> None:
    taken: set[str] = set()
    first = canary.draw("portal_phrase", 100, 4, 1, "mia", taken, "0")
    second = canary.draw("portal_phrase", 100, 4, 1, "extraction", taken, "0")
    questions = {c.records[0].turns[0].text for c in (*first, *second)}
    assert len(taken) == len(questions) == 200


def test_canaries_survive_json() -> None:
    drawn = canary.draw("portal_phrase", 1, 4, 2, "mia", set(), "0")[0]
    assert Canary.from_json(drawn.to_json()) == drawn


def test_public_people_are_no_canaries() -> None:
    public = {canary.public_phrase(i).turns[0].text for i in range(canary.PUBLIC_PEOPLE)}
    drawn = canary.draw("portal_phrase", 400, 4, 1, "mia", set(), "0")
    assert not public & {c.records[0].turns[0].text for c in drawn}


def test_an_unknown_family_and_too_many_canaries_are_refused() -> None:
    with pytest.raises(UsageError, match="one of portal_phrase, record_number"):
        canary.draw("shopping_list", 1, 4, 1, "mia", set(), "0")
    with pytest.raises(UsageError, match="at most"):
        canary.draw("portal_phrase", 10_000, 4, 1, "mia", set(), "0")
