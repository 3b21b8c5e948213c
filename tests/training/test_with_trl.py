"""TRL's trainers on a toy model: the same step as our own loop, the losses that couple pairs, and
DeepSpeed.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import VOCABULARY, sequence

from dpaudit.errors import GuardError, UsageError
from dpaudit.models import adapter_files, hf, tokenizers
from dpaudit.models.encode import Encoded
from dpaudit.models.fused import trainable
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Lora, Schedule
from dpaudit.training import dpsgd, engine, examples, loop, losses, with_trl

SCHEDULE = Schedule(batch=4, steps=3, learning_rate=0.02, warmup=0.0)
HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None


def some_pairs(count: int) -> list[list[examples.Example]]:
    """Pairs whose two answers follow the same prompt."""
    random = np.random.default_rng(3)

    def pair() -> examples.Example:
        prompt = tuple(int(token) for token in random.integers(0, VOCABULARY, random.integers(3, 9)))
        answers = [
            tuple(int(token) for token in random.integers(0, VOCABULARY, random.integers(2, 6)))
            for _ in range(2)
        ]
        return examples.Example(tuple(_sequence(prompt, answer) for answer in answers))

    return [[pair()] for _ in range(count)]


def _sequence(prompt: tuple[int, ...], answer: tuple[int, ...]) -> Encoded:
    mask = (False,) * len(prompt) + (True,) * len(answer)
    return Encoded(prompt + answer, mask, (False,) * len(mask), False, len(answer))


def adapted(folder: Path) -> Any:
    return adapter_files.new_adapter(hf.on_device(hf.load_model(str(folder))), Lora(rank=2), 0)


def by_trl(folder: Path, loss: str, pairs: int = 10, **options: Any) -> tuple[loop.Result, Any]:
    model = options.pop("model", None) or adapted(folder)
    schedule = options.pop("schedule", SCHEDULE)
    done = with_trl.train(
        model,
        tokenizers.load_tokenizer(str(folder)),
        some_pairs(pairs),
        schedule,
        examples.Objective(loss),
        seed=1,
        **options,
    )
    return done, model


@pytest.mark.parametrize("loss", losses.OPEN_ONLY)
def test_a_loss_that_couples_pairs_is_trained(
    loss: str, toy_model_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[int] = []
    before = [p.detach().clone() for p in trainable(adapted(toy_model_dir)).values()]
    done, model = by_trl(toy_model_dir, loss, coupled_pairs=2, advance=told.append)
    assert [step.step for step in done.steps] == [0, 1, 2] and told == [1, 1, 1]
    assert [step.units for step in done.steps] == [4, 4, 2]  # 10 pairs an epoch
    rates = [engine.learning_rate(SCHEDULE, i) for i in range(3)]
    assert [step.learning_rate for step in done.steps] == rates
    assert done.steps[0].loss == pytest.approx(0.5 if loss == "kto" else math.log(2), abs=1e-4)  # no move yet
    assert done.tokens > 0 and done.seconds > 0
    assert done.guards == ("loss finite", "weights moved", "steps as in the ledger")
    assert list(model.peft_config) == ["default"]
    assert not any(torch.equal(b, p) for b, p in zip(before, trainable(model).values(), strict=True))
    assert capfd.readouterr().out == ""


def test_what_a_coupled_loss_is_does_not_follow_from_where_it_is_computed(toy_model_dir: Path) -> None:
    """Rows of a forward pass are no part of a plan, so that they may not move a weight; the pairs that are
    coupled are.
    """

    def weights(**options: Any) -> list[torch.Tensor]:
        return [p.detach().clone() for p in trainable(by_trl(toy_model_dir, "aot", **options)[1]).values()]

    first = weights(micro_batch=2)
    assert all(torch.equal(a, b) for a, b in zip(first, weights(micro_batch=64), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, weights(coupled_pairs=1), strict=True))


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_a_step_is_that_of_our_own_loop(loss: str, toy_model_dir: Path) -> None:
    """With every pair in every step: tokens, reference, optimizer and learning rates are the same."""
    schedule = Schedule(batch=6, steps=4, learning_rate=0.02, warmup=0.3)
    theirs, their_model = by_trl(toy_model_dir, loss, pairs=6, schedule=schedule)
    model = adapted(toy_model_dir)
    ours = loop.train(
        model,
        examples.with_reference(model, some_pairs(6)),
        schedule,
        Mechanism(0.0, 1.0, 4, math.inf),
        sampling=dpsgd.sampling_generator(1),
        noise=dpsgd.noise_generator(torch.device("cpu"), 2),
        objective=examples.Objective(loss),
    )
    assert [s.loss for s in theirs.steps] == pytest.approx([s.loss for s in ours.steps], rel=1e-4)
    for mine, its in zip(trainable(model).values(), trainable(their_model).values(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_not_finite_stops_the_arm(toy_model_dir: Path) -> None:
    model = adapted(toy_model_dir)
    with torch.no_grad():
        next(iter(trainable(model).values())).fill_(math.nan)
    with pytest.raises(GuardError, match="loss of aot: expected finite numbers"):
        by_trl(toy_model_dir, "aot", model=model)


def test_weights_that_never_move_stop_the_arm(toy_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)
    with pytest.raises(GuardError, match="weights at the end: expected all moved"):
        by_trl(toy_model_dir, "kto")


# ---- rows


def test_a_pair_is_parted_at_its_answers() -> None:
    chosen = Encoded((5, 6, 7, 8, 9), (False, False, True, True, False), (False,) * 5, False, 0)
    rejected = Encoded((5, 6, 3), (False, False, True), (False,) * 3, False, 0)
    assert with_trl._pair(chosen, rejected) == {
        "prompt_ids": [5, 6],
        "chosen_ids": [7, 8],
        "rejected_ids": [3],
    }


def test_an_answer_that_was_cut_off_is_empty() -> None:
    whole = Encoded((5, 6, 7), (False, False, True), (False,) * 3, False, 0)
    cut = Encoded((5, 6), (False, False), (False,) * 2, True, 0)
    assert with_trl._pair(cut, whole) == {"prompt_ids": [5, 6], "chosen_ids": [], "rejected_ids": [7]}


def test_kto_gets_both_answers_of_every_pair_in_mixed_order() -> None:
    random = np.random.default_rng(0)
    pairs = [examples.Example((sequence(random), sequence(random))) for _ in range(6)]
    rows = with_trl._rows(pairs, "kto", seed=0)
    assert sorted(rows["label"]) == [False] * 6 + [True] * 6
    assert list(rows["label"]) != [True, False] * 6


def test_the_divergence_comes_from_another_row_of_the_batch() -> None:
    from datasets import Dataset

    rows = Dataset.from_list([{"completion_ids": [i]} for i in range(5)])
    found = with_trl._with_next_answers(rows, 3)["KL_completion_ids"]
    assert list(found) == [[2], [0], [1], [4], [3]]


@pytest.mark.parametrize(("batch", "most", "expected"), [(16, 128, 16), (16, 5, 4), (7, 6, 1), (4, 0, 1)])
def test_micro_batches_divide_the_batch(batch: int, most: int, expected: int) -> None:
    assert with_trl._divisor(batch, most) == expected


# ---- DeepSpeed


@pytest.mark.skipif(HAS_DEEPSPEED, reason="deepspeed is installed")
def test_deepspeed_that_is_not_installed_is_refused_in_one_line() -> None:
    with pytest.raises(
        UsageError, match=r"training\.deepspeed: .*got no such package; pip install"
    ) as caught:
        with_trl.check_deepspeed(["sigmoid"])
    assert "\n" not in str(caught.value)


def test_deepspeed_without_an_arm_for_it_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a non-private DPO arm to use it, got no such arm"):
        with_trl.check_deepspeed([])


def test_a_process_alone_is_told_so_and_the_environment_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    before = dict(os.environ)
    with with_trl._process_group():
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "1")
    assert dict(os.environ) == before
    monkeypatch.setenv("RANK", "3")
    with with_trl._process_group():
        assert os.environ["RANK"] == "3"


ZERO_1 = """
import sys
from pathlib import Path
from test_with_trl import by_trl
print([step.loss for step in by_trl(Path(sys.argv[1]), "sigmoid", zero_1=sys.argv[2] == "zero1")[0].steps])
"""


@pytest.mark.slow
@pytest.mark.skipif(not HAS_DEEPSPEED, reason="deepspeed is not installed")
def test_zero_1_takes_the_same_steps(toy_model_dir: Path) -> None:
    """In processes of their own: DeepSpeed leaves its mark on the one that it ran in."""
    found = {}
    path = os.pathsep.join(["tests/training", *sys.path])
    for mode in ("plain", "zero1"):
        done = subprocess.run(
            [sys.executable, "-c", ZERO_1, str(toy_model_dir), mode],
            check=True,
            text=True,
            capture_output=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        found[mode] = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["zero1"] == pytest.approx(found["plain"], rel=1e-4)
