"""DP-SGD against slow obvious doubles: a loop over units with autograd, and Opacus' hooks."""

import math
from typing import Any

import numpy as np
import peft
import pytest
import torch
import worlds
from torch import Tensor, nn

from dpaudit.errors import GuardError, UsageError
from dpaudit.models.encode import Encoded
from dpaudit.models.fused import FusedLora, trainable
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import batches, dpsgd, engine, examples

SFT, DPO = examples.Objective("sft"), examples.Objective("sigmoid", beta=0.5)
CASES = {
    "record": (worlds.record_units(9), SFT),
    "patient": (worlds.patient_units([1, 4, 2, 7, 1, 3]), SFT),
    "pair": (worlds.pair_units([1, 1, 1, 1, 1]), DPO),
    "patient with pairs": (worlds.pair_units([2, 1, 4]), DPO),
}


def one_by_one(model: nn.Module, units: list[Any], objective: examples.Objective) -> list[dict[str, Tensor]]:
    """Each unit's gradient by autograd over its examples one after the other."""
    found = []
    for unit in units:
        model.zero_grad()
        for example in unit:
            examples.example_losses(model, [example], objective).sum().backward()
        found.append({name: p.grad.clone() for name, p in trainable(model).items() if p.grad is not None})
    model.zero_grad()
    return found


def clipped_one_by_one(gradients: list[dict[str, Tensor]], clip: float) -> Tensor:
    flat = [torch.cat([g.flatten() for g in unit.values()]).double() for unit in gradients]
    return torch.stack([v * min(1.0, clip / float(v.norm())) for v in flat]).sum(0)


def median_norm(gradients: list[dict[str, Tensor]]) -> float:
    norms = [math.sqrt(sum(float(g.square().sum()) for g in unit.values())) for unit in gradients]
    return float(np.median(norms))


def private_sum(
    model: nn.Module,
    units: list[Any],
    objective: examples.Objective,
    mechanism: Mechanism,
    micro_batch: int = 256,
) -> engine.GradientSum:
    collector, generator = FusedLora(model), dpsgd.noise_generator(torch.device("cpu"), 5)
    groups = batches.grouped(units, micro_batch)
    source = engine.model_source(model, collector, objective)
    with collector.attached():
        return engine.private_sum(source, collector.layout, groups, mechanism, generator)


def flat(model: nn.Module, total: engine.GradientSum) -> Tensor:
    """The sum in the order of `one_by_one`."""
    views = FusedLora(model).layout.views(total.gradients)
    return torch.cat([g.flatten() for g in views.values()]).double()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("micro_batch", [256, 5, 1])
def test_clipped_sum_equals_a_loop_over_units(case: str, micro_batch: int) -> None:
    """Some units are clipped and some are not; units larger than the micro-batch are split over passes."""
    units, objective = CASES[case]
    model = worlds.lora_model()
    slow = one_by_one(model, units, objective)
    clip = median_norm(slow)
    expected = clipped_one_by_one(slow, clip)
    total = private_sum(model, units, objective, Mechanism(0.0, 1.0, 1, clip), micro_batch)
    assert 0 < total.clipped < len(units)
    assert float((flat(model, total) - expected).norm() / expected.norm()) <= 1e-5


def test_clipping_each_record_alone_would_give_another_sum() -> None:
    """The comparison above can tell per-unit from per-record clipping."""
    units, objective = CASES["patient"]
    model = worlds.lora_model()
    slow = one_by_one(model, units, objective)
    clip = median_norm(slow)
    expected = clipped_one_by_one(slow, clip)
    alone = [[example] for unit in units for example in unit]
    wrong = flat(model, private_sum(model, alone, objective, Mechanism(0.0, 1.0, 1, clip)))
    assert float((wrong - expected).norm() / expected.norm()) > 0.05


def test_rows_agree_with_opacus_hooks() -> None:
    from opacus.grad_sample import GradSampleModule

    sequences = [example.sequences[0] for unit in worlds.record_units(6) for example in unit]
    model = worlds.lora_model()
    collector = FusedLora(model)

    def backward(module: nn.Module) -> None:
        log_probs, tokens = examples.answer_log_probs(module, sequences)
        (-log_probs / tokens).sum().backward()  # type: ignore[no-untyped-call]

    with collector.attached(), collector.collecting(range(len(sequences)), len(sequences)) as kept:
        backward(model)
    ours = kept.named()
    model.zero_grad()
    wrapped = GradSampleModule(model, batch_first=True, loss_reduction="sum")
    backward(wrapped)
    theirs = {
        name.removeprefix("_module."): p.grad_sample
        for name, p in wrapped.named_parameters()
        if p.requires_grad
    }
    assert ours.keys() == theirs.keys()
    for name, rows in ours.items():
        assert float((rows - theirs[name]).norm() / theirs[name].norm()) <= 1e-5


