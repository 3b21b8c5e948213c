"""The training loop: what a step is, whatever the micro-batch, the padding or the draw; and the guards."""

import itertools
import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
import worlds
from torch import Tensor, nn

from dpaudit.errors import GuardError
from dpaudit.models.encode import Encoded
from dpaudit.models.fused import Gradients, trainable
from dpaudit.models.layout import Layout
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import batches, dpsgd, engine, examples, guards, loop

OPEN = Mechanism(0.0, 0.5, 4, math.inf)
PRIVATE = Mechanism(0.8, 0.5, 4, 0.5)
SCHEDULE = Schedule(batch=5, steps=4, learning_rate=0.01)


def trained(model: nn.Module, units: list[Any], mechanism: Mechanism, **options: Any) -> loop.Result:
    schedule = options.pop("schedule", replace(SCHEDULE, steps=mechanism.steps))
    return loop.train(
        model,
        units,
        schedule,
        mechanism,
        sampling=dpsgd.sampling_generator(1),
        noise=dpsgd.noise_generator(torch.device("cpu"), 2),
        **options,
    )


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainable(model).values()]).clone()


def gradients_of_first_step(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> Gradients:
    """What reaches the optimizer in the first step of a run."""
    seen: list[Gradients] = []
    step = torch.optim.AdamW.step

    def spy(optimizer: torch.optim.AdamW) -> None:
        parameters = optimizer.param_groups[0]["params"]
        seen.append({str(i): p.grad.clone() for i, p in enumerate(parameters)})
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    trained(*arguments, **options)
    return seen[0]


@pytest.mark.parametrize("mechanism", [OPEN, PRIVATE], ids=["open", "private"])
@pytest.mark.parametrize(
    ("units", "objective"),
    [
        (worlds.patient_units([1, 3, 2, 1, 5, 1, 2, 1, 1, 4]), examples.Objective("sft")),
        (worlds.pair_units([1, 2, 1, 1, 3, 1]), examples.Objective("sigmoid")),
    ],
    ids=["sft", "dpo"],
)
def test_micro_batch_does_not_change_the_step(
    mechanism: Mechanism, units: list[Any], objective: examples.Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = replace(mechanism, steps=1)
    found = []
    for micro_batch in (256, 7, 2, 1):
        model = worlds.lora_model()
        found.append(
            gradients_of_first_step(
                monkeypatch, model, units, once, objective=objective, micro_batch=micro_batch
            )
        )
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-6)


def test_non_private_step_is_the_plain_autograd_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sum of the drawn records' losses over the public batch of 5, not over the number drawn."""
    units = worlds.record_units(30)
    mechanism = replace(OPEN, steps=1)
    drawn = dpsgd.PoissonSampler(30, 0.5, dpsgd.sampling_generator(1)).draw()
    assert len(drawn) > 5
    model = worlds.lora_model()
    loss = sum(-_log_prob(model, units[i][0].sequences[0]) for i in drawn) / 5
    loss.backward()  # type: ignore[union-attr, no-untyped-call]
    expected = [p.grad.clone() for p in trainable(model).values() if p.grad is not None]
    model.zero_grad()
    found = gradients_of_first_step(monkeypatch, model, units, mechanism)
    for gradient, value in zip(found.values(), expected, strict=True):
        assert float((gradient - value).norm() / value.norm()) < 1e-5


def _log_prob(model: nn.Module, sequence: Encoded) -> Tensor:
    """Mean log-probability of a sequence's answer by the whole logits of that sequence alone."""
    logits = model(input_ids=torch.tensor([sequence.input_ids])).logits[0].log_softmax(-1)
    kept = [t for t, answer in enumerate(sequence.answer_mask) if answer]
    return torch.stack([logits[t - 1, sequence.input_ids[t]] for t in kept]).mean()


def test_answer_log_probs_equal_one_sequence_at_a_time() -> None:
    """Padding, dropped columns and several answers in one dialogue change nothing."""
    sequences = [unit[0].sequences[0] for unit in worlds.record_units(6)]
    middle = Encoded(
        sequences[0].input_ids[:6], (False, True, False, False, True, True), (False,) * 6, False, 3
    )
    model = worlds.lora_model().eval()
    with torch.no_grad():
        sums, tokens = examples.answer_log_probs(model, [*sequences, middle])
        alone = torch.stack([_log_prob(model, s) for s in [*sequences, middle]])
    torch.testing.assert_close(sums / tokens, alone, rtol=1e-5, atol=1e-5)


def test_dpo_loss_equals_the_formula_on_one_pair_at_a_time() -> None:
    model = worlds.lora_model().eval()
    pairs = [example for unit in worlds.pair_units([1, 1, 1]) for example in unit]
    with torch.no_grad():
        found = examples.example_losses(model, pairs, examples.Objective("sigmoid", 0.3))
        for loss, pair in zip(found, pairs, strict=True):
            chosen, rejected = (_log_prob(model, s) * sum(s.answer_mask) for s in pair.sequences)
            margin = chosen - rejected - (pair.reference[0] - pair.reference[1])
            assert float(loss) == pytest.approx(math.log1p(math.exp(-0.3 * float(margin))), rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"init_lora_weights": True}], ids=["an adapter", "the base"])
