"""Losses: values by closed form and by TRL's own code, and no coupling between examples."""

import math

import pytest
import torch

from dpaudit.training import losses


def test_sft_is_the_mean_over_a_records_own_tokens() -> None:
    found = losses.sft(torch.tensor([-6.0, -1.0]), torch.tensor([3, 1]))
    assert found.tolist() == [2.0, 1.0]


def test_sft_of_a_record_without_answer_tokens_is_zero() -> None:
    assert losses.sft(torch.tensor([0.0]), torch.tensor([0])).tolist() == [0.0]


@pytest.mark.parametrize("margin", [-50.0, -1.0, 0.0, 0.3, 50.0])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_sigmoid_by_closed_form(margin: float, beta: float) -> None:
    values = torch.tensor([-3.0 + margin, -4.0, -5.0, -6.0], dtype=torch.float64)
    found = losses.sigmoid(*values, beta)
    assert found.item() == pytest.approx(math.log1p(math.exp(-beta * margin)), rel=1e-12)


def test_sigmoid_starts_at_log_two() -> None:
    values = torch.tensor([-3.0, -9.0])
    found = losses.sigmoid(values, values - 1, values, values - 1, 0.1)
    assert found.tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_no_pair_touches_another_pairs_loss(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(4)]
    together = losses.LOSSES[name](*inputs, 0.3)
    alone = [losses.LOSSES[name](*(x[i : i + 1] for x in inputs), 0.3) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0)
