"""AUCs on a page: each with its interval, and with a word where it tells nothing."""

import re
from pathlib import Path

import numpy as np
import pytest

from dpaudit.page.numbers import Numbers, is_few
from dpaudit.stats.roc import auc_interval

ROOT = Path(__file__).parents[2]


def shown(members: int, others: int, auc: float, lower: float, upper: float) -> str:
    part = {"n": members + others, "members": members, "auc": auc, "auc_lower": lower, "auc_upper": upper}
    return str(Numbers({"part": part}).area("/part"))


@pytest.mark.parametrize(
    ("counts", "values", "word"),
    [
        ((5, 8), (0.9, 0.55, 0.98), "too few"),  # which would read like a leak
        ((5, 400), (0.5, 0.2, 0.8), "too few"),
        ((40, 40), (0.5, 0.37, 0.63), "like chance"),
        ((40, 40), (0.52, 0.5, 0.54), "like chance"),
        ((40, 40), (0.9, 0.8, 0.95), None),
        ((40, 40), (0.3, 0.2, 0.4), None),
        ((0, 40), (0.9, 0.8, 0.95), "too few"),
    ],
)
def test_an_auc_that_tells_nothing_says_so(
    counts: tuple[int, int], values: tuple[float, float, float], word: str | None
) -> None:
    html = shown(*counts, *values)
    assert re.findall(r'<span class="tag">(.*?)</span>', html) == ([word] if word else [])
    assert 'class="interval"' in html


def test_of_a_baseline_and_of_near_duplicates_only_the_sum_is_kept() -> None:
    blind = {"units": 20, "auc": 0.9, "auc_lower": 0.8, "auc_upper": 0.95}
    near = {"members": 90, "nonmembers": 90, "n_without": 20}
    near |= {"auc_without": 0.9, "auc_without_lower": 0.8, "auc_without_upper": 0.95}
    num = Numbers({"few": blind, "many": blind | {"units": 80}, "near": near})
    assert "too few" in num.area("/few") and "tag" not in num.area("/many")
    assert "too few" in num.area("/near", "auc_without")


@pytest.mark.parametrize(("members", "others"), [(5, 8), (14, 14), (18, 18), (9, 200), (7, 200)])
def test_few_is_where_random_scores_go_far_from_one_half(members: int, others: int) -> None:
    """By 4,000 draws of random scores; the counts lie beside the limit, on either side of it."""
    drawn = np.random.default_rng(3).random((4000, members + others))
    ranks = drawn.argsort(axis=1).argsort(axis=1)[:, :members].sum(axis=1) - members * (members - 1) / 2
    far = np.mean(abs(ranks / (members * others) - 0.5) > 0.2)
    assert is_few(members, others) == (far > 0.05)
    labels = np.arange(members + others) < members
    assert auc_interval(drawn[0], labels, 0.95).auc == pytest.approx(ranks[0] / (members * others))


def test_no_template_shows_an_auc_by_another_rule() -> None:
    """Beside that of visibility, whose many rows of both kinds stand in its sentence."""
    places = [
        (file.name, found)
        for file in [*(ROOT / "reports").rglob("*.j2"), *(ROOT / "dpaudit/page").glob("*.py")]
        for found in re.findall(r"/auc\b[^\"']*[\"'], [\"']three", file.read_text(encoding="utf-8"))
    ]
    assert [name for name, _ in places] == ["verify.html.j2"]
