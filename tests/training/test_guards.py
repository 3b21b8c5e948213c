"""Guards: each fires on a planted fault and is silent on 200 correct runs (expected false alarms: 200 x 1e-6
each).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import worlds

from dpaudit.errors import GuardError
from dpaudit.models.layout import Layout
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import dpsgd, engine, guards, loop, state

STD = 0.4
SHAPES = Layout({"a": (8, 60), "b": (60, 8)})


def noise_of(seed: int) -> Callable[[], torch.Tensor]:
    generator = dpsgd.noise_generator(torch.device("cpu"), seed)
    return lambda: dpsgd.gaussian_noise(SHAPES, STD, generator)


def steps_of(counts: list[int]) -> list[state.Step]:
    return [state.Step(i, n, 0.0, None, 0.1, 0.0) for i, n in enumerate(counts)]


def poisson_counts(units: int, rate: float, steps: int, seed: int) -> list[int]:
    sampler = dpsgd.PoissonSampler(units, rate, dpsgd.sampling_generator(seed))
    return [len(sampler.draw()) for _ in range(steps)]


def test_silent_on_200_correct_runs() -> None:
    count = guards.probe_count(SHAPES)
    assert count == math.ceil(guards.PROBE_SAMPLES / 480)
    for seed in range(200):
        guards.check_noise(guards.probed(noise_of(seed), SHAPES, count, STD), STD)
        for units, rate, steps in ((300, 0.05, 40), (40, 0.02, 10), (1, 0.5, 5), (500, 1.0, 3)):
            guards.check_sampling(steps_of(poisson_counts(units, rate, steps, seed)), units, rate)


def test_silent_on_the_smallest_weights() -> None:
    """A rank of 1 on eight features: products of so few normals have tails that no normal has."""
    shapes = Layout({"a": (1, 8), "b": (8, 1)})
    for seed in range(500):
        generator = dpsgd.noise_generator(torch.device("cpu"), seed)
        guards.check_noise(
            guards.probed(
                lambda g=generator: dpsgd.gaussian_noise(shapes, STD, g),
                shapes,
                guards.probe_count(shapes),
                STD,
            ),
            STD,
        )  # type: ignore[misc]


@pytest.mark.parametrize("counts", [[64], [64, 64], [64, 64, 64], [10], [101]])
def test_silent_on_a_few_steps_that_draw_what_is_expected(counts: list[int]) -> None:
    """One step in twenty draws its mean exactly, and says nothing about the spread of the others."""
    units = {64: 1280, 10: 200, 101: 2020}[counts[0]]
    guards.check_sampling(steps_of(counts), units, counts[0] / units)


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.1, math.sqrt(0.25)])
def test_noise_of_another_scale_is_told(scale: float) -> None:
    draw = noise_of(3)
    with pytest.raises(GuardError, match=r"expected standard deviation 0\.4, seen"):
        guards.check_noise(guards.probed(lambda: draw() * scale, SHAPES, 8, STD), STD)


def test_one_weight_with_half_the_noise_is_told_by_name() -> None:
    draw = noise_of(4)
    with pytest.raises(GuardError, match=r"noise on b: expected standard deviation 0\.4, seen 0\.2"):
        guards.check_noise(
            guards.probed(lambda: draw() * torch.tensor([1.0, 0.5]).repeat_interleave(480), SHAPES, 8, STD),
            STD,
        )


@pytest.mark.parametrize("period", [1, 2, 3])
def test_noise_that_comes_back_is_told(period: int) -> None:
    draws = [noise_of(seed)() for seed in range(period)]
    number = iter(range(100))
    with pytest.raises(GuardError, match=r"expected independent steps, seen a correlation of (1|0\.9)"):
        guards.check_noise(guards.probed(lambda: draws[next(number) % period], SHAPES, 4, STD), STD)


def test_half_correlated_noise_is_told() -> None:
    draw, shared = noise_of(5), noise_of(6)()
    mix = math.sqrt(0.5)
    with pytest.raises(GuardError, match="expected independent steps"):
        guards.check_noise(guards.probed(lambda: mix * (draw() + shared), SHAPES, 8, STD), STD)


@pytest.mark.parametrize(("realised", "claimed"), [(0.04, 0.01), (0.012, 0.01), (0.008, 0.01)])
def test_another_sampling_rate_is_told(realised: float, claimed: float) -> None:
    counts = poisson_counts(4000, realised, 200, 1)
    with pytest.raises(GuardError, match=r"sampling rate: expected 0\.01, seen"):
        guards.check_sampling(steps_of(counts), 4000, claimed)


def test_shuffled_batches_of_fixed_size_are_told() -> None:
    with pytest.raises(GuardError, match=r"expected Poisson sampling, a variance of 60\.8, seen 0"):
        guards.check_sampling(steps_of([64] * 40), 1280, 64 / 1280)


def test_batches_that_vary_too_much_are_told() -> None:
    with pytest.raises(GuardError, match="expected Poisson sampling"):
        guards.check_sampling(steps_of([0, 128] * 20), 1280, 64 / 1280)


def test_sums_longer_than_their_clips_are_told() -> None:
    guards.check_clipped(5.0, 5, 1.0)
    with pytest.raises(GuardError, match="expected norm at most 4, seen 5"):
        guards.check_clipped(5.0, 4, 1.0)


# ---- in the loop itself

FAULTS: dict[str, tuple[Any, str]] = {
    "half the noise": (lambda draw: lambda p, std, g: draw(p, std / 2, g), "standard deviation"),
    "the same noise every step": (
        lambda draw: lambda p, std, g: draw(p, std, g.manual_seed(7)),
        "independent steps",
    ),
}


def train(model: Any, mechanism: Mechanism, sampling: int = 1) -> loop.Result:
    schedule = Schedule(batch=5, steps=mechanism.steps, learning_rate=0.01)
    return loop.train(
        model,
        worlds.record_units(10),
        schedule,
        mechanism,
        sampling=dpsgd.sampling_generator(sampling),
        noise=dpsgd.noise_generator(torch.device("cpu"), 2),
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_noise_stops_the_arm_before_its_first_step(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, told = FAULTS[fault]
    monkeypatch.setattr(dpsgd, "gaussian_noise", plant(dpsgd.gaussian_noise))
    model = worlds.lora_model()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(GuardError, match=told):
        train(model, Mechanism(0.8, 0.5, 4, 0.5))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_noise_divided_by_accumulation_steps_reaches_the_optimizer_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fault lies behind the draw: only what reaches the optimizer shows it."""
    monkeypatch.setattr(engine.Engine, "gradients", _quartered(engine.Engine.gradients))
    with pytest.raises(GuardError, match=r"standard deviation 0\.4, seen 0\.(1|09)"):
        train(worlds.lora_model(), Mechanism(0.8, 0.5, 4, 0.5))


