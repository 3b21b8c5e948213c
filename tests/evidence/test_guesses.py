"""Guesses: ties count against the bound on either side, and how many they decide is known."""

import numpy as np
import pytest

from dpaudit.evidence import guesses
from dpaudit.findings.membership import Bound
from dpaudit.privacy.claim import Claim
from dpaudit.stats import epsilon


def test_ties_count_against_the_bound() -> None:
    scores, members = np.array([1.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert [guesses.guess_both(scores, members, (n, 0)) for n in range(5)] == [0, 0, 1, 2, 2]


def test_ties_leave_so_many_guesses_open() -> None:
    members = np.array([True, False] * 4)
    assert guesses.most_right(np.arange(8.0), members, (3, 0)) == 3  # no ties
    assert guesses.most_right(np.ones(8), members, (3, 0)) == 0  # controls first
    assert guesses.most_right(np.ones(8), members, (6, 0)) == 2
    assert guesses.most_right(np.ones(8), members, (8, 0)) == 8  # all are guessed: no tie decides
    some = np.array([9.0, 8.0, 1, 1, 1, 1, 1, 1])
    assert guesses.most_right(some, members, (2, 0)) == 2
    assert guesses.most_right(some, members, (4, 0)) == 2


def test_guesses_on_both_sides_count_ties_against_themselves() -> None:
    members = np.array([True, True, False, False])
    assert guesses.guess_both(np.array([4.0, 3.0, 2.0, 1.0]), members, (2, 2)) == 4
    assert guesses.guess_both(np.array([1.0, 2.0, 3.0, 4.0]), members, (2, 2)) == 0
    assert guesses.guess_both(np.array([4.0, 3.0, 2.0, 1.0]), members, (1, 0)) == 1
    assert (
        guesses.guess_both(np.zeros(4), members, (2, 2)) == 0
    )  # nothing but ties, and nobody is guessed twice
    assert (
        guesses.guess_both(np.array([1.0, 0.0, 0.0, 0.0]), members, (1, 1)) == 1
    )  # the tied member is guessed out


def test_guesses_on_both_sides_refute_no_more_often_than_they_may() -> None:
    """Scores that say nothing: at most 5 % of 4,000 audits refute epsilon 0; three standard errors above are
    6.1 %.
    """
    rng, refuted = np.random.default_rng(0), 0
    for _ in range(4000):
        coins = rng.random(200) < 0.5
        right = guesses.guess_both(rng.normal(size=200), coins, (50, 50))
        refuted += (
            epsilon.p_value_one_run(canaries=200, guesses=100, correct=right, epsilon=0.0, delta=0.0) <= 0.05
        )
    assert refuted / 4000 <= 0.061


def test_ties_on_the_low_side_leave_so_many_guesses_open() -> None:
    members = np.array([True, False] * 4)
    assert guesses.most_right(np.arange(8.0), members, (2, 2)) == 4  # no ties
    low = np.array([9.0, 8.0, 7.0, 6.0, 1, 1, 1, 1])  # two members among the four that are lowest
    assert guesses.most_right(low, members, (2, 2)) == 2
    assert guesses.most_right(low, members, (2, 3)) == 3
    assert guesses.most_right(low, members, (2, 4)) == 6  # all of the tied are guessed: no tie decides


@pytest.mark.parametrize("sides", [(30, 0), (15, 15), (40, 40)])
def test_no_guesses_are_right_beyond_what_ties_leave_open(sides: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    for levels in (1, 2, 5, 30):
        for _ in range(50):
            coins, scores = random.random(100) < 0.5, random.integers(levels, size=100).astype(float)
            made = guesses.guess(scores, coins, sides, 0.95)
            assert 0 <= made.correct <= made.correct_at_most <= made.guesses == sum(sides)
            assert made.equal_scores == (levels == 1)


def test_what_guesses_prove_is_what_the_statistics_say() -> None:
    made = guesses.Guesses(500, 200, 151, 190, False, 0.95)
    at = {"canaries": 500, "guesses": 200, "delta": 1e-5, "confidence": 0.95}
    assert made.lower(1e-5) == epsilon.epsilon_lower_one_run(correct=151, **at)  # type: ignore[arg-type]
    assert made.reachable(1e-5) == epsilon.epsilon_lower_one_run(correct=190, **at)  # type: ignore[arg-type]
    assert made.ceiling(1e-5) == epsilon.epsilon_ceiling_one_run(**at)  # type: ignore[arg-type]
    assert guesses.Guesses.of_bound(Bound(**made.bound(1e-5), method="one-run", rule="")) == made
    power = made.power(Claim(1.0, 1e-5, "record", "add_or_remove"))
    assert power.correct is not None and power.epsilon is not None and power.epsilon > 1
