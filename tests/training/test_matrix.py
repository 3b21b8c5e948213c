"""The engine in every setting against a loop over single examples through PEFT's own layers and plain
autograd.
"""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import worlds
from torch import Tensor, nn

from dpaudit.models import adapter_files
from dpaudit.models.fused import FusedLora, trainable
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Lora, Schedule
from dpaudit.training import batches, dpsgd, engine, examples, loop

UNITS = {
    "record": (worlds.record_units(6), examples.Objective("sft")),
    "patient": (worlds.patient_units([1, 3, 2, 5]), examples.Objective("sft")),
    "pair": (worlds.pair_units([1, 1, 1, 1]), examples.Objective("sigmoid", beta=0.5)),
}
SETTINGS = (
    "plain",
    "non-reentrant checkpointing",
    "reentrant checkpointing",
    "bf16",
    "tied weights",
    "all-linear LoRA",
    "rank-stabilised LoRA",
    "dropout with fixed mask",
    "micro-batch 1",
    "micro-batch 4",
)
RATE = 0.05


class FixedMask(nn.Module):
    """A dropout whose mask depends on token and feature only, so that a batch and a single example share
    it.
    """

    def forward(self, x: Tensor) -> Tensor:
        token, feature = torch.arange(x.shape[-2])[:, None], torch.arange(x.shape[-1])
        return x * ((7 * token + 3 * feature) % 5 != 0).to(x.dtype) / 0.8


def model_in(setting: str) -> Any:
    options: dict[str, Any] = {"tied": setting == "tied weights"}
    if setting == "bf16":
        options["dtype"] = torch.bfloat16
    if setting == "rank-stabilised LoRA":
        options["use_rslora"] = True
    if setting in ("plain", "tied weights"):
        options["target_modules"] = ["q_proj", "v_proj"]
    model = worlds.lora_model(**options)
    if setting.endswith("checkpointing"):
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": setting == "reentrant checkpointing"})
    if setting == "dropout with fixed mask":
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.lora_dropout["default"] = FixedMask()
    return model.train()


def one_by_one(model: nn.Module, units: Any, objective: examples.Objective) -> list[Tensor]:
    """Each unit's gradient over all weights, flat, by autograd over its examples one after the other."""
    found = []
    for unit in units:
        model.zero_grad()
        for example in unit:
            examples.example_losses(model, [example], objective).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in trainable(model).values() if p.grad is not None]))
    model.zero_grad()
    return found


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainable(model).values()]).clone()


def vector(lora: FusedLora, total: engine.GradientSum) -> Tensor:
    """The sum in the order of `one_by_one`."""
    return torch.cat([g.flatten() for g in lora.layout.views(total.gradients).values()])