def test_reference_is_the_policy_at_the_start(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So every pair's margin is 0 there and its loss log 2, whatever chunks the reference was computed in."""
    monkeypatch.setattr(examples, "REFERENCE_CHUNK", 2)
    model, bare = worlds.lora_model(**options), worlds.pair_units([1, 2, 1])
    units = examples.with_reference(model, bare, micro_batch=3)
    losses = examples.example_losses(
        model, [e for unit in units for e in unit], examples.Objective("sigmoid")
    )
    torch.testing.assert_close(losses, torch.full((4,), math.log(2)), rtol=1e-5, atol=1e-6)
    assert [[e.sequences for e in unit] for unit in units] == [[e.sequences for e in unit] for unit in bare]
    other = examples.with_reference(worlds.lora_model(**options, r=2), bare)
    same = other[1][1].reference == pytest.approx(units[1][1].reference, rel=1e-4)
    assert same == bool(options)  # a fresh adapter of any rank is the base; another adapter is another policy


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 100])
def test_groups_keep_units_and_pairs_whole(micro_batch: int) -> None:
    units = worlds.pair_units([1, 4, 2, 1, 1])
    groups = list(batches.grouped(units, micro_batch))
    assert sum(group.units for group in groups) == len(units)
    seen = []
    for group in groups:
        sizes = [sum(2 for _ in part) for part in group.passes]
        assert max(sizes) <= max(micro_batch, 2)  # a pair is never parted
        assert group.units == 1 or sum(sizes) <= micro_batch
        members: dict[int, list[examples.Example]] = {}
        for part in group.passes:
            for example, unit in part:
                members.setdefault(unit, []).append(example)
        assert sorted(members) == list(range(group.units))
        seen += list(members.values())
    assert all(unit in seen for unit in units)


def test_no_units_make_no_group() -> None:
    assert list(batches.grouped([], 8)) == []


def test_an_empty_batch_skips_the_model_adds_noise_and_counts() -> None:
    mechanism = Mechanism(0.8, 1e-9, 3, 0.5)

    class Unreachable(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, **_: Any) -> None:
            raise AssertionError("a forward pass on an empty batch")

    model = worlds.lora_model()
    before = weights(model)
    result = trained(Unreachable(model), worlds.record_units(4), mechanism)
    assert [step.units for step in result.steps] == [0, 0, 0]
    assert [step.loss for step in result.steps] == [None] * 3
    assert result.tokens == 0
    assert not torch.isclose(before, weights(model), rtol=0, atol=1e-12).any()


def test_steps_say_what_happened() -> None:
    units = worlds.record_units(10)
    seen: list[int] = []
    result = trained(worlds.lora_model(), units, replace(PRIVATE, clip=1e-6), advance=seen.append)
    assert seen == [1] * 4
    assert [step.step for step in result.steps] == [0, 1, 2, 3]
    assert all(step.clipped_share == 1 for step in result.steps if step.units)
    assert [s.units for s in result.steps] != [5] * 4  # Poisson: sizes vary
    assert result.guards == guards.ALWAYS + guards.PRIVATE
    assert "noise on every trainable weight" not in trained(worlds.lora_model(), units, OPEN).guards


def test_non_private_training_learns() -> None:
    units = worlds.record_units(8)
    schedule = Schedule(batch=8, steps=40, learning_rate=0.03)
    result = trained(worlds.lora_model(), units, Mechanism(0.0, 1.0, 40, math.inf), schedule=schedule)
    first, last = result.steps[0].loss, result.steps[-1].loss
    assert first is not None and last is not None and last < first / 3


