"""The fitted combination: what it gains, and that fitting it on coins costs the others nothing."""

import numpy as np
import pytest

from dpaudit.evidence.guesses import guess_both
from dpaudit.signals import combination
from dpaudit.stats import epsilon, roc


def world(rng: np.random.Generator, n: int, shift: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    members = rng.random(n) < 0.5
    return rng.normal(size=(n, len(shift))) + members[:, None] * np.array(shift), members


def test_the_lot_is_public_and_of_the_share_asked_for() -> None:
    names = [f"mia{i:04d}" for i in range(400)]
    chosen = combination.lot(names, 0.25, seed=3)
    assert chosen.sum() == 100
    assert (chosen == combination.lot(names, 0.25, seed=3)).all()
    assert (chosen != combination.lot(names, 0.25, seed=4)).any()
    turned = combination.lot(names[::-1], 0.25, seed=3)[::-1]
    assert (turned == chosen).all()  # a name's lot is its own


def test_two_weak_signals_together_beat_either() -> None:
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(20):
        fitted_on, coins = world(rng, 400, (0.8, 0.8))
        scored, members = world(rng, 2000, (0.8, 0.8))
        together = combination.fit(fitted_on, coins, 1.0)(scored)
        areas = [roc.auc_interval(column, members, 0.95).auc for column in (*scored.T, together)]
        gains.append(areas[2] - max(areas[:2]))
    # separation .8 against .8 * sqrt 2: AUC .714 against .788
    assert np.mean(gains) == pytest.approx(0.074, abs=0.015)


def test_a_useless_signal_and_one_that_is_constant_do_no_harm() -> None:
    rng = np.random.default_rng(1)
    scores, coins = world(rng, 1000, (1.5, 0.0, 0.0))
    scores[:, 2] = 7.0
    fresh, members = world(rng, 4000, (1.5, 0.0, 0.0))
    fresh[:, 2] = 7.0
    together = roc.auc_interval(combination.fit(scores, coins, 1.0)(fresh), members, 0.95).auc
    assert together > roc.auc_interval(fresh[:, 0], members, 0.95).auc - 0.01


def test_infinite_scores_are_clipped_and_nan_is_refused() -> None:
    rng = np.random.default_rng(2)
    scores, coins = world(rng, 300, (1.0, 1.0))
    scores[0, 0], scores[1, 1] = -np.inf, np.inf
    made = combination.fit(scores, coins, 1.0)
    assert np.isfinite(made(np.array([[-np.inf, np.inf], [0.0, 0.0]]))).all()
    with pytest.raises(ValueError, match="NaN"):
        combination.fit(np.where(scores == scores[5], np.nan, scores), coins, 1.0)


def test_too_few_of_one_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        combination.fit(np.zeros((50, 2)), np.arange(50) < 19, 1.0)


def test_the_best_recipe_is_picked_at_a_low_false_positive_rate() -> None:
    members = np.arange(400) < 200
    everywhere = np.random.default_rng(0).normal(size=400) + members  # AUC .76, hardly a member is sure
    few = np.where(np.arange(400) < 60, 5.0, np.tile([0.0, 1.0], 200))  # 30 % are sure, the rest are not
    assert combination.best(np.stack([everywhere, few], axis=1), members, 0.01) == 1


def test_coins_that_were_fitted_on_do_not_refute_by_themselves() -> None:
    """Scores that say nothing, eleven recipes, 100 coins fitted on: the other 100 refute epsilon 0 at most 5
    % of the time.

    2,000 replications; three standard errors above 5 % are 6.5 %.
    """
    rng, refuted, replications = np.random.default_rng(5), 0, 2000
    for _ in range(replications):
        scores, coins = rng.normal(size=(200, 11)), rng.random(200) < 0.5
        used = np.arange(200) < 100
        made = combination.fit(scores[used], coins[used], 1.0)(scores[~used])
        right = guess_both(made, coins[~used], (40, 0))
        refuted += (
            epsilon.p_value_one_run(canaries=100, guesses=40, correct=right, epsilon=0.0, delta=0.0) <= 0.05
        )
    assert refuted / replications <= 0.065


def test_coins_that_stay_in_the_count_would_refute() -> None:
    """The planted fault: the same scores with the coins that were fitted on still counted refute most of the
    time.
    """
    rng, refuted = np.random.default_rng(6), 0
    for _ in range(100):
        scores, coins = rng.normal(size=(200, 11)), rng.random(200) < 0.5
        made = combination.fit(scores, coins, 1.0)(scores)
        right = guess_both(made, coins, (80, 0))
        refuted += (
            epsilon.p_value_one_run(canaries=200, guesses=80, correct=right, epsilon=0.0, delta=0.0) <= 0.05
        )
    assert refuted >= 60
