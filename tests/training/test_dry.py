"""A dry run is the engine: its sums are exact without noise, have its noise, and go through its clip and
sampler.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch

from dpaudit.errors import GuardError
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import dpsgd, dry, engine, guards
from dpaudit.training.observation import Observation

MECHANISM = Mechanism(0.7, 0.05, 60, 0.3)
SETTING = dry.Setting(population=2000, batch=100, canaries=400)


def trained(setting: dry.Setting = SETTING, mechanism: Mechanism = MECHANISM, seed: int = 1) -> Observation:
    coins, sampling = (np.random.default_rng([seed, part]) for part in range(2))
    return dry.train(setting, mechanism, coins, sampling, dpsgd.noise_generator(torch.device("cpu"), seed))


def silent(mechanism: Mechanism) -> Mechanism:
    return Mechanism(0.0, mechanism.sampling_rate, mechanism.steps, mechanism.clip)


def test_without_noise_a_canary_adds_one_clip_in_each_step_that_draws_it() -> None:
    seen = trained(mechanism=silent(MECHANISM))
    added = seen.observed.sum(0)
    np.testing.assert_allclose(added[seen.included], seen.times[: seen.included.sum()], atol=1e-3)
    assert not added[~seen.included].any()
    assert seen.times.sum() == seen.drawn.sum() > 0
    assert len(seen.times) == 2000 - 400 + seen.included.sum()


def test_excluded_axes_hold_the_noise_alone() -> None:
    seen = trained()
    noise = seen.observed[:, ~seen.included]
    assert noise.std() == pytest.approx(0.7, rel=4 / math.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 * 0.7 / math.sqrt(noise.size)
    drawn = seen.observed[:, seen.included]
    assert drawn.mean() == pytest.approx(0.05, abs=4 * 0.75 / math.sqrt(drawn.size))


@pytest.mark.parametrize("sequences", [2, 4])
def test_a_pair_or_a_patient_is_clipped_as_one(sequences: int) -> None:
    alone = trained(mechanism=silent(MECHANISM))
    together = trained(dry.Setting(2000, 100, 400, sequences), silent(MECHANISM))
    np.testing.assert_allclose(together.observed, alone.observed, atol=1e-6)
    assert together.one_unit_norm == pytest.approx(0.3)


def test_canaries_that_share_an_axis_add_up() -> None:
    seen = trained(dry.Setting(2000, 100, 400, per_axis=8), silent(MECHANISM))
    assert seen.observed.shape == (60, 50)
    times = np.zeros(400)
    times[seen.included] = seen.times[: seen.included.sum()]
    np.testing.assert_allclose(seen.observed.sum(0), times.reshape(50, 8).sum(1), atol=1e-3)


def test_the_sums_reach_the_weights() -> None:
    seen = trained()
    moved = torch.cat([seen.end[name] - seen.start[name] for name in seen.end])
    expected = -dry.LEARNING_RATE * 0.3 / 100 * seen.observed.sum(0)
    np.testing.assert_allclose(moved.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [(dpsgd, "gaussian_noise"), (dpsgd, "clipped_sum"), (dpsgd, "PoissonSampler"), (engine, "private_sum")],
)
def test_the_functions_of_training_themselves_are_called(
    function: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: object) -> None:
        raise LookupError("called")

    monkeypatch.setattr(*function, gone)
    with pytest.raises(LookupError, match="called"):
        trained()


def test_the_engines_guards_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpsgd, "gaussian_noise", lambda layout, std, g: torch.zeros(layout.coordinates))
    with pytest.raises(GuardError, match="noise on lora_A"):
        trained()


@pytest.mark.parametrize(
    "options", [{"canaries": 3}, {"canaries": 10_001}, {"sequences": 0}, {"per_axis": 7}, {"per_axis": 0}]
)
def test_a_setting_out_of_range_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        dry.Setting(**options)


def test_uneven_draws_are_told_and_even_ones_are_not() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        guards.check_even(random.binomial(468, 0.0064, 5000).tolist(), 468, 0.0064)
        guards.check_even(random.binomial(20, 0.3, 1000).tolist(), 20, 0.3)
    guards.check_even([3] * 900, 468, 0.0064)  # too few to tell
    guards.check_even([5] * 2000, 5, 1.0)
    with pytest.raises(GuardError, match=r"expected a variance of 2\.98 over 468 steps, seen 2\.3e-05"):
        guards.check_even([3] * 5000, 468, 0.0064)
    rates = np.where(random.random(5000) < 0.1, 5.0, 5 / 9) * 0.0064
    with pytest.raises(GuardError, match="draws of a unit"):
        guards.check_even(random.binomial(468, rates).tolist(), 468, 0.0064)
