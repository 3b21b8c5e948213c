"""The family of a page: who is admitted by counts alone, the level of each, and how often a true page is
refuted.
"""

import math

import numpy as np
import pytest

from dpaudit.evidence import family

RUNS = 4000
ALLOWED = 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


def test_who_could_never_refute_leaves_and_costs_the_others_nothing() -> None:
    assert family.admitted({"a": 1e-9, "b": 0.3, "c": 1e-9}) == ["a", "c"]
    assert family.admitted({"a": 0.04}) == ["a"]
    # two could be refuted at 0.025 each, three at none of 0.0167
    assert family.admitted({"a": 0.02, "b": 0.02, "c": 0.02}) == ["a", "b"]
    assert family.admitted({"a": 0.9}) == [] and family.first_level(0) == 0.05


def test_levels_are_those_of_holm() -> None:
    assert family.levels({"a": [0.001], "b": [0.02], "c": [0.03]}) == {
        "a": 0.05 / 3,
        "b": 0.05 / 2,
        "c": 0.05,
    }
    assert family.levels({"a": [0.2], "b": [0.02]}) == {"a": 0.05, "b": 0.025}
    assert family.levels({"a": [0.2], "b": [0.03]}) == {"a": 0.025, "b": 0.025}


def test_a_member_frees_its_share_only_once_all_its_claims_are_refuted() -> None:
    """One adapter with two claims, of which the smaller one alone is refuted, stays in the family."""
    assert family.levels({"a": [0.001, 0.4], "b": [0.04]}) == {"a": 0.025, "b": 0.025}
    assert family.levels({"a": [0.001, 0.001], "b": [0.04]}) == {"a": 0.025, "b": 0.05}


@pytest.mark.parametrize("false", [0, 1, 3])
def test_true_claims_are_refuted_anywhere_in_five_per_cent_at_most(false: int) -> None:
    """4,000 pages of six members, some of them false, with two nested claims of one adapter: the smaller one
    is false and the larger one is true. Seed 1.
    """
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(RUNS):
        p_values = {str(n): [0.0] if n < false else [random.random()] for n in range(6)}
        p_values["nested"] = [1e-9, random.random()]
        levels = family.levels(p_values)
        true = [name for name in p_values if name == "nested" or int(name) >= false]
        wrong += any(p_values[name][-1] <= levels[name] for name in true)
    assert 0.02 < wrong / RUNS <= ALLOWED


def test_the_null_of_a_mechanism_test_grows_with_the_family() -> None:
    for members in (1, 6, 40):
        assert family.first_level(members) * family.draws(members) >= 40
