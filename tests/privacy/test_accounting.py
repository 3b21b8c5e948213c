"""The calculator: its answer is the accountant's, others stand beside it, and slips are told in one line."""

from dataclasses import replace
from typing import Any

import dp_accounting
import pytest
from dp_accounting import pld

from dpaudit.errors import UsageError
from dpaudit.privacy import accounting
from dpaudit.privacy.accountants import compose, epsilon_spent
from dpaudit.privacy.accounting import Question, answer, warning
from dpaudit.privacy.mechanism import Mechanism

ASKED = Question(delta=1e-5, sigma=1.2, rate=0.01, steps=300)
NEEDED = Question(delta=1e-5, epsilon=2.0, rate=0.01, steps=300)


def plainly(noise_multiplier: float, rate: float, steps: int) -> float:
    """Epsilon by dp-accounting as it comes, at its default interval of 1e-4."""
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-4)
    return float(accountant.compose(step, steps).get_epsilon(1e-5))


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(0.1, 0.01, 1000), (1.0, 0.004, 5000)])
def test_noise_is_what_plain_bisection_asks_for_and_never_less(
    epsilon: float, rate: float, steps: int
) -> None:
    """Both claims converge below the default interval only, where a finer one would ask for less noise."""
    found = answer(Question(delta=1e-5, epsilon=epsilon, rate=rate, steps=steps))
    noise_multiplier = found["noise_multiplier"]
    assert plainly(noise_multiplier, rate, steps) <= epsilon < plainly(noise_multiplier / 1.001, rate, steps)
    assert found["epsilon"] <= epsilon == found["epsilon_target"]


def test_epsilon_of_a_noise_multiplier() -> None:
    found = answer(ASKED)
    assert found["epsilon"] == epsilon_spent(Mechanism(1.2, 0.01, 300, 1.0), 1e-5)
    assert (found["noise_multiplier"], found["sampling_rate"], found["steps"]) == (1.2, 0.01, 300)
    assert answer(replace(ASKED, relation="replace"))["epsilon"] > found["epsilon"]
    assert answer(replace(ASKED, sigma=0.0))["epsilon"] == "inf"


def test_batch_and_population_stand_for_the_rate() -> None:
    assert answer(replace(ASKED, rate=None, batch=20, population=2000)) == answer(ASKED)


def test_stages_are_composed() -> None:
    stages = ("sigma=1.5,rate=0.02,steps=100", "sigma=1.2,rate=0.01,steps=300")
    first, second = Mechanism(1.5, 0.02, 100, 1.0), Mechanism(1.2, 0.01, 300, 1.0)
    together = answer(Question(delta=1e-5, stages=stages))
    assert together["epsilon"] == compose([first, second], 1e-5)
    assert [row["noise_multiplier"] for row in together["stages"]] == [1.5, 1.2]
    split = answer(replace(ASKED, stages=stages[:1]))
    assert split["epsilon"] == together["epsilon"] and split["noise_multiplier"] == 1.2
    assert split["stages"] == together["stages"][:1]


def test_noise_for_what_earlier_stages_left() -> None:
    stage = "sigma=1.5,rate=0.02,steps=100"
    alone, after = answer(NEEDED), answer(replace(NEEDED, stages=(stage,)))
    assert after["noise_multiplier"] > alone["noise_multiplier"]
    both = [Mechanism(1.5, 0.02, 100, 1.0), Mechanism(after["noise_multiplier"], 0.01, 300, 1.0)]
    assert 1.996 < compose(both, 1e-5) <= 2


def test_two_more_accountants_on_request_only() -> None:
    assert not {"epsilon_prv", "epsilon_rdp"} & answer(ASKED).keys()
    for question in (ASKED, replace(ASKED, stages=("sigma=1.5,rate=0.02,steps=100",))):
        found = answer(question, everything=True)
        assert found["epsilon"] == pytest.approx(found["epsilon_prv"], rel=2e-3)
        assert found["epsilon"] <= found["epsilon_prv"] <= found["epsilon"] + found["epsilon_prv_error"]
        assert found["epsilon"] < found["epsilon_rdp"] < 1.5 * found["epsilon"]


