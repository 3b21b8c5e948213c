"""How often `verify` refutes a claim that is true, from a model's answers to the verdict, with several
renderings scored.

The trainings are exactly as private as they claim. What each says of a secret in each rendering follows from
its own output alone, so that no choice among renderings that looks at scores only can make a false claim of a
true one.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from strangers import judged

from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.models.secret_spans import SecretScores
from dpaudit.planting import audit_key, plant
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.stages import verify_verdicts
from dpaudit.stages.asking import Answers
from dpaudit.stats import epsilon

Floats = NDArray[np.float64]
Coins = NDArray[np.bool_]
Output = Callable[[np.random.Generator, Coins], Floats]

CANARIES = 100
RENDERINGS = plant.RENDERINGS
RECIPES = [recipe.load(name) for name in (plant.PRIMARY, plant.WITHOUT_BASE)]
SOUND = Record("", (Turn("user", "q"), Turn("assistant", "a")))
PAIR = Record("", (Turn("user", "q"),), chosen="a", rejected="b")
NOISE = 3.0


def nothing(random: np.random.Generator, coins: Coins) -> Floats:
    return random.standard_normal(coins.shape)


def response(random: np.random.Generator, coins: Coins) -> Floats:
    """Randomised response at epsilon 1."""
    kept = random.random(coins.shape) < 1 / (1 + math.exp(-1))
    return np.where(kept, coins, ~coins) + 1e-3 * random.random(coins.shape)


def gaussian(random: np.random.Generator, coins: Coins) -> Floats:
    return coins + NOISE * random.standard_normal(coins.shape)


NULLS: dict[str, tuple[Output, float, float]] = {
    "nothing": (nothing, 0.0, 0.0),
    "response": (response, 1.0, 0.0),
    "gaussian": (gaussian, epsilon.epsilon_gaussian(noise_multiplier=NOISE, delta=1e-5), 1e-5),
}


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bound of the same counts is worked out once: thousands of audits share some dozens of
    counts.
    """
    for name in ("epsilon_lower_one_run", "epsilon_ceiling_one_run", "p_value_one_run"):
        monkeypatch.setattr(epsilon, name, cache(getattr(epsilon, name)))


def key_of(coins: Coins, is_pair: bool) -> audit_key.AuditKey:
    planted = audit_key.Planted(PAIR if is_pair else SOUND, "a", "b" if is_pair else None)
    guesses = int(0.4 * CANARIES)
    rule = audit_key.Rule(*RECIPES, guesses, RENDERINGS)
    unit: Any = "pair" if is_pair else "record"
    return audit_key.AuditKey(
        unit, "f", "s", 1, rule, (planted,) * len(coins), tuple(coins.tolist()), "", "0" * 64, "0" * 64
    )


def answers_of(random: np.random.Generator, seen: Floats, is_pair: bool, base: bool) -> list[Answers]:
    """What a model says whose training gave out `seen`: plainly, blurred, backwards and not at all, in any
    order.
    """
    blurred = seen + random.standard_normal(seen.shape)
    told = [seen, blurred, -seen, random.standard_normal(seen.shape)]
    levels = random.normal(0, 0.1, len(told))  # so that now this rendering counts, now that one
    found = []
    for rendering, place in zip(RENDERINGS, random.permutation(len(told)), strict=True):
        values = told[place] + levels[place]
        known = (
            random.standard_normal((1 + is_pair) * len(seen)) if base else np.zeros((1 + is_pair) * len(seen))
        )
        margin = np.stack([values, np.zeros_like(values)], axis=1).ravel() if is_pair else values
        found.append(
            Answers(
                rendering,
                ("a",) * len(known),
                spans(margin + known),
                spans(known) if base else None,
            )
        )
    return found


def spans(values: Floats) -> list[SecretScores]:
    nan = np.full(1, np.nan, dtype=np.float32)
    return [SecretScores(np.array([value], dtype=np.float32), nan, nan) for value in values]