def test_rows_are_float32_under_bfloat16() -> None:
    model = worlds.lora_model().to(torch.bfloat16)
    collector = FusedLora(model)
    units = worlds.record_units(3)
    with collector.attached():
        gradients, _ = engine.unit_gradients(model, collector, next(batches.grouped(units, 8)), SFT)
    assert {part.dtype for part in gradients} == {torch.float32}
    assert {p.dtype for p in collector.parameters.values()} == {torch.bfloat16}


@pytest.mark.parametrize("clip", [1e-3, 0.3])
def test_a_clipped_unit_has_norm_at_most_clip(clip: float) -> None:
    model = worlds.lora_model()
    for unit in worlds.patient_units([5, 1, 3]):
        total = private_sum(model, [unit], SFT, Mechanism(0.0, 1.0, 1, clip))
        assert float(total.gradients.double().norm()) <= clip * (1 + 1e-6)


def test_clipped_sum_leaves_small_and_zero_gradients_alone() -> None:
    parts = [torch.tensor([[0.0, 0.0], [0.3, 0.0], [3.0, 0.0]]), torch.tensor([[0.0], [0.4], [4.0]])]
    total, clipped = dpsgd.clipped_sum(parts, 1.0)
    assert int(clipped) == 1
    torch.testing.assert_close(total, torch.tensor([0.3 + 0.6, 0.0, 0.4 + 0.8]))


# ---- noise


def noise_faults(sums: list[dict[str, Tensor]], std: float) -> list[str]:
    """The parameters whose noise is more than 3 standard errors off `std`, or correlated from step to
    step.
    """
    faults = []
    for name in sums[0]:
        steps = torch.stack([g[name].flatten() for g in sums]).double()  # (steps, coordinates)
        samples = steps.numel()
        assert samples >= 20_000
        if abs(float(steps.square().mean().sqrt()) / std - 1) > 3 / math.sqrt(2 * samples) or abs(
            float((steps[1:] * steps[:-1]).mean()) / std**2
        ) > 4 / math.sqrt(samples):
            faults.append(name)
    return faults


def empty_steps(model: nn.Module, mechanism: Mechanism, count: int) -> list[dict[str, Tensor]]:
    """Sums of steps whose batch is empty, through the code of the real step."""
    collector, generator = FusedLora(model), dpsgd.noise_generator(torch.device("cpu"), 11)
    source = engine.model_source(model, collector, SFT)
    return [
        collector.layout.views(
            engine.private_sum(source, collector.layout, [], mechanism, generator).gradients
        )
        for _ in range(count)
    ]


PLANTED = Mechanism(1.3, 0.1, 1, 0.25)


def test_noise_on_every_parameter_has_the_stated_deviation() -> None:
    model = worlds.lora_model()
    sums = empty_steps(model, PLANTED, 560)  # the smallest weight has 36 coordinates
    assert sums[0].keys() == trainable(model).keys()
    off = noise_faults(sums, PLANTED.noise_multiplier * PLANTED.clip)
    # 28 parameters at 3 standard errors: one outside is no surprise, two are (p < .003)
    assert len(off) <= 1, off


@pytest.mark.parametrize("fault", ["half the noise", "one parameter at half", "the same noise every step"])
def test_the_noise_check_fires_on_broken_noise(fault: str) -> None:
    model = worlds.lora_model()
    sums = empty_steps(model, PLANTED, 560)
    victim = list(sums[0])[3]
    if fault == "half the noise":
        sums = [{name: g / 2 for name, g in step.items()} for step in sums]
    elif fault == "one parameter at half":
        sums = [{**step, victim: step[victim] / 2} for step in sums]
    else:
        sums = [sums[0]] * len(sums)
    off = noise_faults(sums, PLANTED.noise_multiplier * PLANTED.clip)
    assert victim in off
    assert len(off) <= 2 if fault == "one parameter at half" else len(off) == len(sums[0])


def test_noise_and_signal_add_up() -> None:
    model = worlds.lora_model()
    units = worlds.record_units(4)
    mechanism = Mechanism(0.7, 1.0, 1, 0.5)
    signal = private_sum(model, units, SFT, Mechanism(0.0, 1.0, 1, 0.5)).gradients
    noise = private_sum(model, [], SFT, mechanism).gradients
    both = private_sum(model, units, SFT, mechanism).gradients
    torch.testing.assert_close(both, noise + signal)