@pytest.mark.parametrize("change", [{"relation": "replace"}, {"rate": 1.0, "steps": 2}, {"sigma": 0.0}])
def test_an_accountant_that_cannot_say_says_nothing(change: dict[str, Any]) -> None:
    assert answer(replace(ASKED, **change), everything=True)["epsilon_prv"] is None


def test_no_approximation_from_below() -> None:
    """Gaussian DP's central limit is below the truth: it is no key of any answer."""
    assert not [key for key in answer(ASKED, everything=True) if "gdp" in key or "gaussian" in key]


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        (replace(ASKED, epsilon=1.0), "got --sigma and --eps"),
        (replace(ASKED, sigma=None), "or --eps for a noise multiplier, got neither option"),
        (replace(NEEDED, stages=("sigma=0.3,rate=0.1,steps=9",)), "--eps: .* or what the stages spend"),
        (replace(ASKED, rate=0.0), "--rate: expected a sampling rate above 0 and at most 1, got 0"),
        (replace(ASKED, rate=float("nan")), "--rate: .* got nan"),
        (replace(ASKED, rate=None), "--rate, or --batch with --population, got no rate"),
        (replace(ASKED, batch=20.0, population=100), "--batch: .* got both options"),
        (replace(ASKED, rate=None, batch=20.0, population=10), "--batch: .* at most the population, 10"),
        (replace(ASKED, population=0), "--population: expected at least 1"),
        (replace(ASKED, steps=0), "--steps: expected at least 1 step, got 0"),
        (replace(ASKED, steps=None), "--steps: .* got no number"),
        (replace(ASKED, delta=1.0), "--delta: .* got 1$"),
        (replace(ASKED, delta=1e-11), "--delta: expected a number from 1e-10"),
        (replace(ASKED, relation="swap"), "--relation: expected one of add_or_remove, replace, got swap"),
        (replace(ASKED, sigma=-1.0), "--sigma: .* got -1"),
        (replace(NEEDED, epsilon=0.0), "--eps: .* above 0, got 0"),
        (replace(NEEDED, epsilon=float("inf")), "--eps: expected a finite"),
        (replace(NEEDED, epsilon=1e-300, rate=1.0, delta=1e-10), "--eps: .* noise up to a million"),
        (Question(delta=1e-5, stages=("sigma=1",)), "--stage: expected sigma=S,rate=Q,steps=T"),
        (Question(delta=1e-5, stages=("sigma=1,rate=2,steps=1",)), "--stage: .* got 2"),
        (Question(delta=1e-5, stages=("sigma=1,rate=.1,steps=1,clip=1",)), "--stage: expected sigma"),
        (Question(delta=1e-5, stages=("sigma=1,rate=.1,steps=1",), steps=3), "--steps: .* --stage alone"),
    ],
)
def test_slips(question: Question, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        answer(question)


@pytest.mark.parametrize(
    ("delta", "population", "warns"),
    [(1e-4, 10_000, True), (1e-3, 10_000, True), (9e-5, 10_000, False), (0.5, None, False)],
)
def test_a_delta_that_lets_a_record_out(delta: float, population: int | None, warns: bool) -> None:
    assert (warning(delta, population) is not None) == warns


def test_the_second_accountant_is_not_taken_at_its_default() -> None:
    """At Opacus' own error of 0.01 nats the same steps read 1 % more."""
    from opacus.accountants import PRVAccountant

    mechanism = Mechanism(1.414805, 0.01, 1000, 1.0)
    default = PRVAccountant()
    default.history = [(1.414805, 0.01, 1000)]
    ours = accounting.epsilon_prv([mechanism], 1e-5)
    assert ours is not None and ours.upper < 1.0015 < 1.008 < default.get_epsilon(1e-5)