def verdicts(
    name: str, audits: int, is_pair: bool = False, base: bool = True
) -> tuple[list[str], dict[str, int]]:
    """The verdict of each audit, and how often each place among the renderings was the one that counted."""
    output, claimed, delta = NULLS[name]
    random = np.random.default_rng(7)
    told, chosen = [], dict.fromkeys(RENDERINGS, 0)
    for _ in range(audits):
        coins = random.random(CANARIES) < 0.5
        key = key_of(coins, is_pair)
        claim = Claim(claimed, delta, key.unit, "add_or_remove")
        found = judged(key, claim, answers_of(random, output(random, coins), is_pair, base))
        told.append(found.verdict.verdict)
        assert found.verdict.verdict == "refuted" or verify_verdicts.UNKNOWN in found.verdict.reason
        chosen[found.chosen.rendering] += 1
    return told, chosen


def allowed(audits: int) -> float:
    return audits * 0.05 + 3 * math.sqrt(audits * 0.05 * 0.95)


@pytest.mark.parametrize("name", NULLS)
def test_a_true_claim_is_refuted_in_five_per_cent_at_most(name: str) -> None:
    told, chosen = verdicts(name, 250)
    assert told.count("refuted") <= allowed(250)
    assert min(chosen.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_pair", "base"), [(False, True), (True, True), (False, False)], ids=["calibrated", "pairs", "no base"]
)
@pytest.mark.parametrize("name", NULLS)
def test_a_true_claim_is_refuted_in_five_per_cent_at_most_of_2000(
    name: str, is_pair: bool, base: bool
) -> None:
    told, _ = verdicts(name, 2000, is_pair, base)
    assert told.count("refuted") <= allowed(2000)


def test_a_rendering_chosen_by_its_right_guesses_would_refute_too_often() -> None:
    """The test above can fail: the best of four renderings by right guesses refutes a true claim in more than
    5 %.
    """
    random = np.random.default_rng(8)
    refuted = 0
    for _ in range(250):
        coins = random.random(CANARIES) < 0.5
        key = key_of(coins, False)
        answers = answers_of(random, nothing(random, coins), False, False)
        claim = Claim(0.0, 0.0, "record", "add_or_remove")
        refuted += any(judged(key, claim, [one]).verdict.verdict == "refuted" for one in answers)
    assert refuted > allowed(250)


# ---- answers that no verdict may rest on


def concluded(audited: Floats, base: Floats, coins: Coins, claimed: float = 0.5, pair: bool = False) -> Any:
    answers = [Answers("plain", ("a",) * len(audited), spans(audited), spans(base))]
    unit = "pair" if pair else "record"
    return judged(key_of(coins, pair), Claim(claimed, 1e-5, unit, "add_or_remove"), answers).verdict


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("pair", [False, True])
def test_a_model_without_numbers_is_refused(odd: float, pair: bool) -> None:
    random = np.random.default_rng(1)
    coins = random.random(CANARIES) < 0.5
    values = random.standard_normal(CANARIES * (1 + pair))
    assert concluded(values, np.zeros_like(values), coins, pair=pair).verdict == "no power"
    values[:2] = odd  # of a pair both, whose difference would be NaN
    with pytest.raises(UsageError, match="NaN or zero for 2 of"):
        concluded(values, np.zeros_like(values), coins, pair=pair)


def test_equal_scores_among_the_guesses_are_no_power() -> None:
    random = np.random.default_rng(2)
    coins = random.random(CANARIES) < 0.5
    distinct, base = random.standard_normal(CANARIES), np.zeros(CANARIES)
    assert verify_verdicts.UNKNOWN in concluded(distinct, base, coins).reason
    few = np.where(np.arange(CANARIES) < 5, distinct, -9.0)
    found = concluded(few, base, coins)
    assert found.verdict == "no power" and "equal scores" in found.reason
    assert "equal scores" not in concluded(distinct, base, coins).reason
    assert concluded(np.full(CANARIES, -9.0), base, coins).verdict == "no power"
    known = np.where(coins, distinct + 20, -9.0)  # ties among the rest only, which are not guessed
    assert concluded(known, base, coins).verdict == "refuted"


def test_a_base_that_tells_coins_is_refused_and_another_is_not() -> None:
    random = np.random.default_rng(3)
    coins = random.random(CANARIES) < 0.5
    audited = random.standard_normal(CANARIES)
    for sign in (1, -1):
        with pytest.raises(UsageError, match=r"^--base"):
            concluded(audited, audited + 5.0 * sign * coins, coins)
    assert concluded(audited + 5.0 * coins, audited, coins).verdict == "refuted"
