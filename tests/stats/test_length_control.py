"""The win rate at equal lengths: what it corrects, how often it misses, and when it says nothing."""

import numpy as np
import pytest
from exceedances import allowed_exceedances
from scipy.special import expit, logit

from dpaudit.stats.length_control import CLUSTERS_LEAST, LONGER_LEAST, equal_length_rate, goes_with_length


def drawn(
    rng: np.random.Generator, prompts: int, truth: float, slope: float
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Outcomes of both orders of every prompt, mostly the same; the first side is longer on the whole."""
    gap = rng.normal(40, 60, prompts)
    chance = expit(logit(truth) + slope * np.tanh(gap / gap.std()))
    first = rng.random(prompts) < chance
    second = np.where(rng.random(prompts) < 0.7, first, rng.random(prompts) < chance)
    outcomes = np.concatenate([first, second]).astype(float)
    return outcomes, np.concatenate([gap, gap]), [*range(prompts), *range(prompts)]


@pytest.mark.parametrize("truth", [0.3, 0.5])
def test_a_judge_that_likes_length_is_corrected_without_bias(truth: float) -> None:
    """Sixty prompts, 600 replications, nominal 5 %, of which 6 % may miss; the raw rate is far off."""
    replications, misses, raw, found = 600, 0, [], []
    for seed in range(replications):
        outcomes, gaps, prompts = drawn(np.random.default_rng(seed), 60, truth, slope=1.5)
        rate = equal_length_rate(outcomes, gaps, prompts)
        assert rate.estimate is not None and rate.lower is not None and rate.upper is not None
        misses += not rate.lower <= truth <= rate.upper
        raw.append(outcomes.mean())
        found.append(rate.estimate)
    assert misses <= allowed_exceedances(replications, 0.06)
    assert np.mean(found) == pytest.approx(truth, abs=0.02)
    assert np.mean(raw) > truth + 0.08


def test_it_agrees_with_a_slow_fit() -> None:
    """Maximum likelihood on a fine grid of level and slope."""
    outcomes, gaps, prompts = drawn(np.random.default_rng(5), 80, 0.6, slope=1.0)
    found = equal_length_rate(outcomes, gaps, prompts)
    levels, slopes = np.linspace(-1, 2, 301), np.linspace(-1, 3, 401)
    x = np.tanh(gaps / gaps.std())
    likelihood = np.array(
        [
            (outcomes @ logs + (1 - outcomes) @ np.log(-np.expm1(np.minimum(logs, -1e-15))))
            for level in levels
            for logs in (np.log(expit(level + np.outer(x, slopes))),)
        ]
    )
    level = levels[np.unravel_index(likelihood.argmax(), likelihood.shape)[0]]
    assert found.estimate == pytest.approx(expit(level), abs=0.005)


def test_copies_of_a_prompt_narrow_nothing() -> None:
    outcomes, gaps, prompts = drawn(np.random.default_rng(2), 50, 0.6, slope=0.0)
    once = equal_length_rate(outcomes, gaps, prompts)
    thrice = equal_length_rate(np.tile(outcomes, 3), np.tile(gaps, 3), prompts * 3)
    assert (once.lower, once.upper) == pytest.approx((thrice.lower, thrice.upper), abs=1e-9)
    apart = equal_length_rate(np.tile(outcomes, 3), np.tile(gaps, 3), list(range(300)))
    assert apart.lower is not None and once.lower is not None and apart.lower > once.lower + 0.01


def test_where_nothing_can_be_fitted_it_says_why() -> None:
    rng = np.random.default_rng(3)
    gap, prompts = rng.normal(0, 10, 60), list(range(60))
    mixed = np.tile([0.0, 1.0, 0.5], 20)
    assert equal_length_rate(mixed, gap, prompts).absent is None
    few = list(range(CLUSTERS_LEAST - 1)) + [0] * (61 - CLUSTERS_LEAST)
    assert equal_length_rate(mixed, gap, few).absent == "too few clusters"
    assert equal_length_rate(np.ones(60), gap, prompts).absent == "almost no losses"
    assert equal_length_rate(np.zeros(60), gap, prompts).absent == "almost no wins"
    assert equal_length_rate(mixed, np.full(60, 4.0), prompts).absent == "no difference in lengths"
    longer = np.abs(gap) + 1
    assert equal_length_rate(mixed, longer, prompts).absent == "one side almost always longer"
    for place in range(LONGER_LEAST - 1):  # so many rows of another sign are an edge, not a range
        longer[place] = -1
        assert equal_length_rate(mixed, longer, prompts).absent == "one side almost always longer"
    longer[LONGER_LEAST - 1] = -1
    assert equal_length_rate(mixed, longer, prompts).absent is None
    assert equal_length_rate((gap > 0).astype(float), gap, prompts).absent == "lengths alone decide"
    with pytest.raises(ValueError, match="one length"):
        equal_length_rate(mixed, gap[:-1], prompts)


def test_rightness_that_goes_with_length_is_found_and_by_chance_as_often_as_stated() -> None:
    """400 draws of 60 facts without a link: nominal 5 %."""
    found, linked = 0, 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        difference = rng.integers(-1, 2, 60)
        gap = rng.normal(40, 60, 60)
        found += goes_with_length(difference, gap, list(range(60)))
        linked += goes_with_length(difference, gap + 60 * difference, list(range(60)))
    assert found <= allowed_exceedances(400, 0.05) and linked == 400
    assert not goes_with_length([1] * 60, gap, list(range(60)))  # all alike: no link can be seen
    assert not goes_with_length([], [], [])