def test_equal_seeds_give_equal_weights_and_the_system_does_not() -> None:
    models = [worlds.lora_model() for _ in range(3)]
    units = worlds.record_units(8)
    for model in models[:2]:
        trained(model, units, PRIVATE)
    loop.train(
        models[2],
        units,
        SCHEDULE,
        PRIVATE,
        sampling=dpsgd.sampling_generator(),
        noise=dpsgd.noise_generator(torch.device("cpu")),
    )
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_learning_rate_rises_then_decays_and_is_never_zero(decay: Any) -> None:
    schedule = Schedule(batch=1, steps=40, learning_rate=2.0, warmup=0.1, decay=decay)
    rates = [engine.learning_rate(schedule, step) for step in range(40)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert min(rates) > 0
    assert rates[4] == 2.0
    halfway = {"constant": 2.0, "linear": 1.0, "cosine": 1.0}
    assert rates[22] == pytest.approx(halfway[decay])
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[3:]))


def test_learning_rate_without_warmup_starts_at_the_top() -> None:
    assert engine.learning_rate(Schedule(1, 10, 3.0, warmup=0.0), 0) == 3.0


# ---- guards


@pytest.mark.parametrize("mechanism", [OPEN, PRIVATE], ids=["open", "private"])
def test_guard_a_loss_that_is_not_finite(mechanism: Mechanism) -> None:
    model = worlds.lora_model()
    with torch.no_grad():
        next(iter(trainable(model).values())).fill_(math.nan)
    with pytest.raises(GuardError, match="loss of step 0: expected a finite number, seen nan"):
        trained(model, worlds.record_units(10), mechanism)


def test_guard_a_gradient_that_is_not_finite() -> None:
    with pytest.raises(GuardError, match="gradient of a in step 3"):
        guards.check_finite(1.0, math.inf, torch.tensor([0.0, math.inf]), Layout({"b": (1,), "a": (1,)}), 3)


@pytest.mark.parametrize("fault", ["shape", "zero"])
def test_guard_a_weight_without_noise(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = dpsgd.gaussian_noise

    def broken(layout: Layout, *arguments: Any) -> Tensor:
        noise = draw(layout, *arguments)
        if fault == "shape":
            return noise[: -layout.sizes[-1]]  # the last weight has none
        list(layout.views(noise).values())[5].zero_()
        return noise

    monkeypatch.setattr(dpsgd, "gaussian_noise", broken)
    with pytest.raises(GuardError, match=r"noise( on .*lora_.*)?: expected .*, seen"):
        trained(worlds.lora_model(), worlds.record_units(10), PRIVATE)


@pytest.mark.parametrize("mechanism", [OPEN, PRIVATE], ids=["open", "private"])
def test_guard_weights_that_never_move(mechanism: Mechanism, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose step is never called."""
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    with pytest.raises(GuardError, match="weights at the end: expected all moved, seen 28 of 28 unchanged"):
        trained(worlds.lora_model(), worlds.record_units(10), mechanism)


def test_guard_one_weight_that_never_moves() -> None:
    model = worlds.lora_model()
    parameters = trainable(model)
    start = {name: p.detach() + (i != 4) for i, (name, p) in enumerate(parameters.items())}
    with pytest.raises(GuardError, match="seen 1 of 28 unchanged"):
        guards.check_moved(parameters, start, private=True)


def test_guard_steps_that_the_ledger_does_not_count() -> None:
    schedule = replace(SCHEDULE, steps=6)
    with pytest.raises(GuardError, match="steps: expected 4 as the ledger says, seen 6"):
        trained(worlds.lora_model(), worlds.record_units(10), PRIVATE, schedule=schedule)


def kept_after(seconds: float, every: int, step: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After which of 8 steps a state was kept, where each took at least `step` seconds."""
    units, kept = worlds.record_units(30), list[int]()
    monkeypatch.setattr(loop, "KEEP_SECONDS", seconds)
    trained(
        worlds.lora_model(),
        units,
        replace(OPEN, steps=8),
        keep_every=every,
        advance=lambda n: time.sleep(step),
        keep=lambda snapshot: kept.append(len(snapshot.steps)),
    )
    return kept


def test_a_state_is_kept_in_time_whatever_a_step_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_after(0.001, 50, 0.01, monkeypatch) == [1, 2, 3, 4, 5, 6, 7]  # a step takes longer than that
    slow = [0, *kept_after(0.35, 50, 0.1, monkeypatch), 8]
    assert (
        max(later - earlier for earlier, later in itertools.pairwise(slow)) <= 3
    )  # a fourth step would end too late
    assert kept_after(60.0, 50, 0, monkeypatch) == []
    assert kept_after(60.0, 3, 0, monkeypatch) == [3, 6]
