import math
from functools import cache

import numpy as np
import pytest
from exceedances import allowed_exceedances
from scipy.integrate import quad
from scipy.stats import binom, norm

from dpaudit.stats.epsilon import (
    epsilon_ceiling_one_run,
    epsilon_gaussian,
    epsilon_lower_clopper_pearson,
    epsilon_lower_one_run,
    p_value_one_run,
)

ONE_RUN = {"canaries": 1000, "guesses": 100, "correct": 75, "delta": 1e-4, "confidence": 0.95}
CLOPPER_PEARSON = {
    "true_positives": 90,
    "positives": 100,
    "false_positives": 10,
    "negatives": 100,
    "delta": 1e-5,
    "confidence": 0.95,
}


def p_value_transcribed(m: int, r: int, v: int, eps: float, delta: float) -> float:
    """arXiv 2305.08846, Appendix D, line by line."""
    q = 1 / (1 + math.exp(-eps))
    beta = binom.sf(v - 1, r, q)
    alpha = 0.0
    total = 0.0
    for i in range(1, v + 1):
        total = total + binom.pmf(v - i, r, q)
        if total > i * alpha:
            alpha = total / i
    return float(min(beta + alpha * delta * 2 * m, 1))


def epsilon_transcribed(m: int, r: int, v: int, delta: float, p: float) -> float:
    """The search of arXiv 2305.08846, Appendix D, with more halvings."""
    eps_min, eps_max = 0.0, 1.0
    while p_value_transcribed(m, r, v, eps_max, delta) < p:
        eps_max = eps_max + 1
    for _ in range(45):
        eps = (eps_min + eps_max) / 2
        if p_value_transcribed(m, r, v, eps, delta) < p:
            eps_min = eps
        else:
            eps_max = eps
    return eps_min


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "published"),
    [(1000, 100, 75, 1e-4, 0.672985), (100_000, 1510, 1439, 1e-5, 2.675851)],
)
def test_one_run_reaches_the_published_values(
    canaries: int, guesses: int, correct: int, delta: float, published: float
) -> None:
    lower = epsilon_lower_one_run(
        canaries=canaries, guesses=guesses, correct=correct, delta=delta, confidence=0.95
    )
    assert lower == pytest.approx(published, abs=1e-5)


@pytest.mark.parametrize(
    ("guesses", "published"), [(100, 3.490216), (500, 5.101003), (1000, 5.782283), (5000, 7.283900)]
)
def test_ceiling_reaches_the_published_values(guesses: int, published: float) -> None:
    ceiling = epsilon_ceiling_one_run(canaries=guesses, guesses=guesses, delta=1e-5, confidence=0.95)
    assert ceiling == pytest.approx(published, abs=1e-5)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
@pytest.mark.parametrize(("guesses", "correct"), [(1, 1), (20, 0), (20, 11), (20, 20), (150, 120)])
def test_p_value_agrees_with_the_transcription(guesses: int, correct: int, delta: float) -> None:
    for epsilon in (0.0, 0.3, 1.0, 3.0, 12.0):
        p_value = p_value_one_run(
            canaries=200, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
        )
        assert p_value == pytest.approx(p_value_transcribed(200, guesses, correct, epsilon, delta), abs=1e-9)


@pytest.mark.parametrize(("guesses", "correct", "delta"), [(40, 34, 0.0), (60, 55, 1e-4), (80, 80, 1e-3)])
def test_one_run_agrees_with_the_transcription(guesses: int, correct: int, delta: float) -> None:
    lower = epsilon_lower_one_run(canaries=90, guesses=guesses, correct=correct, delta=delta, confidence=0.95)
    assert lower == pytest.approx(epsilon_transcribed(90, guesses, correct, delta, 1 - 0.95), abs=1e-9)


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_one_run_is_tight_for_randomised_response(truth: float) -> None:
    guesses = 100_000
    correct = round(guesses / (1 + math.exp(-truth)))
    lower = epsilon_lower_one_run(
        canaries=guesses, guesses=guesses, correct=correct, delta=0.0, confidence=0.95
    )
    assert 0.8 * truth <= lower < truth