def test_noise_generators_differ_unless_seeded() -> None:
    cpu = torch.device("cpu")
    draws = [torch.randn(4, generator=dpsgd.noise_generator(cpu, seed)) for seed in (None, None, 3, 3)]
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(draws[2], draws[3])


# ---- sampling


def test_poisson_sampler_realises_its_rate_independently() -> None:
    sampler = dpsgd.PoissonSampler(200, 0.07, dpsgd.sampling_generator(0))
    hits = np.zeros((2000, 200))
    for row in hits:
        row[sampler.draw()] = 1
    error = math.sqrt(0.07 * 0.93 / hits.size)
    assert abs(hits.mean() - 0.07) < 3 * error
    sizes = hits.sum(1)  # binomial: a shuffled or fixed-size batch would not vary so
    assert sizes.var() == pytest.approx(200 * 0.07 * 0.93, rel=0.1)
    together = (hits[:, 0::2] * hits[:, 1::2]).mean()
    assert abs(together - 0.07**2) < 4 * math.sqrt(0.07**2 / (hits.size / 2))


def test_poisson_sampler_draws_everyone_at_rate_one_and_sometimes_nobody() -> None:
    assert dpsgd.PoissonSampler(4, 1.0, dpsgd.sampling_generator(0)).draw() == [0, 1, 2, 3]
    sampler = dpsgd.PoissonSampler(3, 0.1, dpsgd.sampling_generator(0))
    assert any(sampler.draw() == [] for _ in range(20))


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_poisson_sampler_refuses_a_rate_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match="sampling rate"):
        dpsgd.PoissonSampler(3, rate, dpsgd.sampling_generator(0))


# ---- what cannot be clipped is refused


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"bias": "all", "target_modules": ["q_proj"]}, "bias"),
        ({"modules_to_save": ["embed_tokens"], "target_modules": ["q_proj"]}, "embed_tokens"),
        ({"use_dora": True}, "DoRA"),
    ],
)
def test_other_trainable_parameters_are_refused(options: dict[str, Any], name: str) -> None:
    model = worlds.lora_model(**options)
    if name == "bias":  # Llama has none of its own
        model.base_model.model.model.norm.bias = nn.Parameter(torch.zeros(24))
    with pytest.raises(UsageError, match=name):
        FusedLora(model)


def test_a_model_without_trainable_weights_is_refused() -> None:
    model = worlds.lora_model()
    model.requires_grad_(False)
    with pytest.raises(UsageError, match="trainable LoRA weight"):
        FusedLora(model)


def lora_on(module: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        config = peft.LoraConfig(r=2, target_modules=["layer"], init_lora_weights=False)
        return peft.get_peft_model(module, config)  # type: ignore[arg-type]


def test_a_layer_that_mixes_rows_is_refused() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(0, 1))  # type: ignore[no-any-return]

    model = lora_on(Flat())
    lora = FusedLora(model)
    with (
        pytest.raises(GuardError, match=r"\(4, tokens, features\), seen \(20, 3\)"),
        lora.attached(),
        lora.collecting(range(4), 4),
    ):
        model(torch.ones(4, 5, 3))


def test_a_layer_that_mixes_rows_has_a_plain_sum() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(0, 1))  # type: ignore[no-any-return]

    model, x = lora_on(Flat()), torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    lora = FusedLora(model)
    with lora.attached(), lora.collecting(None) as kept:
        model(x).square().sum().backward()
    found = kept.named()
    model(x).square().sum().backward()
    for name, parameter in trainable(model).items():
        torch.testing.assert_close(found[name][0], parameter.grad)


@pytest.mark.parametrize("changed", ["bias", "dropout", "hook", "adapter off"])
def test_a_base_that_is_not_bare_is_computed_as_peft_does(changed: str) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3, bias=changed == "bias")

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.layer(x))

    model, x = lora_on(One()).train(), torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    if changed == "dropout":
        model.base_model.model.layer.lora_dropout["default"] = nn.Dropout(0.4)
    if changed == "hook":
        model.base_model.model.layer.base_layer.register_forward_hook(lambda module, inputs, out: 2 * out)
    if changed == "adapter off":
        model.base_model.disable_adapter_layers()
        model.base_model.model.layer.lora_A.requires_grad_(True)
        model.base_model.model.layer.lora_B.requires_grad_(True)
    lora, found = FusedLora(model), []
    for fused in (True, False):
        x.grad = None
        torch.manual_seed(3)
        if fused:
            with lora.attached(), lora.collecting(range(4), 4) as kept:
                out = model(x)
                out.square().sum().backward()
        else:
            out = model(x)
            out.square().sum().backward()
        assert x.grad is not None
        found.append((out.detach(), x.grad))
    torch.testing.assert_close(found[0], found[1])
    for name, parameter in trainable(model).items():
        plain = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(kept.named()[name].sum(0), plain)


