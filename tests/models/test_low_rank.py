"""LoRA layers without PEFT's wide passes: the same figures, only where they are plain, and gone
afterwards.
"""

from typing import Any

import peft
import pytest
import torch
import transformers

from dpaudit.models import low_rank


def adapted(**changed: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False}
    wanted = peft.LoraConfig(**{**settings, **changed})
    return peft.get_peft_model(transformers.LlamaForCausalLM(config), wanted).eval()


def replaced(model: Any) -> int:
    return sum("forward" in vars(layer) for layer in model.modules())


IDS = torch.arange(24).view(3, 8)


@pytest.mark.parametrize("changed", [{}, {"use_rslora": True}, {"lora_dropout": 0.5}])
def test_plain_layers_give_what_peft_gives(changed: dict[str, Any]) -> None:
    model = adapted(**changed)
    with torch.inference_mode():
        expected = model(input_ids=IDS).logits
        with low_rank.attached(model):
            assert replaced(model) == 14  # seven linear layers in each of two blocks
            assert torch.allclose(model(input_ids=IDS).logits, expected, atol=1e-5)
        assert replaced(model) == 0
        assert torch.equal(model(input_ids=IDS).logits, expected)


@pytest.mark.parametrize(
    "changed",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"target_modules": [], "target_parameters": ["gate_proj.weight"]},
    ],
)
def test_other_layers_are_left_to_peft(changed: dict[str, Any]) -> None:
    model = adapted(**changed)
    assert any(isinstance(layer, peft.tuners.lora.LoraLayer) for layer in model.modules())
    with low_rank.attached(model):
        assert replaced(model) == 0


def test_the_base_stays_the_base() -> None:
    model = adapted()
    with torch.inference_mode(), model.disable_adapter():
        expected = model(input_ids=IDS).logits
        with low_rank.attached(model):
            assert torch.equal(model(input_ids=IDS).logits, expected)


def test_the_adapter_that_is_on_counts() -> None:
    model = adapted()
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    with torch.inference_mode():
        first = model(input_ids=IDS).logits
        model.set_adapter("other")
        expected = model(input_ids=IDS).logits
        with low_rank.attached(model):
            assert torch.allclose(model(input_ids=IDS).logits, expected, atol=1e-5)
    assert not torch.allclose(first, expected, atol=1e-3)


def test_a_failure_gives_peft_its_layers_back() -> None:
    model = adapted()
    with pytest.raises(RuntimeError), low_rank.attached(model):
        raise RuntimeError
    assert replaced(model) == 0


def test_bfloat16_stays_near() -> None:
    model = adapted().to(torch.bfloat16)
    with torch.inference_mode():
        expected = model(input_ids=IDS).logits.float()
        with low_rank.attached(model):
            found = model(input_ids=IDS).logits
    assert found.dtype == torch.bfloat16
    assert float((found.float() - expected).norm() / expected.norm()) < 0.02
