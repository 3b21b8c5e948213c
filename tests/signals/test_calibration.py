import numpy as np
import pytest
from numpy.typing import NDArray

from dpaudit.evidence.guesses import guess
from dpaudit.signals import calibration
from dpaudit.stats import epsilon, roc

Floats = NDArray[np.float64]
CANARIES, GUESSES, AUDITS = 100, 40, 2000
ALIKE = np.full(5000, 12.0)  # texts that all have the same number of tokens
ALLOWED = AUDITS * 0.05 + 3 * np.sqrt(AUDITS * 0.05 * 0.95)  # the error rate of 5 % and three standard errors


def drawn(random: np.random.Generator, slope: float, learned: Floats, n: int) -> tuple[Floats, Floats]:
    """Scores of an audited model that keeps `slope` of the reference's opinion, all of one length."""
    reference = random.normal(-8, 0.7, n)
    return slope * reference + learned + random.normal(0, 0.3, n), reference


def lengths(random: np.random.Generator, n: int) -> Floats:
    return random.integers(15, 30, n).astype(np.float64)


def residual(audited: Floats, reference: Floats) -> calibration.Residual:
    return calibration.residual(audited, ALIKE[: len(audited)], reference)


@pytest.mark.parametrize("slope", [0.1, 0.5, 0.9])
def test_the_slope_is_recovered(slope: float) -> None:
    audited, reference = drawn(np.random.default_rng(1), slope, np.zeros(5000), 5000)
    found = residual(audited, reference)
    assert found.fitted is not None and found.slope == found.fitted and found.per_token == 0
    assert abs(found.fitted - slope) < 3 * 0.3 / (0.7 * np.sqrt(5000))
    assert found.fitted == pytest.approx(np.polyfit(reference, audited, 1)[0], abs=1e-9)
    assert abs(np.corrcoef(found.scores, reference)[0, 1]) < 1e-9


@pytest.mark.parametrize(("slope", "used"), [(-0.6, 0.0), (1.7, 1.0)])
def test_a_slope_out_of_bounds_is_held_and_told(slope: float, used: float) -> None:
    audited, reference = drawn(np.random.default_rng(2), slope, np.zeros(500), 500)
    found = residual(audited, reference)
    assert found.slope == used and found.fitted == pytest.approx(slope, abs=0.1)
    assert (found.scores == audited - used * reference).all()


@pytest.mark.parametrize("n", [1, 3, 50])
def test_without_a_line_the_audited_score_stands_alone(n: int) -> None:
    audited = np.random.default_rng(3).normal(size=n)
    flat = residual(audited, np.full(n, -8.0))
    assert (flat.scores == audited).all() and (flat.slope, flat.fitted) == (0.0, None)
    assert n > 3 or residual(audited, audited).fitted is None


def test_a_model_that_is_its_reference_leaves_ties() -> None:
    """And not rounding, in whose order a bound would read guesses."""
    random = np.random.default_rng(4)
    reference = random.normal(-80, 7, 500)
    for tokens in (ALIKE[:500], lengths(random, 500)):
        found = calibration.residual(reference.copy(), tokens, reference)
        assert found.slope == 1.0 and (found.scores == 0).all()
        assert len(set(calibration.residual(np.full(500, -3.0), tokens, reference).scores)) == 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_no_line_goes_through_is_refused(odd: float) -> None:
    sound, broken = np.array([1.0, 2.0, 3.0]), np.array([1.0, odd, 2.0])
    for given in ((broken, sound, sound), (sound, broken, sound), (sound, sound, broken), (broken, sound)):
        with pytest.raises(ValueError, match="finite"):
            calibration.residual(*given)
    for given in ((sound, sound, sound[:2]), (sound, sound[:2]), (sound[:2], sound)):
        with pytest.raises(ValueError, match="one length"):
            calibration.residual(*given)


# ---- the length


@pytest.mark.parametrize("slope", [-0.5, 0.4, 1.6])
def test_what_the_length_explains_is_taken_off(slope: float) -> None:
    """Also where the reference's slope is held: the length's is fitted to what that leaves."""
    random = np.random.default_rng(9)
    tokens = lengths(random, 2000)
    reference = random.normal(-80, 6, 2000)
    audited = slope * reference - 2.5 * tokens + random.normal(0, 3, 2000)
    found = calibration.residual(audited, tokens, reference)
    assert found.slope == pytest.approx(min(max(slope, 0), 1), abs=0.04)
    assert found.per_token == pytest.approx(-2.5, abs=3 * 9 / (4.3 * np.sqrt(2000)))
    assert abs(np.corrcoef(found.scores, tokens)[0, 1]) < 1e-9
    assert found.scores == pytest.approx(audited - found.slope * reference - found.per_token * tokens)


def test_without_a_reference_the_length_alone_is_taken_off() -> None:
    random = np.random.default_rng(10)
    tokens = lengths(random, 500)
    audited = -3 * tokens + random.normal(0, 3, 500)
    found = calibration.residual(audited, tokens)
    assert (found.slope, found.fitted) == (0.0, None)
    assert found.per_token == pytest.approx(np.polyfit(tokens, audited, 1)[0])