def test_a_layer_used_twice_collects_both_uses() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.tanh(self.layer(x)))  # type: ignore[no-any-return]

    model, x = lora_on(Twice()), torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    lora = FusedLora(model)
    with lora.attached(), lora.collecting(range(4), 4) as kept:
        model(x).square().sum().backward()
    model(x).square().sum().backward()
    for name, parameter in trainable(model).items():
        assert parameter.grad is not None
        torch.testing.assert_close(kept.named()[name].sum(0), parameter.grad, rtol=1e-4, atol=1e-6)


def test_rows_go_to_their_units_whatever_the_order() -> None:
    """As many rows as units, but not one row each: nothing may rest on their numbers alone."""
    model, group = worlds.lora_model(), next(batches.grouped(worlds.record_units(4), 8))
    lora = FusedLora(model)
    rows = [example for part in group.passes for example, _ in part]
    found = []
    for units in ([0, 1, 2, 3], [2, 0, 0, 3]):
        with lora.attached(), lora.collecting(units, 4) as kept:
            examples.example_losses(model, rows, SFT).sum().backward()  # type: ignore[no-untyped-call]
        found.append(kept.named())
    for name, alone in found[0].items():
        torch.testing.assert_close(found[1][name][0], alone[1] + alone[2])
        torch.testing.assert_close(found[1][name][2], alone[0])
        assert not found[1][name][1].any()


def test_a_weight_used_outside_its_layer_is_refused() -> None:
    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + self.layer.lora_A["default"].weight.sum()  # type: ignore[no-any-return]

    model = lora_on(Leaky())
    lora = FusedLora(model)
    with (
        pytest.raises(GuardError, match=r"lora_A.*expected from its LoRA layer only"),
        lora.attached(),
        lora.collecting(range(4), 4),
    ):
        model(torch.ones(4, 5, 3)).square().sum().backward()


def test_without_the_fused_layers_nothing_is_collected_in_silence() -> None:
    model = worlds.lora_model()
    lora = FusedLora(model)
    with pytest.raises(GuardError, match="expected from its LoRA layer only"):
        engine.unit_gradients(model, lora, next(batches.grouped(worlds.record_units(3), 8)), SFT)


def test_a_record_whose_answer_was_cut_off_has_a_zero_gradient() -> None:
    model = worlds.lora_model()
    cut = Encoded((1, 2, 3), (False,) * 3, (False,) * 3, True, 0)
    total = private_sum(model, [[examples.Example((cut,))]], SFT, Mechanism(0.0, 1.0, 1, 1.0))
    assert total.loss == 0
    assert float(total.gradients.norm()) == 0


def test_noise_from_the_system_has_more_than_the_32_bits_that_a_seed_is_cut_to() -> None:
    """PyTorch's CPU generator drops the upper half of a seed: its own state must come from the system."""
    cut = [torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**40)]
    assert torch.equal(*(torch.randn(50, generator=g) for g in cut))  # the reason for the test
    words = [
        dpsgd.noise_generator(torch.device("cpu")).get_state().numpy()[24 : 24 + 8 * 624].view(np.uint64)
        for _ in range(2)
    ]
    for state in words:
        seeded = 1812433253 * (state[:-1] ^ (state[:-1] >> np.uint64(30))) + np.arange(
            1, 624, dtype=np.uint64
        )
        assert (state[1:] == seeded % 2**32).mean() < 0.01  # no word follows from the one before
        assert len(set(state.tolist())) > 600 and state.max() < 2**32
    assert (words[0] == words[1]).mean() < 0.01


def test_noise_from_the_system_is_standard_normal() -> None:
    """200,000 draws: mean and variance within 4 standard errors (false alarm 1e-4)."""
    drawn = torch.randn(200_000, generator=dpsgd.noise_generator(torch.device("cpu")), dtype=torch.float64)
    assert abs(drawn.mean().item()) < 4 / 200_000**0.5
    assert abs(drawn.var().item() - 1) < 4 * (2 / 200_000) ** 0.5
