"""The bound of weighted guesses: the plain bound where all weights are one, slow doubles where they are
not.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from dpaudit.stats import weighted
from dpaudit.stats.epsilon import epsilon_ceiling_one_run, epsilon_lower_one_run, p_value_one_run
from dpaudit.stats.mechanism import SampledGaussian, _distributions, included_by_rank

CLAIMS = [  # noise for epsilon 1, 4 and 8 at delta 1e-5, and what the best plain guesses prove in expectation
    (SampledGaussian(0.9202, 0.0064, 468), 0.10),
    (SampledGaussian(0.6059, 0.0064, 468), 0.64),
    (SampledGaussian(0.4888, 0.0064, 468), 1.51),
]
MIXED = np.array([4, 4, 3, 2, 2, 1, 0, 0, 0, -1, -1, -3])


@pytest.mark.parametrize(("called_in", "called_out"), [(100, 0), (60, 40), (0, 100), (1, 0)])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9, 1.0])
def test_weights_of_one_give_the_plain_bound(called_in: int, called_out: int, share: float) -> None:
    guesses = called_in + called_out
    weights = np.repeat([1, 0, -1], [called_in, 1000 - guesses, called_out])
    right = round(share * guesses)
    plain = epsilon_lower_one_run(canaries=1000, guesses=guesses, correct=right, delta=1e-4, confidence=0.95)
    lower = weighted.epsilon_lower_weighted(weights=weights, right=right, delta=1e-4, confidence=0.95)
    assert lower == pytest.approx(plain, abs=1e-9)
    double = weighted.epsilon_lower_weighted(
        weights=2 * weights, right=2 * right, delta=1e-4, confidence=0.95
    )
    assert double == pytest.approx(plain, abs=1e-9)
    for epsilon in (0.0, 0.5, 2.0):
        assert weighted.p_value_weighted(
            weights=weights, right=right, epsilon=epsilon, delta=1e-4
        ) == pytest.approx(
            p_value_one_run(canaries=1000, guesses=guesses, correct=right, epsilon=epsilon, delta=1e-4),
            abs=1e-12,
        )


def p_value_counted(weights: Any, right: int, epsilon: float, delta: float) -> float:
    """Every outcome of the guesses, one by one."""
    sizes, accuracy = np.abs(weights[weights != 0]), 1 / (1 + math.exp(-epsilon))
    whole, tail = int(sizes.max()), np.zeros(right + 1)
    for outcome in itertools.product((0, 1), repeat=sizes.size):
        chance = np.prod(np.where(outcome, accuracy, 1 - accuracy))
        tail[: min(int(sizes @ outcome), right) + 1] += chance
    slack = [(tail[max(right - i * whole, 0)] - tail[right]) / i for i in range(1, right + 1)]
    return float(min(tail[right] + 2 * weights.size * delta * max(slack, default=0.0), 1.0))


@pytest.mark.parametrize("delta", [0.0, 1e-3])
@pytest.mark.parametrize("right", [0, 3, 15, 20, 21])
def test_p_value_agrees_with_every_outcome_counted(right: int, delta: float) -> None:
    for epsilon in (0.0, 0.7, 3.0):
        found = weighted.p_value_weighted(weights=MIXED, right=right, epsilon=epsilon, delta=delta)
        assert found == pytest.approx(p_value_counted(MIXED, right, epsilon, delta), abs=1e-9)


def worst_chance(tiers: Sequence[tuple[int, int]], right: int, epsilon: float, excess: float) -> float:
    """The most that the chance of `right` or more can be: a linear programme over all laws of right guesses.

    `tiers` are sizes of weights with their numbers of guesses. By symmetry a law is a chance for each number
    of right guesses in each tier. Turning one coin of n that are right into a wrong one, of which there are
    then k, changes a chance by at most a factor of e^eps, but for failures; all failures together have the
    mass `excess`.
    """
    sizes, numbers = zip(*tiers, strict=True)
    states = list(itertools.product(*(range(number + 1) for number in numbers)))
    place = {state: index for index, state in enumerate(states)}
    pairs = [(state, tier) for state in states for tier in range(len(tiers)) if state[tier]]
    rows, columns, values = [], [], []
    for row, (state, tier) in enumerate(pairs):
        fewer = tuple(n - (k == tier) for k, n in enumerate(state))
        rows += [row, row, row, len(pairs)]
        columns += [place[state], place[fewer], len(states) + row, len(states) + row]
        values += [state[tier], -math.exp(epsilon) * (numbers[tier] - fewer[tier]), -1.0, 1.0]
    limits = np.append(np.zeros(len(pairs)), excess)
    wanted = np.append([-float(np.dot(sizes, state) >= right) for state in states], np.zeros(len(pairs)))
    mass = np.append(np.ones(len(states)), np.zeros(len(pairs)))[None]
    table = coo_matrix((values, (rows, columns)), shape=(len(pairs) + 1, wanted.size))
    found = linprog(wanted, A_ub=table, b_ub=limits, A_eq=mass, b_eq=[1.0], method="highs")
    assert found.status == 0
    return float(-found.fun)


@pytest.mark.parametrize("tiers", [[(1, 30)], [(4, 3), (1, 20)], [(4, 5), (2, 5), (1, 6)]])
@pytest.mark.parametrize("epsilon", [0.0, 1.0])
@pytest.mark.parametrize("level", [0.5, 0.05, 0.01])
def test_no_dependence_among_failures_is_worse_than_the_bound(
    tiers: list[tuple[int, int]], epsilon: float, level: float
) -> None:
    """The mass of all failures is `canaries` times delta; Appendix D grants twice that, but to independent
    ones.

    Above p-values of one half, which refute nothing, the worst dependence is a little worse than the
    appendix.
    """
    weights = np.concatenate([np.full(number, size) for size, number in tiers])

    def p_value(right: int, delta: float) -> float:
        return weighted.p_value_weighted(weights=weights, right=right, epsilon=epsilon, delta=delta)

    right = next(right for right in range(int(weights.sum()) + 1) if p_value(right, 0.0) < level)
    assert worst_chance(tiers, right, epsilon, 0.0) == pytest.approx(p_value(right, 0.0), abs=1e-8)
    for delta in (1e-5, 1e-3):
        worst = worst_chance(tiers, right, epsilon, weights.size * delta)
        assert p_value(right, 0.0) < worst <= p_value(right, delta)


def test_right_weight_is_the_least_over_orders_of_ties() -> None:
    weights = np.array([3, 1, 0, -1, -2])
    random = np.random.default_rng(0)
    for _ in range(200):
        scores, included = random.integers(0, 3, 5).astype(float), random.random(5) < 0.5
        orders = (
            list(order)
            for order in itertools.permutations(range(5))
            if (np.diff(scores[list(order)]) <= 0).all()
        )
        least = min(
            sum(w if included[i] else 0 for w, i in zip(weights, order, strict=True) if w > 0)
            + sum(0 if included[i] else -w for w, i in zip(weights, order, strict=True) if w < 0)
            for order in orders
        )
        assert weighted.right_weight(scores, included, weights) == least


def test_more_right_weight_proves_more_and_all_of_it_is_the_ceiling() -> None:
    weights = np.repeat([5, 3, 1, 0, -1], [10, 20, 40, 100, 30])
    every = int(np.abs(weights).sum())
    lowers = [
        weighted.epsilon_lower_weighted(weights=weights, right=right, delta=1e-5, confidence=0.95)
        for right in range(0, every + 1, 10)
    ]
    assert (np.diff(lowers) >= 0).all()
    assert lowers[0] == 0.0 < lowers[-1]
    ceiling = weighted.epsilon_ceiling_weighted(weights=weights, delta=1e-5, confidence=0.95)
    assert ceiling == pytest.approx(lowers[-1])
    assert ceiling == pytest.approx(
        epsilon_ceiling_one_run(canaries=200, guesses=100, delta=1e-5, confidence=0.95), abs=0.02
    )  # but for delta, all right is as likely whatever the weights


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_bound_is_tight_for_randomised_response(truth: float) -> None:
    weights = np.repeat([2, 1, -1, -2], 5000)
    right = round(np.abs(weights).sum() / (1 + math.exp(-truth)))
    lower = weighted.epsilon_lower_weighted(weights=weights, right=right, delta=0.0, confidence=0.95)
    assert 0.8 * truth <= lower < truth


@pytest.mark.parametrize(("claimed", "plain"), CLAIMS)
def test_frozen_weights_prove_more_than_plain_guesses(claimed: SampledGaussian, plain: float) -> None:
    """In expectation, and so in simulated runs: 400 of them, within four standard errors of what is
    expected.
    """
    weights = weighted.weights_frozen(claimed, 1000, 1e-5, 0.95)
    assert weights.max() == 32
    assert (np.diff(weights) <= 0).all()
    expected = weighted.expected_bound(weights, included_by_rank(claimed, 1000), 1e-5, 0.95)
    assert expected > 1.08 * plain
    edges, *below = _distributions(claimed, claimed)
    random, drawn = np.random.default_rng(7), []
    for _ in range(400):
        included, level = random.random((2, 1000))
        members = included < 0.5
        scores = np.where(members, *(np.interp(level, each, edges) for each in below))
        drawn.append(weighted.right_weight(scores, members, weights))
    tried = np.linspace(min(drawn), max(drawn), 25).astype(int)
    settings = {"weights": weights, "delta": 1e-5, "confidence": 0.95}
    lowers = [weighted.epsilon_lower_weighted(right=int(right), **settings) for right in tried]
    bounds = np.interp(drawn, tried, lowers)
    assert bounds.mean() == pytest.approx(expected, abs=4 * bounds.std() / 20 + 0.02 * expected)


@pytest.mark.parametrize("number", [42, 108, 400])
def test_the_expected_bound_of_plain_guesses(number: int) -> None:
    """The integral of power against the mean over a binomial number of right guesses."""
    claimed = CLAIMS[1][0]
    weights = (np.arange(1000) < number).astype(np.int64)
    included = included_by_rank(claimed, 1000)
    accuracy = included[:number].mean()
    counts = np.random.default_rng(8).binomial(number, accuracy, 3000)
    bounds = {
        int(n): epsilon_lower_one_run(
            canaries=1000, guesses=number, correct=int(n), delta=1e-5, confidence=0.95
        )
        for n in np.unique(counts)
    }
    drawn = np.array([bounds[n] for n in counts.tolist()])
    expected = weighted.expected_bound(weights, included, 1e-5, 0.95)
    assert expected == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 3000**0.5)


def test_frozen_weights_cannot_be_changed() -> None:
    claimed = SampledGaussian(1.0, 0.2, 10)
    with pytest.raises(ValueError, match="read-only"):
        weighted.weights_frozen(claimed, 100, 1e-3, 0.95)[0] = 0


@pytest.mark.parametrize("claimed", [SampledGaussian(0.05, 1.0, 50), SampledGaussian(50.0, 1e-3, 2)])
def test_mechanisms_that_tell_all_or_next_to_nothing_have_weights(claimed: SampledGaussian) -> None:
    weights = weighted.weights_frozen(claimed, 200, 1e-5, 0.95)
    assert np.abs(weights).max() == 32
    assert (np.diff(weights) <= 0).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"weights": np.array([1, 2])}, "fall with the rank"),
        ({"weights": np.array([1.0, 0.5])}, "whole weights"),
        ({"weights": np.zeros(4, dtype=int)}, "other than 0"),
        ({"right": -1}, "expected 0 <= right <= 21, got -1"),
        ({"right": 22}, "expected 0 <= right <= 21, got 22"),
        ({"delta": 1.0}, "expected delta"),
        ({"confidence": 1.0}, "expected confidence"),
    ],
)
def test_bad_arguments_are_refused(wrong: dict[str, Any], told: str) -> None:
    settings = {"weights": MIXED, "right": 5, "delta": 1e-5, "confidence": 0.95}
    with pytest.raises(ValueError, match=told):
        weighted.epsilon_lower_weighted(**(settings | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [-0.1, math.inf, math.nan])
def test_p_value_refuses_bad_epsilon(epsilon: float) -> None:
    with pytest.raises(ValueError, match="expected a finite epsilon"):
        weighted.p_value_weighted(weights=MIXED, right=5, epsilon=epsilon, delta=0.0)
