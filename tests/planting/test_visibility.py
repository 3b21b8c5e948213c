"""The classifier of planted rows: it finds what stands out, and nothing where nothing does."""

import random

import pytest

from dpaudit.planting import visibility
from dpaudit.planting.visibility import FEWEST

WORDS = (
    "pill",
    "noon",
    "nurse",
    "ward",
    "take",
    "daily",
    "pain",
    "fever",
    "cough",
    "sleep",
    "water",
    "doctor",
)


def rows(count: int, seed: int, more: str = "") -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=12)) + more for _ in range(count)]


def test_a_phrase_that_all_planted_rows_share_is_found() -> None:
    seen = visibility.visibility(rows(200, 1, " access phrase"), rows(200, 2))
    assert seen is not None and seen.auc > 0.99 and seen.found > 0.95
    assert (seen.planted, seen.real) == (200, 200)


def test_rows_of_one_kind_are_not_told_apart() -> None:
    found = [visibility.visibility(rows(200, 2 * n), rows(200, 2 * n + 1), seed=n) for n in range(8)]
    aucs = [seen.auc for seen in found if seen is not None]
    assert len(aucs) == 8 and 0.45 < sum(aucs) / 8 < 0.55
    assert all(seen.found < 0.1 for seen in found if seen is not None)


def test_a_row_and_what_it_was_made_from_lie_in_one_fold() -> None:
    """Else its twin, which is labelled the other way, teaches the classifier the opposite of what it sees."""
    made_from = [f"{row} word{n} more{n}" for n, row in enumerate(rows(150, 3))]
    planted = [f"{row} it" for row in made_from]
    apart = visibility.visibility(planted, made_from)
    together = visibility.visibility(planted, made_from, [*range(150), *range(150)])
    assert apart is not None and together is not None and together.auc >= apart.auc > 0.5


@pytest.mark.parametrize(("planted", "real"), [(FEWEST - 1, 50), (50, FEWEST - 1)])
def test_of_too_few_rows_nothing_is_said(planted: int, real: int) -> None:
    assert visibility.visibility(rows(planted, 1), rows(real, 2)) is None


def test_few_real_rows_give_no_false_alarm() -> None:
    """One per cent of 50 rows is none: what is found lies above all of them."""
    seen = visibility.visibility(rows(50, 1), rows(50, 2))
    assert seen is not None and seen.found < 0.2


def test_the_beginning_and_the_end_of_a_long_text_are_read() -> None:
    around = "w " * visibility.LONGEST
    for marked in (f"zq {around}", f"{around} zq"):
        planted = [f"{marked}{number}" for number in range(40)]
        seen = visibility.visibility(planted, [f"{around}{number}" for number in range(40)])
        assert seen is not None and seen.auc > 0.99