def off(found: Tensor, expected: Tensor) -> float:
    """Relative distance."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting != "bf16"])
@pytest.mark.parametrize("unit", UNITS)
def test_three_steps_save_and_reload_equal_a_loop_over_examples(
    unit: str, setting: str, tmp_path: Path
) -> None:
    """Sums within 1e-5 in float32, at each of the weights that the engine reached (bfloat16: the test
    below).
    """
    units, objective = UNITS[unit]
    micro_batch = int(setting[-1]) if setting.startswith("micro-batch") else 256
    ours, slow = model_in(setting), model_in(setting)
    clip = float(torch.stack([g.norm() for g in one_by_one(slow, units, objective)]).median())
    lora, mechanism = FusedLora(ours), Mechanism(0.0, 1.0, 1, clip)
    for step in range(3):
        gradients = one_by_one(slow, units, objective)
        expected = torch.stack([g * min(1.0, clip / float(g.norm())) for g in gradients]).sum(0)
        with lora.attached():
            groups = batches.grouped(units, micro_batch)
            source = engine.model_source(ours, lora, objective)
            total = engine.private_sum(
                source, lora.layout, groups, mechanism, dpsgd.noise_generator(torch.device("cpu"), 5)
            )
        found = vector(lora, total)
        if step == 0:
            assert 0 < total.clipped < len(units)
        assert off(found, expected) <= 1e-5
        before = flat(ours)
        descend(ours, found)
        assert off(flat(ours) - before, -RATE * expected) <= 1e-3  # the step rounds at the weights' own size
        peft.set_peft_model_state_dict(slow, peft.get_peft_model_state_dict(ours))
    check_reload(ours, setting, tmp_path)


@pytest.mark.parametrize("unit", UNITS)
def test_bf16_is_as_near_to_float32_as_a_loop_in_bf16_is(unit: str, tmp_path: Path) -> None:
    """A batch rounds otherwise than its examples do alone, so what bounds the distance is bfloat16's own
    error.

    Three steps, each from the weights that the engine reached; a factor of 1.5 for the luck of rounding.
    """
    units, objective = UNITS[unit]
    ours, slow, exact = model_in("bf16"), model_in("bf16"), model_in("all-linear LoRA")
    exact.load_state_dict({name: value.float() for name, value in ours.state_dict().items()})
    clip = float(torch.stack([g.norm() for g in one_by_one(exact, units, objective)]).median())
    lora = FusedLora(ours)
    for _ in range(3):
        sums = []
        for model in (exact, slow):
            gradients = [g.float() for g in one_by_one(model, units, objective)]
            sums.append(torch.stack([g * min(1.0, clip / float(g.norm())) for g in gradients]).sum(0))
        with lora.attached():
            source = engine.model_source(ours, lora, objective)
            total = engine.private_sum(
                source,
                lora.layout,
                batches.grouped(units, 4),
                Mechanism(0.0, 1.0, 1, clip),
                dpsgd.noise_generator(torch.device("cpu"), 5),
            )
        found = vector(lora, total)
        assert off(found, sums[0]) <= 1.5 * off(sums[1], sums[0])
        assert off(sums[1], sums[0]) < 0.1
        descend(ours, found)
        for model in (exact, slow):
            peft.set_peft_model_state_dict(model, peft.get_peft_model_state_dict(ours))
    check_reload(ours, "bf16", tmp_path)


def descend(model: nn.Module, gradient: Tensor) -> None:
    position = 0
    with torch.no_grad():
        for parameter in trainable(model).values():
            part = gradient[position : position + parameter.numel()].view(parameter.shape)
            parameter -= (RATE * part).to(parameter.dtype)
            position += parameter.numel()


def check_reload(model: Any, setting: str, folder: Path) -> None:
    adapter_files.save_adapter(model, folder / "adapter", "base", "card")
    again = model_in(setting)
    assert off(flat(again), flat(model)) > 1e-3  # else the reload would show nothing
    peft.set_peft_model_state_dict(again, peft.load_peft_weights(str(folder / "adapter")))
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=0)


def test_nf4_with_double_quantization_equals_a_loop_over_examples() -> None:
    """A base in 4 bits computes in bfloat16: sums agree within its rounding, and a wrong sum would be far
    off.
    """
    bitsandbytes = pytest.importorskip("bitsandbytes")
    units, objective = UNITS["patient"]
    base = worlds.lora_model(tied=False).unload()
    for module in list(base.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and name != "lm_head":
                four = bitsandbytes.nn.Linear4bit(
                    child.in_features,
                    child.out_features,
                    bias=False,
                    quant_type="nf4",
                    compress_statistics=True,
                    compute_dtype=torch.float32,
                )
                four.weight = bitsandbytes.nn.Params4bit(
                    child.weight.data, requires_grad=False, quant_type="nf4"
                )
                setattr(module, name, four.to("cpu"))
    torch.manual_seed(0)
    model = adapter_files.new_adapter(base, Lora(rank=2), 1)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    gradients = one_by_one(model, units, objective)
    clip = float(torch.stack([g.norm() for g in gradients]).median())
    expected = torch.stack([g * min(1.0, clip / float(g.norm())) for g in gradients]).sum(0)
    lora = FusedLora(model)
    with lora.attached():
        source = engine.model_source(model, lora, objective)
        total = engine.private_sum(
            source,
            lora.layout,
            batches.grouped(units, 4),
            Mechanism(0.0, 1.0, 1, clip),
            dpsgd.noise_generator(torch.device("cpu"), 5),
        )
    assert off(vector(lora, total), expected) <= 2e-2
    assert off(torch.stack(gradients).sum(0), expected) > 0.1


@pytest.mark.parametrize("setting", ["plain", "all-linear LoRA", "bf16", "non-reentrant checkpointing"])
def test_without_privacy_the_same_layers_give_the_plain_gradient(setting: str) -> None:
    units, objective = UNITS["record"]
    ours, slow = model_in(setting), model_in(setting)
    lora = FusedLora(ours)
    with lora.attached():
        found = engine.plain_sum(ours, lora, batches.grouped(units, 4), objective)
    expected = torch.stack(one_by_one(slow, units, objective)).sum(0)
    tolerance = 2e-2 if setting == "bf16" else 1e-5
    assert off(vector(lora, found), expected) <= tolerance


def test_schedule_optimizers() -> None:
    """SGD steps along the noisy mean gradient by the learning rate; AdamW does not."""
    units, objective = UNITS["record"]
    moved = {}
    for name in ("sgd", "adamw"):
        model = model_in("plain")
        start = flat(model)
        schedule = Schedule(6, 1, 0.1, warmup=0, optimizer=name)  # type: ignore[arg-type]
        loop.train(
            model,
            units,
            schedule,
            Mechanism(0.5, 1.0, 1, 0.3),
            objective=objective,
            sampling=dpsgd.sampling_generator(0),
            noise=dpsgd.noise_generator(torch.device("cpu"), 5),
        )
        moved[name] = flat(model) - start
    model = model_in("plain")
    lora = FusedLora(model)
    with lora.attached():
        source = engine.model_source(model, lora, objective)
        total = engine.private_sum(
            source,
            lora.layout,
            batches.grouped(units, 256),
            Mechanism(0.5, 1.0, 1, 0.3),
            dpsgd.noise_generator(torch.device("cpu"), 5),
        )
    step = -0.1 * vector(lora, total) / 6
    assert off(moved["sgd"], step) <= 1e-5
    assert off(moved["adamw"], step) > 0.1
