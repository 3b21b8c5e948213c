"""Label privacy: how often labels are turned, that the robust loss undoes it, and what a suite of it may
ask.
"""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from worlds import pair_units

from dpaudit.errors import UsageError
from dpaudit.suite import loading
from dpaudit.suite.grid import Grid
from dpaudit.suite.suite import Suite
from dpaudit.training import labels, losses
from dpaudit.training.losses import LOSSES, PairLogProbs

KEY = bytes(range(32))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 20.0])
def test_the_flip_probability_spends_epsilon(epsilon: float) -> None:
    kept = 1 - labels.flip_probability(epsilon)
    assert math.log(kept / labels.flip_probability(epsilon)) == pytest.approx(epsilon, rel=1e-6)


def test_the_flip_probability_agrees_with_an_accountant() -> None:
    """Randomised response of dp-accounting answers at random with probability 2p, half of which is a flip."""
    from dp_accounting.pld import privacy_loss_distribution

    noise = 2 * labels.flip_probability(1.5)
    spent = privacy_loss_distribution.from_randomized_response(noise, 2, value_discretization_interval=1e-5)
    assert spent.get_epsilon_for_delta(0.0) == pytest.approx(1.5, abs=1e-4)


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0])
def test_labels_are_turned_as_often_as_said(epsilon: float) -> None:
    """Within five standard deviations of the binomial: a sound draw fails with probability 6e-7."""
    count, chance = 20_000, labels.flip_probability(epsilon)
    turned = sum(labels.is_flipped(f"p{i}/0", epsilon, KEY) for i in range(count))
    assert abs(turned - count * chance) <= 5 * math.sqrt(count * chance * (1 - chance))


def test_the_same_key_turns_the_same_labels_and_another_key_others() -> None:
    names = [f"p{i}" for i in range(200)]
    first = [labels.is_flipped(name, 0.5, KEY) for name in names]
    assert [labels.is_flipped(name, 0.5, KEY) for name in reversed(names)] == first[::-1]
    assert [labels.is_flipped(name, 0.5, bytes(32)) for name in names] != first


def test_an_infinite_epsilon_turns_nothing() -> None:
    assert labels.flip_probability(math.inf) == 0
    assert not any(labels.is_flipped(f"p{i}", math.inf, KEY) for i in range(100))


def test_an_epsilon_beyond_any_exponential_is_drawn_all_the_same() -> None:
    assert not labels.is_flipped("p", 1e4, KEY)


def test_a_turned_pair_exchanges_answers_and_reference() -> None:
    units = pair_units([1] * 40)
    names = [f"p{i}" for i in range(40)]
    found = labels.randomised(units, names, 0.3, KEY)
    turned = [labels.is_flipped(f"{name}/0", 0.3, KEY) for name in names]
    assert 0 < sum(turned) < 40
    for before, after, is_turned in zip(units, found, turned, strict=True):
        step = -1 if is_turned else 1
        assert after[0].sequences == before[0].sequences[::step]
        assert after[0].reference == before[0].reference[::step]


@pytest.mark.parametrize("epsilon", [0.4, 2.0])
def test_the_robust_loss_is_unbiased_over_all_flips(epsilon: float) -> None:
    """The mean over every pattern of flips, by its probability, of loss and gradient is that without
    flips.
    """
    generator = torch.Generator().manual_seed(1)
    values = -5 * torch.rand(4, 3, generator=generator, dtype=torch.float64)
    policy, reference, tokens = values[:2].requires_grad_(), values[2:].detach(), torch.ones(2, 3)
    chance = labels.flip_probability(epsilon)
    robust = losses.settings_of("robust", 0.5, chance)

    def loss(flips: tuple[bool, ...]) -> torch.Tensor:
        turned = torch.tensor(flips)
        answers = torch.where(turned, policy.flip(0), policy)
        known = torch.where(turned, reference.flip(0), reference)
        return LOSSES["robust"].function(PairLogProbs(*answers, *tokens, *known), robust).sum()

    patterns = list(itertools.product([False, True], repeat=3))
    weights = [chance ** sum(f) * (1 - chance) ** (3 - sum(f)) for f in patterns]
    expected = sum((w * loss(f) for w, f in zip(weights, patterns, strict=True)), torch.zeros(()))
    clean = (
        LOSSES["sigmoid"]
        .function(PairLogProbs(*policy, *tokens, *reference), losses.settings_of("sigmoid", 0.5))
        .sum()
    )
    torch.testing.assert_close(expected, clean, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(expected, policy)[0], torch.autograd.grad(clean, policy)[0], rtol=1e-12, atol=0
    )
    biased = loss(patterns[0])
    assert abs(biased - clean) > 1e-3  # on clean labels it is another loss


def label_suite(**changed: Any) -> Suite:
    wanted = {"training.unit": "label", "grid.stages": [], "grid.dpo": ["robust"], "attacks": []}
    return loading.load("demo", wanted | changed)


def test_a_suite_of_robust_arms_passes() -> None:
    labels.check(label_suite())
    labels.check(loading.load("demo"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"grid.stages": ["sft"]}, r"grid\.stages: expected no stage beside the DPO arms.*got sft"),
        ({"grid.dpo": ["sigmoid", "robust"]}, r"grid\.dpo: expected only robust.*got sigmoid, robust"),
        ({"grid.dpo": []}, r"grid\.dpo: expected only robust.*got no loss; type --dpo robust"),
        ({"training.dpo_label_smoothing": 0.1}, r"dpo_label_smoothing: expected no value.*got 0\.1"),
        ({"attacks": ["mia"]}, r"attacks: expected no membership inference under unit label"),
    ],
)
def test_what_else_a_suite_asks_is_refused_in_one_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        labels.check(label_suite(**changed))
    assert "\n" not in str(caught.value)


def test_arms_without_stages_are_those_of_preferences() -> None:
    assert {arm.method for arm in label_suite().grid.arms} == {"dpo"}
    assert {arm.method for arm in replace(label_suite(), grid=Grid()).grid.arms} == {"sft"}