@pytest.mark.parametrize(("truth", "delta"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.01), (2.0, 1e-3)])
def test_one_run_exceeds_the_truth_no_oftener_than_stated(truth: float, delta: float) -> None:
    """Randomised response that also reveals each bit outright with probability delta; truth 0 is the null."""
    replications, guesses = 20_000, 400
    accuracy = delta + (1 - delta) / (1 + math.exp(-truth))
    correct = np.random.default_rng(0).binomial(guesses, accuracy, size=replications)

    @cache
    def lower(count: int) -> float:
        return epsilon_lower_one_run(
            canaries=guesses, guesses=guesses, correct=count, delta=delta, confidence=0.95
        )

    exceedances = sum(lower(int(count)) > truth for count in correct)
    assert exceedances <= allowed_exceedances(replications, 0.05)
    assert exceedances > 0 or delta > 0  # without the delta term the bound is near its nominal rate


def test_p_value_of_random_guesses_is_not_small_too_often() -> None:
    correct = np.random.default_rng(1).binomial(200, 0.5, size=5000)
    p_values = np.array(
        [
            p_value_one_run(canaries=200, guesses=200, correct=count, epsilon=0.0, delta=0.0)
            for count in range(201)
        ]
    )[correct]
    for level in (0.01, 0.05, 0.2):
        assert np.sum(p_values <= level) <= allowed_exceedances(5000, level)


@pytest.mark.parametrize(("guesses", "correct", "delta"), [(10, 10, 1e-3), (100, 75, 1e-4), (300, 200, 0.0)])
def test_p_value_rises_with_epsilon(guesses: int, correct: int, delta: float) -> None:
    p_values = np.array(
        [
            p_value_one_run(canaries=300, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta)
            for epsilon in np.linspace(0, 6, 121)
        ]
    )
    assert (np.diff(p_values[p_values < 0.5]) >= 0).all()
    assert p_values[-1] > p_values[0]


@pytest.mark.parametrize(
    ("name", "values", "sign"),
    [
        ("correct", [60, 70, 80, 100], 1),
        ("guesses", [80, 90, 100, 200], -1),
        ("canaries", [100, 1000, 5000], -1),
        ("delta", [0.0, 1e-5, 1e-4, 1e-2], -1),
        ("confidence", [0.5, 0.9, 0.95, 0.999], -1),
    ],
)
def test_one_run_is_monotone(name: str, values: list[float], sign: int) -> None:
    lowers = [epsilon_lower_one_run(**(ONE_RUN | {name: value})) for value in values]
    assert (sign * np.diff(lowers) >= 0).all()
    assert lowers[0] != lowers[-1]


@pytest.mark.parametrize(("guesses", "correct"), [(5000, 5000), (5000, 2600), (20_000, 19_000), (3000, 1)])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 4.0])
def test_p_value_looks_at_as_many_terms_as_it_must(guesses: int, correct: int, epsilon: float) -> None:
    """Against the maximum over all of them."""
    accuracy = 1 / (1 + math.exp(-epsilon))
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy))
    slack = 2 * guesses * 1e-7 * float(np.max(below / np.arange(1, correct + 1)))
    found = p_value_one_run(canaries=guesses, guesses=guesses, correct=correct, epsilon=epsilon, delta=1e-7)
    assert found == pytest.approx(min(float(binom.sf(correct - 1, guesses, accuracy)) + slack, 1), rel=1e-12)