def _quartered(gradients: Any) -> Any:
    def broken(engine: engine.Engine, *arguments: Any) -> Any:
        total = gradients(engine, *arguments)
        for parameter in engine.parameters.values():
            assert parameter.grad is not None
            parameter.grad /= 4
        return total

    return broken


def unclipped(gradients: list[torch.Tensor], clip: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([part.sum(0) for part in gradients]), torch.zeros(())


def test_units_that_are_not_clipped_stop_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpsgd, "clipped_sum", unclipped)
    with pytest.raises(GuardError, match="clipped sum of"):
        train(worlds.lora_model(), Mechanism(0.8, 0.5, 4, 1e-3))


def test_unclipped_units_that_cancel_out_stop_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of a fifth of the units' norms: their sum stays far below as many clips, each of them is above
    its own.
    """
    monkeypatch.setattr(dpsgd, "clipped_sum", unclipped)
    schedule = Schedule(batch=100, steps=1, learning_rate=0.01)
    with pytest.raises(GuardError, match="clipped sum of 1 units"):
        loop.train(
            worlds.lora_model(),
            worlds.record_units(200),
            schedule,
            Mechanism(0.8, 0.5, 1, 5.0),
            sampling=dpsgd.sampling_generator(1),
            noise=dpsgd.noise_generator(torch.device("cpu"), 2),
        )


def test_a_sampler_at_four_times_the_rate_stops_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = dpsgd.PoissonSampler.draw

    def often(sampler: dpsgd.PoissonSampler) -> list[int]:
        return sorted({i for _ in range(4) for i in draw(sampler)})

    monkeypatch.setattr(dpsgd.PoissonSampler, "draw", often)
    with pytest.raises(GuardError, match=r"sampling rate: expected 0\.1"):
        train(worlds.lora_model(), Mechanism(0.8, 0.1, 25, 0.5))


def test_probes_leave_weights_and_streams_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for probed in (True, False):
        if not probed:
            monkeypatch.setattr(engine.Engine, "probe", lambda engine, noise: None)
        model = worlds.lora_model()
        train(model, Mechanism(0.8, 0.5, 4, 0.5))
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)


def test_correct_training_is_silent_at_many_seeds() -> None:
    for seed in range(6):
        assert train(worlds.lora_model(), Mechanism(0.8, 0.3, 6, 0.5), seed).guards


def test_every_guard_is_named() -> None:
    checks = {name for name in vars(guards) if name.startswith("check_")}
    checks -= {"check_noise", "check_even"}  # scale and freshness together; for conformance alone
    assert len(guards.ALWAYS) + len(guards.PRIVATE) == len(checks)
    assert np.unique(guards.ALWAYS + guards.PRIVATE).size == len(guards.ALWAYS + guards.PRIVATE)
