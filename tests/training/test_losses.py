"""Losses: values by TRL's own code or by closed form, no coupling between examples, and which way they
push.
"""

import math
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import worlds
from torch import Tensor

from dpaudit.errors import UsageError
from dpaudit.models import fused
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import dpsgd, examples, loop, losses
from dpaudit.training.losses import LOSSES, PairLogProbs, Settings

NAMES = list(LOSSES)
FIELDS = [field.name for field in fields(PairLogProbs)]
BY_TRL = ("sigmoid", "robust", "ipo", "hinge", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero",
          "apo_down", "discopop", "sigmoid_norm")  # fmt: skip


def some_pairs(count: int = 6, dtype: torch.dtype = torch.float64) -> PairLogProbs:
    """Plausible sums: 1 to 12 tokens, each of about -2 nats, and a reference not far from the policy."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 13, (2, count), generator=generator)
    policy = -2 * tokens * torch.rand(2, count, generator=generator, dtype=dtype)
    reference = policy - torch.randn(2, count, generator=generator, dtype=dtype)
    return PairLogProbs(*policy, *tokens, *reference)


def at(pairs: PairLogProbs, index: int) -> PairLogProbs:
    return PairLogProbs(*(getattr(pairs, name)[index : index + 1] for name in FIELDS))


def flipped(pairs: PairLogProbs) -> PairLogProbs:
    """The same pairs with the other answer preferred."""
    order = (
        "rejected",
        "chosen",
        "rejected_tokens",
        "chosen_tokens",
        "reference_rejected",
        "reference_chosen",
    )
    return PairLogProbs(*(getattr(pairs, name) for name in order))


def loss_of(name: str, pairs: PairLogProbs, settings: Settings | None = None) -> Tensor:
    return LOSSES[name].function(pairs, settings or LOSSES[name].settings)


def of_margin(margin: float, chosen: float = 0.0) -> PairLogProbs:
    """One pair of one-token answers whose chosen ratio is `chosen` and whose margin is `margin`."""
    values = [chosen - 40.0, chosen - margin - 40.0, 1.0, 1.0, -40.0, -40.0]
    return PairLogProbs(*(torch.tensor([value], dtype=torch.float64) for value in values))


# ---- supervised fine-tuning


def test_sft_is_the_mean_over_a_records_own_tokens() -> None:
    found = losses.sft(torch.tensor([-6.0, -1.0]), torch.tensor([3, 1]))
    assert found.tolist() == [2.0, 1.0]


def test_sft_of_a_record_without_answer_tokens_is_zero() -> None:
    assert losses.sft(torch.tensor([0.0]), torch.tensor([0])).tolist() == [0.0]


# ---- values


def by_trl(name: str, pairs: PairLogProbs, settings: Settings) -> float:
    """What TRL's DPOTrainer computes for one pair whose log-probabilities are given.

    Only what feeds the loss is a stand-in: a model that returns them, spread evenly over the answers' tokens.
    """
    from accelerate import Accelerator
    from trl import DPOTrainer

    counts = torch.cat([pairs.chosen_tokens, pairs.rejected_tokens])
    length = int(counts.max()) + 1  # a prompt of one token
    mask = (torch.arange(length) >= 1) & (torch.arange(length) <= counts[:, None])
    sums = torch.cat([pairs.chosen, pairs.rejected])
    spread = torch.where(mask[:, 1:], (sums / counts)[:, None], 0.0)
    flat = torch.zeros_like(spread)
    outputs = SimpleNamespace(log_probs=spread, entropy=flat, mean_logits=flat, is_top1=flat.bool())
    inputs = {
        "input_ids": torch.zeros(2, length, dtype=torch.long),
        "attention_mask": torch.ones(2, length),
        "completion_mask": mask.long(),
        "ref_chosen_logps": pairs.reference_chosen,
        "ref_rejected_logps": pairs.reference_rejected,
    }
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=Accelerator(cpu=True),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[name],
        loss_weights=[1.0],
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        use_weighting=False,
        args=SimpleNamespace(discopop_tau=losses.DISCOPOP_TAU),
        _total_train_tokens=0,
        _tp_size=1,
        _metrics={"train": _Lists()},
    )
    return float(DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False))


class _Lists(dict[str, list[Any]]):
    def __missing__(self, key: str) -> list[Any]:
        return self.setdefault(key, [])


@pytest.mark.parametrize("beta", [None, 0.7])
@pytest.mark.parametrize("name", BY_TRL)
def test_values_are_those_of_trl(name: str, beta: float | None) -> None:
    pairs, settings = some_pairs(), losses.settings_of(name, beta)
    expected = [by_trl(name, at(pairs, i), settings) for i in range(6)]
    found = loss_of(name, pairs, settings)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_simpo_is_that_of_trl() -> None:
    from trl.experimental.cpo import CPOTrainer

    pairs, settings = some_pairs(), LOSSES["simpo"].settings
    trainer = SimpleNamespace(
        loss_type="simpo",
        alpha=0.0,
        beta=settings.beta,
        simpo_gamma=settings.gamma,
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    averages = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    torch.testing.assert_close(loss_of("simpo", pairs), CPOTrainer.cpo_loss(trainer, *averages)[0])


def test_orpo_is_that_of_trl_with_the_likelihood_per_pair() -> None:
    from trl.experimental.orpo import ORPOTrainer

    pairs, beta = some_pairs(), 0.3
    trainer = SimpleNamespace(beta=beta, accelerator=SimpleNamespace(device="cpu"))
    averages = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    odds = ORPOTrainer.odds_ratio_loss(trainer, *averages)[0]
    found = loss_of("orpo", pairs, Settings(beta)) + averages[0]
    torch.testing.assert_close(found, -odds.double(), rtol=1e-4, atol=1e-6)


def test_cdpo_by_closed_form() -> None:
    """Mitchell 2023: the sigmoid loss of the pair and of its flip, weighted 1 - e and e. TRL has no such
    loss.
    """
    pairs, settings = some_pairs(), Settings(0.4, 0.2)
    expected = [
        0.8 * math.log1p(math.exp(-0.4 * margin)) + 0.2 * math.log1p(math.exp(0.4 * margin))
        for margin in pairs.margin.tolist()
    ]
    assert loss_of("cdpo", pairs, settings).tolist() == pytest.approx(expected, rel=1e-12)


def test_every_loss_has_a_value_of_its_own() -> None:
    assert {*BY_TRL, "simpo", "orpo", "cdpo"} == set(LOSSES)


@pytest.mark.parametrize("margin", [-50.0, -1.0, 0.0, 0.3, 50.0])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_sigmoid_by_closed_form(margin: float, beta: float) -> None:
    found = loss_of("sigmoid", of_margin(margin), Settings(beta))
    assert found.item() == pytest.approx(math.log1p(math.exp(-beta * margin)), rel=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "sigmoid_norm", "cdpo", "robust"])
def test_where_policy_and_reference_agree_the_loss_is_log_two(name: str) -> None:
    assert loss_of(name, of_margin(0.0)).item() == pytest.approx(math.log(2))


def test_robust_without_smoothing_is_sigmoid() -> None:
    pairs = some_pairs()
    torch.testing.assert_close(loss_of("robust", pairs, Settings(0.1)), loss_of("sigmoid", pairs))


# ---- what DP-SGD asks of a loss


@pytest.mark.parametrize("name", NAMES)
def test_no_pair_touches_another_pairs_loss_or_gradient(name: str) -> None:
    pairs = some_pairs()
    pairs.chosen.requires_grad_()
    loss_of(name, pairs)[2].backward()  # type: ignore[no-untyped-call]
    assert pairs.chosen.grad is not None
    assert pairs.chosen.grad.nonzero().flatten().tolist() == [2]
    together = loss_of(name, pairs).detach()
    alone = torch.cat([loss_of(name, at(pairs, i)) for i in range(6)]).detach()
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_a_planted_coupling_is_seen() -> None:
    """Centring the margins over the batch, as a running mean would, fails the test above."""
    pairs = some_pairs()
    coupled = -torch.nn.functional.logsigmoid(pairs.margin - pairs.margin.mean())
    alone = -torch.nn.functional.logsigmoid(at(pairs, 2).margin - at(pairs, 2).margin.mean())
    assert abs(coupled[2] - alone[0]) > 1e-3


def gradients(name: str, pairs: PairLogProbs) -> tuple[float, float]:
    """Of one pair's loss, with respect to both log-probabilities: below 0 where raising one lowers the
    loss.
    """
    leaves = replace(
        pairs, chosen=pairs.chosen.clone().requires_grad_(), rejected=pairs.rejected.clone().requires_grad_()
    )
    loss_of(name, leaves).sum().backward()  # type: ignore[no-untyped-call]
    found = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in (leaves.chosen, leaves.rejected)]
    return found[0], found[1]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("apo_down", "discopop")])
def test_chosen_up_and_rejected_down_lower_the_loss(name: str) -> None:
    chosen, rejected = gradients(name, of_margin(0.0))
    assert chosen < 0 < rejected


def test_apo_down_lowers_the_rejected_answer_more() -> None:
    chosen, rejected = gradients("apo_down", of_margin(2.0))
    assert 0 < chosen < rejected  # equation 8 of its paper: both go down


@pytest.mark.parametrize("margin", [-20.0, 20.0])
def test_discopop_pushes_the_right_way_off_zero(margin: float) -> None:
    chosen, rejected = gradients("discopop", of_margin(margin))
    assert chosen < 0 < rejected


def test_discopop_pushes_the_other_way_at_zero_as_its_paper_says() -> None:
    chosen, rejected = gradients("discopop", of_margin(0.0))
    assert chosen > 0 > rejected


@pytest.mark.parametrize("values", [(-1e4, 0.0), (0.0, -1e4), (1e4, -1e4), (-1e4, 1e4), (0.0, 0.0)])
@pytest.mark.parametrize("tokens", [0, 1, 300])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_finite_at_extremes(
    name: str, tokens: int, values: tuple[float, float]
) -> None:
    policy = [torch.tensor([value], requires_grad=True) for value in values]
    counts = torch.tensor([tokens])
    loss = loss_of(name, PairLogProbs(*policy, counts, counts, torch.zeros(1), torch.zeros(1)))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in policy)


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_is_used_where_it_is_said_to_be_and_nowhere_else(name: str) -> None:
    pairs = some_pairs()
    without = replace(
        pairs, reference_chosen=pairs.chosen * math.nan, reference_rejected=pairs.chosen * math.nan
    )
    assert loss_of(name, without).isnan().all() == LOSSES[name].needs_reference


@pytest.mark.parametrize("name", NAMES)
def test_a_private_step_does_not_depend_on_the_micro_batch(name: str) -> None:
    """Through the real engine; a loss that needs no reference gets none."""
    found = []
    for micro_batch in (2, 64):
        model = worlds.lora_model()
        units = worlds.pair_units([1, 2, 1, 3])
        if not LOSSES[name].needs_reference:
            units = [[replace(example, reference=()) for example in unit] for unit in units]
        loop.train(
            model,
            units,
            Schedule(batch=4, steps=1, learning_rate=0.01, optimizer="sgd"),
            Mechanism(1e-3, 1.0, 1, 0.5),
            sampling=dpsgd.sampling_generator(1),
            noise=dpsgd.noise_generator(torch.device("cpu"), 2),
            objective=examples.Objective(name),
            micro_batch=micro_batch,
        )
        found.append([p.detach() for p in fused.trainable(model).values()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_a_loss_that_needs_a_reference_does_not_go_without() -> None:
    pairs = [examples.Example(unit[0].sequences) for unit in worlds.pair_units([1, 1])]
    with pytest.raises(ValueError, match="ipo: expected reference log-probabilities"):
        examples.example_losses(worlds.lora_model(), pairs, examples.Objective("ipo"))


# ---- settings and names


def test_published_settings_unless_told() -> None:
    assert losses.settings_of("simpo") == Settings(2.5, gamma=1.375)
    assert losses.settings_of("simpo", 1.0) == Settings(1.0, gamma=1.375)
    assert losses.settings_of("robust", None, 0.3) == Settings(0.1, 0.3)
    assert losses.settings_of("robust", None, 0.0) == Settings(0.1, 0.0)
    assert losses.settings_of("sigmoid", None, 0.3) == Settings(0.1)


@pytest.mark.parametrize(("name", "smoothing"), [("robust", 0.5), ("cdpo", 0.7), ("exo_pair", 0.0)])
def test_a_smoothing_out_of_range_is_refused(name: str, smoothing: float) -> None:
    with pytest.raises(UsageError, match=r"training\.dpo_label_smoothing: expected .* below 0\.5"):
        losses.settings_of(name, None, smoothing)


def test_a_smoothing_that_no_loss_uses_is_refused() -> None:
    losses.check_settings(["sigmoid", "robust"], None, 0.2)
    losses.check_settings(["sigmoid"], None, None)
    with pytest.raises(
        UsageError,
        match=r"expected a loss that has this setting \(cdpo, robust, exo_pair\), got sigmoid, ipo",
    ):
        losses.check_settings(["sigmoid", "ipo"], None, 0.2)


@pytest.mark.parametrize("name", losses.COUPLED)
def test_a_loss_that_couples_pairs_is_refused_in_a_private_arm(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        losses.check(name, private=True)
    assert losses.COUPLED[name] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*LOSSES, *losses.OPEN_ONLY])
def test_a_loss_that_can_be_trained_passes(name: str) -> None:
    losses.check(name, private=False)
    if name in LOSSES:
        losses.check(name, private=True)


@pytest.mark.parametrize(("name", "near"), [("sigmiod", "sigmoid"), ("SimPO", "simpo"), ("exo", "exo_pair")])
def test_an_unknown_loss_names_the_known_and_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"an unknown loss; did you mean {near}\?") as caught:
        losses.check(name, private=False)
    assert all(known in str(caught.value) for known in LOSSES)
    assert "\n" not in str(caught.value)


def test_a_word_like_no_loss_gets_no_guess() -> None:
    with pytest.raises(UsageError, match=r"an unknown loss$"):
        losses.check("zzz", private=False)
