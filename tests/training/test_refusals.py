"""What no private arm can train on, and adapters that do not fit, each refused with its reason."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from torch import nn

from dpaudit.errors import UsageError
from dpaudit.models import adapter_files, hf
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Lora, Schedule
from dpaudit.training.engine import Engine
from dpaudit.training.examples import Objective

STEPS = Schedule(4, 2, 0.01)
PRIVATE, OPEN = Mechanism(1.0, 0.1, 2, 1.0), Mechanism(0.0, 0.1, 2, math.inf)


def normalised(model: Any) -> None:
    model.get_submodule("base_model.model.model").norm = nn.BatchNorm1d(24).requires_grad_(False)


def balanced(model: Any) -> None:
    model.config.output_router_logits = True


def crowded(model: Any) -> None:
    model.config.expert_capacity = 8


@pytest.mark.parametrize(
    ("coupled", "wanted"),
    [
        (
            normalised,
            r"model: base_model\.model\.model\.norm: expected layers that see each row alone.* batch "
            r"normalisation, whose statistics mix",
        ),
        (
            balanced,
            "output_router_logits: expected false in a private arm.* load-balancing loss is over all rows",
        ),
        (crowded, "expert_capacity: .*crowds out another's tokens"),
    ],
)
def test_a_model_that_couples_rows_is_refused_under_privacy_alone(coupled: Any, wanted: str) -> None:
    model = worlds.lora_model()
    Engine(model, STEPS, PRIVATE, Objective(), 8)  # silent before
    coupled(model)
    with pytest.raises(UsageError, match=wanted) as caught:
        Engine(model, STEPS, PRIVATE, Objective(), 8)
    assert "\n" not in str(caught.value)
    Engine(model, STEPS, OPEN, Objective(), 8)


def test_weighing_a_balancing_loss_alone_couples_nothing() -> None:
    """The same gradients, whatever the weight: the loss is not computed."""
    import transformers

    from dpaudit.training import engine
    from dpaudit.training.batches import grouped

    found = []
    for weight in (0.0, 5.0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = transformers.MixtralConfig(
                vocab_size=worlds.VOCABULARY,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                num_local_experts=2,
                router_aux_loss_coef=weight,
            )
            base = transformers.MixtralForCausalLM(config)
        model = adapter_files.new_adapter(base, Lora(rank=2, targets=("q_proj", "v_proj")), 0)
        lora = Engine(model, STEPS, PRIVATE, Objective(), 8).lora
        [group] = grouped(worlds.record_units(3), 8)
        with lora.attached():
            found.append(engine.unit_gradients(model, lora, group, Objective())[0])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert any(part.any() for part in found[0])


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        (("q_prj", "v_prog"), r"got q_prj, v_prog; it has q_proj, v_proj, down_proj, .*up_proj"),
        (
            ("zzz",),
            r"got zzz; it has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj$",
        ),
    ],
)
def test_targets_that_match_no_layer_are_told_the_names(
    targets: tuple[str, ...], wanted: str, toy_model_dir: Path
) -> None:
    with pytest.raises(UsageError, match=wanted):
        adapter_files.new_adapter(hf.load_model(str(toy_model_dir)), Lora(targets=targets), 0)


def test_an_adapter_of_another_kind_is_no_start(toy_model_dir: Path, tmp_path: Path) -> None:
    import peft

    model = hf.load_model(str(toy_model_dir))
    config = peft.LoraConfig(r=2, lora_alpha=16, target_modules="all-linear", use_dora=True)
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    fresh = adapter_files.new_adapter(hf.load_model(str(toy_model_dir)), Lora(rank=2), 0)
    with pytest.raises(
        UsageError, match="expected an adapter with use_dora = False, as in the plan, got use_dora = True"
    ):
        adapter_files.load_adapter(fresh, tmp_path)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("adapter_config.json", b"[" * 100_000),
        ("adapter_model.safetensors", (10**5).to_bytes(8, "little") + b"[" * 10**5),
    ],
)
def test_a_start_that_is_nested_without_end_is_one_line(
    file: str, data: bytes, toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    fresh = adapter_files.new_adapter(hf.load_model(str(toy_model_dir)), Lora(rank=2), 0)
    start = Path(shutil.copytree(toy_adapter_dir, tmp_path / "start"))
    (start / file).write_bytes(data)
    with pytest.raises(UsageError, match=r"start: expected .*; copy"):
        adapter_files.load_adapter(fresh, start)