def test_a_reference_that_says_no_more_than_the_length_leaves_the_same_residual() -> None:
    """As a model does that finds all tokens equally probable: which of the two is named does not matter."""
    random = np.random.default_rng(11)
    tokens = lengths(random, 500)
    audited = -3 * tokens + random.normal(0, 3, 500)
    beside, alone = (calibration.residual(audited, tokens, *more) for more in ((-4 * tokens,), ()))
    assert beside.scores - beside.scores.mean() == pytest.approx(alone.scores - alone.scores.mean())


def test_a_whole_text_tells_more_than_its_mean_a_token() -> None:
    """A model that has learned the family gives every secret its bits, in however many tokens; its base gives
    every token some. So it is in trainings of the 135M model.
    """
    random = np.random.default_rng(12)
    coins, tokens = random.random(4000) < 0.5, lengths(random, 4000)
    reference = -6.5 * tokens + random.normal(0, 5, 4000)
    audited = -85 + 7 * coins + random.normal(0, 5, 4000)
    whole = calibration.residual(audited, tokens, reference).scores
    one_slope = residual(audited / tokens, reference / tokens).scores
    best, mean = (roc.auc_interval(values, coins, 0.95).auc for values in (whole, one_slope))
    assert best > mean + 0.05


def test_the_residual_finds_what_neither_score_nor_difference_finds() -> None:
    random = np.random.default_rng(5)
    coins = random.random(2000) < 0.5
    audited, reference = drawn(random, 0.4, 0.7 * coins, 2000)
    found = residual(audited, reference).scores
    calibrated, raw, difference = (
        roc.auc_interval(values, coins, 0.95).auc for values in (found, audited, audited - reference)
    )
    assert calibrated > max(raw, difference) + 0.03


def refuted(scores: Floats, coins: NDArray[np.bool_]) -> tuple[bool, int]:
    """Whether guesses of these scores refute epsilon 0 at 5 %, and how many are right."""
    made = guess(scores, coins, (GUESSES, 0), 0.95)
    p_value = epsilon.p_value_one_run(
        canaries=CANARIES, guesses=GUESSES, correct=made.correct, epsilon=0.0, delta=0.0
    )
    return p_value <= 0.05, made.correct


def test_coins_thrown_after_the_scores_are_guessed_by_chance() -> None:
    """The fit costs the bound nothing: 2,000 audits of a model that knows no coin."""
    random, wrongly, right = np.random.default_rng(6), 0, 0
    for _ in range(AUDITS):
        audited, reference = drawn(random, 0.4, np.zeros(CANARIES), CANARIES)
        scores = calibration.residual(audited, lengths(random, CANARIES), reference).scores
        found, correct = refuted(scores, random.random(CANARIES) < 0.5)
        wrongly, right = wrongly + found, right + correct
    assert wrongly <= ALLOWED
    assert abs(right - AUDITS * GUESSES / 2) < 3 * np.sqrt(AUDITS * GUESSES) / 2


def test_a_slope_that_reads_coins_would_refute_too_often() -> None:
    """The test above can fail."""
    random, wrongly = np.random.default_rng(7), 0
    for _ in range(AUDITS):
        audited, reference = drawn(random, 0.4, np.zeros(CANARIES), CANARIES)
        coins = random.random(CANARIES) < 0.5
        tried = [audited - slope * reference for slope in np.linspace(0, 1, 5)]
        wrongly += any(refuted(scores, coins)[0] for scores in tried)
    assert wrongly > ALLOWED


# ---- the choice of a rendering


def traced(learned: float, apart: float, seed: int) -> float:
    """The trace where all texts rose by `learned`, and half of them by `apart` more."""
    random = np.random.default_rng(seed)
    audited, reference = drawn(random, 0.4, apart * (random.random(CANARIES) < 0.5), CANARIES)
    audited += learned - (audited - reference).mean()
    return calibration.trace(audited, reference, residual(audited, reference).scores)


def test_the_trace_follows_what_was_learned_and_how_far_texts_lie_apart() -> None:
    assert traced(3.0, 1.0, 1) > traced(
        3.03, 0.5, 1
    )  # rises differ by one in a hundred: the deviation decides
    assert traced(3.0, 0.0, 1) > traced(2.0, 0.0, 2)  # and where nothing lies apart, the rise
    assert traced(-1.0, 1.0, 1) == 0.0


def test_a_trace_is_a_length_in_the_unit_of_the_scores() -> None:
    audited, reference = drawn(np.random.default_rng(8), 0.4, np.zeros(50), 50)
    audited = audited + 9.0
    plain, doubled = (
        calibration.trace(k * audited, k * reference, residual(k * audited, k * reference).scores)
        for k in (1.0, 2.0)
    )
    assert doubled == pytest.approx(2 * plain)
    rise = float((audited - reference).mean())
    spread = float(residual(audited, reference).scores.std())
    assert plain**2 == pytest.approx(rise * spread)