def test_no_guesses_refute_nothing() -> None:
    assert p_value_one_run(canaries=10, guesses=0, correct=0, epsilon=0.0, delta=0.0) == 1.0
    assert epsilon_ceiling_one_run(canaries=0, guesses=0, delta=1e-5, confidence=0.95) == 0.0
    assert epsilon_lower_one_run(canaries=100, guesses=100, correct=50, delta=0.0, confidence=0.95) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"correct": -1},
        {"correct": 101},
        {"guesses": 1001},
        {"correct": 7.5},
        {"correct": math.nan},
        {"canaries": math.inf},
        {"delta": -1e-9},
        {"delta": 1.0},
        {"delta": math.nan},
        {"confidence": 0.0},
        {"confidence": 1.0},
        {"confidence": math.nan},
    ],
)
def test_one_run_refuses_bad_arguments(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        epsilon_lower_one_run(**(ONE_RUN | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [-0.1, math.inf, math.nan])
def test_p_value_refuses_bad_epsilon(epsilon: float) -> None:
    with pytest.raises(ValueError, match="expected a finite epsilon"):
        p_value_one_run(canaries=10, guesses=5, correct=5, epsilon=epsilon, delta=0.0)


@pytest.mark.parametrize("noise_multiplier", [1.0, 2.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_clopper_pearson_is_tight_for_the_gaussian_mechanism(noise_multiplier: float, mirrored: bool) -> None:
    """At the threshold where the privacy loss equals epsilon, the population ratio is epsilon itself."""
    truth = epsilon_gaussian(noise_multiplier=noise_multiplier, delta=1e-5)
    threshold = truth * noise_multiplier**2 + 0.5
    tpr, fpr = norm.sf(threshold - 1, scale=noise_multiplier), norm.sf(threshold, scale=noise_multiplier)
    if mirrored:
        tpr, fpr = 1 - fpr, 1 - tpr
    trials = 10**9
    lower = epsilon_lower_clopper_pearson(
        true_positives=int(trials * tpr),
        positives=trials,
        false_positives=round(trials * fpr),
        negatives=trials,
        delta=1e-5,
        confidence=0.95,
    )
    assert 0.8 * truth <= lower < truth


@pytest.mark.parametrize(("tpr", "fpr"), [(0.5, 0.5), (0.8, 0.2), (0.3, 0.05)])
def test_clopper_pearson_exceeds_the_truth_no_oftener_than_stated(tpr: float, fpr: float) -> None:
    generator = np.random.default_rng(2)
    counts = np.column_stack([generator.binomial(150, tpr, 4000), generator.binomial(150, fpr, 4000)])
    truth = max(math.log(tpr / fpr), math.log((1 - fpr) / (1 - tpr)))
    pairs, repeats = np.unique(counts, axis=0, return_counts=True)
    lowers = [
        epsilon_lower_clopper_pearson(
            true_positives=int(caught),
            positives=150,
            false_positives=int(alarms),
            negatives=150,
            delta=0.0,
            confidence=0.8,
        )
        for caught, alarms in pairs
    ]
    assert repeats[np.array(lowers) > truth].sum() <= allowed_exceedances(4000, 0.2)


@pytest.mark.parametrize(
    ("name", "values", "sign"),
    [
        ("true_positives", [30, 60, 90, 100], 1),
        ("false_positives", [0, 10, 40, 90], -1),
        ("delta", [0.0, 0.1, 0.5], -1),
        ("confidence", [0.5, 0.9, 0.99], -1),
    ],
)
def test_clopper_pearson_is_monotone(name: str, values: list[float], sign: int) -> None:
    lowers = [
        epsilon_lower_clopper_pearson(**(CLOPPER_PEARSON | {name: value}))  # type: ignore[arg-type]
        for value in values
    ]
    assert (sign * np.diff(lowers) >= 0).all()
    assert lowers[0] != lowers[-1]


def test_clopper_pearson_by_hand() -> None:
    """No false alarm and no miss in n: both bounds are the closed form 1 - (error / 2) ** (1 / n)."""
    miss = 1 - 0.025 ** (1 / 100)
    lower = epsilon_lower_clopper_pearson(**(CLOPPER_PEARSON | {"true_positives": 100, "false_positives": 0}))
    assert lower == pytest.approx(math.log((1 - miss - 1e-5) / miss), abs=1e-9)


def test_clopper_pearson_without_trials_refutes_nothing() -> None:
    nothing = dict.fromkeys(("true_positives", "positives", "false_positives", "negatives"), 0)
    assert epsilon_lower_clopper_pearson(**nothing, delta=0.0, confidence=0.95) == 0.0
    assert epsilon_lower_clopper_pearson(**(CLOPPER_PEARSON | {"true_positives": 0})) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"true_positives": 101},
        {"false_positives": -1},
        {"negatives": 9},
        {"positives": math.nan},
        {"delta": 1.0},
        {"confidence": 1.0},
    ],
)
def test_clopper_pearson_refuses_bad_arguments(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        epsilon_lower_clopper_pearson(**(CLOPPER_PEARSON | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(("noise_multiplier", "published"), [(0.5, 9.99), (1, 4.37), (2, 1.99), (4, 0.92)])
def test_gaussian_reaches_the_published_values(noise_multiplier: float, published: float) -> None:
    """Mahloujifar et al. 2024 (arXiv 2410.22235), Table 1, theory at delta 1e-5, cut to two places."""
    epsilon = epsilon_gaussian(noise_multiplier=noise_multiplier, delta=1e-5)
    assert math.floor(epsilon * 100) / 100 == pytest.approx(published)


@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("delta", [1e-8, 1e-3, 0.05])
def test_gaussian_agrees_with_the_integral(noise_multiplier: float, delta: float) -> None:
    epsilon = epsilon_gaussian(noise_multiplier=noise_multiplier, delta=delta)

    def excess(x: float) -> float:
        present = norm.pdf(x, loc=1, scale=noise_multiplier)
        absent = norm.pdf(x, loc=0, scale=noise_multiplier)
        return float(max(present - math.exp(epsilon) * absent, 0.0))

    start = epsilon * noise_multiplier**2 + 0.5
    integral, _ = quad(excess, start, start + 12 * noise_multiplier, epsabs=1e-14, epsrel=1e-12, limit=500)
    assert integral == pytest.approx(delta, rel=1e-9)


def test_gaussian_at_its_ends() -> None:
    assert epsilon_gaussian(noise_multiplier=0.0, delta=1e-5) == math.inf
    assert epsilon_gaussian(noise_multiplier=1.0, delta=0.0) == math.inf
    assert epsilon_gaussian(noise_multiplier=math.inf, delta=0.0) == 0.0
    assert epsilon_gaussian(noise_multiplier=1e6, delta=1e-3) == 0.0
    assert epsilon_gaussian(noise_multiplier=1e-9, delta=1e-5) == pytest.approx(0.5e18, rel=1e-6)


@pytest.mark.parametrize(("noise_multiplier", "delta"), [(-1.0, 0.1), (math.nan, 0.1), (1.0, 1.0)])
def test_gaussian_refuses_bad_arguments(noise_multiplier: float, delta: float) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        epsilon_gaussian(noise_multiplier=noise_multiplier, delta=delta)


def test_what_the_readme_says_of_the_shipped_rule() -> None:
    """40 % of the canaries guessed at delta 1e-5: the ceiling passes 4 at about 420 canaries, and never
    7.4.
    """

    def ceiling(canaries: int, delta: float = 1e-5) -> float:
        return epsilon_ceiling_one_run(
            canaries=canaries, guesses=int(0.4 * canaries), delta=delta, confidence=0.95
        )

    assert ceiling(410) < 4 < ceiling(440)
    assert 7.3 < max(ceiling(canaries) for canaries in range(20_000, 60_000, 2_500)) < 7.4
    assert ceiling(1_000_000) < 7.4
    perfect = {"correct": 8931, "guesses": 8931, "canaries": 22_330, "delta": 0.0, "confidence": 0.95}
    assert (
        epsilon_lower_one_run(**perfect)
        < 8
        < epsilon_lower_one_run(**perfect | {"correct": 8932, "guesses": 8932})
    )
