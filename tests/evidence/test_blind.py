import random

import numpy as np
import pytest

from dpaudit.evidence import blind

WORDS = [
    "fever",
    "cough",
    "water",
    "tablet",
    "doctor",
    "throat",
    "evening",
    "morning",
    "advice",
    "sleep",
    "record",
    "number",
]


def texts(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, 8)) + f" {generator.integers(10**6)}" for _ in range(count)]


def test_it_fires_on_a_planted_shift() -> None:
    members = np.random.default_rng(0).random(200) < 0.5
    shifted = [
        t + (" zebra" if m and i % 3 else "")
        for i, (t, m) in enumerate(zip(texts(200, 1), members, strict=True))
    ]
    found = blind.baseline(shifted, members.tolist(), seed=0)
    assert found.alarm and found.p_value == 1 / (1 + blind.PERMUTATIONS)
    assert found.auc_lower > 0.6 and found.auc_lower < found.auc < found.auc_upper


def test_it_is_silent_on_a_coin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind, "PERMUTATIONS", 199)
    runs = 200
    found = [
        blind.baseline(
            texts(60, seed), (np.random.default_rng(1000 + seed).random(60) < 0.5).tolist(), seed=seed
        )
        for seed in range(runs)
    ]
    p_values = np.array([f.p_value for f in found])
    for level in (0.05, 0.2):
        assert np.mean(p_values <= level) <= level + 3 * np.sqrt(level * (1 - level) / runs)
    covered = np.mean([f.auc_lower <= 0.5 <= f.auc_upper for f in found])
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
    assert abs(np.mean([f.auc for f in found]) - 0.5) < 0.03


def test_the_smoother_is_a_ridge_fitted_without_the_fold() -> None:
    generator = np.random.default_rng(0)
    features, labels, fold = (
        generator.normal(size=(20, 3)),
        generator.random(20) < 0.5,
        np.arange(20) % blind.FOLDS,
    )
    found = blind._smoother(features @ features.T, fold) @ labels
    for number in range(blind.FOLDS):
        fitted, scored = fold != number, fold == number
        inner = features[fitted].T @ features[fitted] + blind.PENALTY * np.eye(3)
        weights = np.linalg.solve(inner, features[fitted].T @ (labels[fitted] - labels[fitted].mean()))
        np.testing.assert_allclose(found[scored], features[scored] @ weights, atol=1e-12)


def test_the_same_seed_gives_the_same_answer() -> None:
    members = (np.random.default_rng(2).random(60) < 0.5).tolist()
    assert blind.baseline(texts(60, 2), members, seed=3) == blind.baseline(texts(60, 2), members, seed=3)


def test_too_few_members_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        blind.baseline(texts(30, 0), [True] * 9 + [False] * 21, seed=0)


@pytest.mark.parametrize(
    ("lower", "upper", "p_value", "drawn_by_coin", "expected"),
    [
        (0.45, 0.58, 0.4, True, "silent"),
        (
            0.51,
            0.6,
            0.02,
            True,
            "silent",
        ),  # one interval in twenty leaves out one half: no news of fair coins
        (0.7, 0.9, 2e-4, True, "broken coins"),
        (0.45, 0.58, 0.4, False, "silent"),
        (0.51, 0.6, 0.02, False, "distribution shift"),
        (0.3, 0.45, 1.0, False, "distribution shift"),  # turned around it would tell as much
    ],
)
def test_what_a_baseline_means_depends_on_how_membership_was_drawn(
    lower: float, upper: float, p_value: float, drawn_by_coin: bool, expected: str
) -> None:
    found = blind.finding(lower, upper, p_value, drawn_by_coin=drawn_by_coin)
    assert found == expected
    assert (found == "silent") == (found not in blind.SUPPORTS_NOTHING)


def test_texts_of_another_time_are_a_distribution_shift() -> None:
    rng = random.Random(0)
    months = {True: ["march", "april"], False: ["may", "june"]}
    members = [rng.random() < 0.5 for _ in range(200)]
    texts = [
        f"seen in {rng.choice(months[m] + ['winter'] * 4)} by doctor {rng.randint(0, 9)}" for m in members
    ]
    found = blind.baseline(texts, members, seed=0)
    assert (
        blind.finding(found.auc_lower, found.auc_upper, found.p_value, drawn_by_coin=False)
        == "distribution shift"
    )


def alarms(runs: int, units: int) -> int:
    """How many of so many correct runs alarm: fresh texts and fresh coins each."""
    count = 0
    for seed in range(runs):
        members = (np.random.default_rng([7, seed]).random(units) < 0.5).tolist()
        if min(sum(members), units - sum(members)) >= 2 * blind.FOLDS:
            count += blind.baseline(texts(units, seed), members, seed=seed).alarm
    return count


@pytest.mark.parametrize(
    ("runs", "permutations"), [(200, 1999), pytest.param(5000, 4999, marks=pytest.mark.slow)]
)
def test_fair_coins_alarm_at_most_once_in_a_thousand_runs(
    runs: int, permutations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blind, "PERMUTATIONS", permutations)
    error = np.sqrt(blind.ALARM * (1 - blind.ALARM) / runs)
    assert alarms(runs, 32) / runs <= blind.ALARM + 3 * error


def test_a_reader_without_coins_is_accused_as_often_as_its_interval_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Members and others of one kind, nobody threw coins: one in twenty is called a shift, at most."""
    monkeypatch.setattr(blind, "PERMUTATIONS", 199)
    runs, count = 120, 0
    for seed in range(runs):
        found = blind.baseline(texts(40, seed), [i < 20 for i in range(40)], seed=seed)
        count += (
            blind.finding(found.auc_lower, found.auc_upper, found.p_value, drawn_by_coin=False) != "silent"
        )
    assert count / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
