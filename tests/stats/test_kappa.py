"""Cohen's kappa: published values, its slow double, limits, and how often the interval holds the truth."""

import numpy as np
import pytest

from dpaudit.stats.kappa import cohen


def table(*cells: tuple[str, str, int]) -> tuple[list[str], list[str]]:
    pairs = [(one, other) for one, other, count in cells for _ in range(count)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def test_the_published_example() -> None:
    """Fleiss, Cohen and Everitt 1969, table 1: kappa .429 of 200 items, standard error .054."""
    cells = [
        ("a", "a", 106), ("a", "b", 10), ("a", "c", 4),
        ("b", "a", 22), ("b", "b", 28), ("b", "c", 10),
        ("c", "a", 2), ("c", "b", 12), ("c", "c", 6),
    ]  # fmt: skip
    found = cohen(*table(*cells))
    assert found.kappa == pytest.approx(0.429, abs=5e-4)
    assert found.agreement == pytest.approx(0.70)
    assert 0.054 <= (found.upper - found.lower) / 2 / 1.96 <= 0.054 * 1.2  # an exact interval is wider


def test_chance_is_zero_and_full_agreement_is_one_with_a_width() -> None:
    even = cohen(*table(("a", "a", 25), ("a", "b", 25), ("b", "a", 25), ("b", "b", 25)))
    assert even.kappa == pytest.approx(0.0) and even.lower < 0 < even.upper
    whole = cohen(*table(("a", "a", 20), ("b", "b", 20)))
    assert whole.kappa == 1.0 == whole.upper and 0.6 < whole.lower < 0.9
    none = cohen(*table(("a", "b", 20), ("b", "a", 20)))
    assert none.kappa == pytest.approx(-1.0) and none.upper < -0.6
    few = cohen(*table(("a", "a", 6), ("a", "b", 2), ("b", "a", 2)))
    assert few.lower == -1.0 < few.kappa


def test_one_verdict_for_everything_has_no_kappa() -> None:
    found = cohen(["a"] * 40, ["a"] * 40)
    assert (found.kappa, found.lower, found.upper) == (None, None, None)
    assert found.agreement == 1.0 and found.agreement_lower > 0.8


def test_copies_of_a_prompt_narrow_nothing() -> None:
    ours, theirs = table(("a", "a", 30), ("a", "b", 8), ("b", "a", 6), ("b", "b", 20))
    once = cohen(ours, theirs, range(64))
    twice = cohen(ours * 2, theirs * 2, [*range(64), *range(64)])
    assert twice.kappa == pytest.approx(once.kappa) and twice.clusters == 64
    assert (twice.lower, twice.upper) == pytest.approx((once.lower, once.upper), abs=0.01)


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("raters", [1, 3])
def test_the_interval_holds_the_truth(accuracy: float, raters: int) -> None:
    """2,000 replications at 40 prompts: at least .93 less three standard errors."""
    rng, shares, count = np.random.default_rng(int(accuracy * 100) + raters), (0.4, 0.4, 0.2), 40
    clusters = np.arange(count).repeat(raters).tolist()
    held = 0
    for _ in range(2000):
        judge = rng.choice(3, size=(count, 1), p=shares).repeat(raters, axis=1)
        guess = rng.choice(3, size=(count, raters), p=shares)
        people = np.where(rng.random((count, raters)) < accuracy, judge, guess)
        found = cohen(people.ravel().tolist(), judge.ravel().tolist(), clusters)
        held += found.kappa is None or found.lower <= accuracy <= found.upper  # kappa is the accuracy here
    assert held / 2000 >= 0.93 - 3 * (0.93 * 0.07 / 2000) ** 0.5


def test_lists_of_different_lengths_are_refused() -> None:
    for ours, theirs in ((["a"], []), ([], [])):
        with pytest.raises(ValueError, match="as many verdicts"):
            cohen(ours, theirs)
