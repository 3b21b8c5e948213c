"""What people do by mistake around `dpaudit.observe`: told, refused in one line, or watched correctly."""

import copy
import functools
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from opacus_training import BATCH, WIDTH, Training, rows
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

import dpaudit
from dpaudit.errors import UsageError
from dpaudit.observing import conformance, record
from dpaudit.observing.rows import ObservedRows
from dpaudit.observing.watch import Watch
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism

SIGMA, AXES = 0.7, 40
CLAIM = Claim(20, 1e-5, "record", "add_or_remove")


class Loop:
    """A training in the hands of a test, step by step."""

    def __init__(self, folder: Path, data: Any = None, **more: Any) -> None:
        self.model = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, 2))
        names = {"key": folder / "key.json", "seen": folder / "seen.npz", "insecure_seed": 1, **more}
        self.data, self.watch = dpaudit.observe(
            rows(1) if data is None else data, self.model, axes=AXES, **names
        )
        self.seen_file = folder / "seen.npz"
        self.private()

    def private(self, weights: Any = None, lr: float = 0.01) -> None:
        from opacus import PrivacyEngine

        self.wrapped, self.optimizer, self.loader = PrivacyEngine().make_private(
            module=getattr(self, "wrapped", self.model),
            optimizer=torch.optim.SGD(self.model.parameters() if weights is None else weights, lr=lr),
            data_loader=DataLoader(self.data, batch_size=BATCH),
            noise_multiplier=SIGMA,
            max_grad_norm=1.0,
        )

    def epoch(self, after: Callable[[], Any] = lambda: None) -> None:
        for x, y in self.loader:
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.wrapped(x), y).backward()
            self.optimizer.step()
            after()

    def outcomes(self, outcome: str) -> dict[str, str]:
        return outcomes(record.load(self.seen_file), outcome)


def outcomes(seen: record.Record, outcome: str = "fail") -> dict[str, str]:
    claimed = Mechanism(SIGMA, 1 / 17, 60, 1.0)
    return {c.name: c.detail for c in conformance.checks(seen, claimed, CLAIM) if c.outcome == outcome}


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        yield


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


def line_of(work: Callable[[], Any]) -> str:
    with pytest.raises(UsageError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what was not watched is told


def test_steps_after_save_are_told_also_by_a_second_save(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.watch.attach(loop.optimizer)
    loop.epoch()
    loop.watch.save()
    assert record.load(loop.seen_file).about.ended and not caplog.messages
    loop.epoch()
    assert not record.load(loop.seen_file).about.ended
    assert len([line for line in caplog.messages if "after watch.save" in line]) == 1
    loop.watch.save()
    assert {"steps", "weights moved"} <= set(loop.outcomes("not observable"))


def test_steps_before_attach_are_told(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.epoch()
    with caplog.at_level(logging.WARNING, "dpaudit"):
        loop.watch.attach(loop.optimizer)
    assert "before watch.attach" in caplog.messages[0]
    loop.epoch()
    loop.watch.save()
    assert loop.outcomes("fail") == {}
    assert "17 of 34 steps that the trainer accounted" in loop.outcomes("not observable")["steps"]


def test_an_accountant_that_is_named_is_asked(loop: Loop) -> None:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    count = functools.partial(accountant.step, noise_multiplier=SIGMA, sample_rate=1 / 17)
    loop.optimizer.attach_step_hook(functools.partial(lambda step, _: step(), count))  # nothing shows it
    loop.watch.attach(loop.optimizer, accountant)
    loop.epoch()
    loop.watch.save()
    about = record.load(loop.seen_file).about
    assert about.accountant == "RDPAccountant" and sum(part.steps for part in about.accounted) == 17


def test_a_batch_that_was_looked_at_before_training_is_forgotten(loop: Loop) -> None:
    next(iter(loop.loader))
    loop.watch.attach(loop.optimizer)
    loop.epoch()
    loop.watch.save()
    assert loop.outcomes("fail") == {} and record.load(loop.seen_file).canaries.sum() > 5


def test_an_optimizer_that_was_made_private_again_is_no_training_without_a_clip(loop: Loop) -> None:
    loop.watch.attach(loop.optimizer)
    inner = loop.optimizer.original_optimizer
    loop.private()
    loop.optimizer.original_optimizer = inner
    assert "attach to the last one" in line_of(loop.epoch)


def test_a_weight_that_another_optimizer_moves_has_no_noise(loop: Loop) -> None:
    last = loop.model[2].requires_grad_(False)
    loop.private(loop.model[0].parameters())
    beside = torch.optim.SGD(last.requires_grad_(True).parameters(), lr=0.01)
    loop.watch.attach(loop.optimizer)

    def moved() -> None:
        beside.step()
        for weight in last.parameters():
            weight.grad_sample = None  # type: ignore[attr-defined]

    loop.epoch(moved)
    loop.watch.save()
    assert (
        "2.weight: expected 0.7 times the clip, seen none" in loop.outcomes("fail")["noise of every weight"]
    )


def with_replacement(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=BATCH, sampler=RandomSampler(data, replacement=True))


def test_a_row_that_one_step_draws_twice_adds_two_clips(tmp_path: Path) -> None:
    made = {"loader": with_replacement, "private": {"poisson_sampling": False}}
    training = Training(tmp_path, sigma=SIGMA, axes=AXES, epochs=1, **made)
    training.run()
    assert "one row's part of a sum" in outcomes(training.seen()[0])


def test_per_layer_clipping_without_room_for_the_axes_has_no_power(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(tmp_path, private={"clipping": "per_layer", "max_grad_norm": [0.5] * 4})
    training.run()
    seen, key = training.seen()
    assert "shows 0.25 of its clip" in caplog.text
    assert "of the clip" in str(conformance.canaries_short(seen, key.included))


# ---- what is right passes


def in_bfloat16(data: TensorDataset) -> TensorDataset:
    return TensorDataset(data.tensors[0].bfloat16(), data.tensors[1])


def decays(optimizer: Any, accountant: Any) -> None:
    optimizer.param_groups[0]["weight_decay"] = 0.1


@pytest.mark.parametrize(
    "changed",
    [
        {"loader": lambda data: DataLoader(data, batch_size=BATCH, drop_last=True)},
        {"after": decays},
        {"rows": TensorDataset(*(part[:7] for part in rows(1).tensors))},
    ],
    ids=["drop_last", "weight decay", "seven rows"],
)
def test_a_correct_training_passes(changed: dict[str, Any], tmp_path: Path) -> None:
    training = Training(tmp_path, sigma=SIGMA, axes=AXES, epochs=1, **changed)
    training.run()
    seen, key = training.seen()
    few = {"sampling rate", "epsilon that the trainer accounted"} if seen.about.rows == 7 else set()
    assert set(outcomes(seen)) <= few and conformance.canaries_short(seen, key.included) is None


def test_weights_in_bfloat16_pass(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        training = Training(tmp_path, sigma=SIGMA, axes=AXES, epochs=1, rows=in_bfloat16(rows(1)))
        training.run()
    finally:
        torch.set_default_dtype(torch.float32)
    seen, key = training.seen()
    assert outcomes(seen) == {} and conformance.canaries_short(seen, key.included) is None


def test_a_learning_rate_of_0_moves_nothing(loop: Loop) -> None:
    loop.private(lr=0.0)
    loop.watch.attach(loop.optimizer)
    loop.epoch()
    loop.watch.save()
    assert set(loop.outcomes("fail")) == {"weights moved"}


class Named(Dataset[Any]):
    """Rows by name, as a collator may take apart."""

    def __len__(self) -> int:
        return len(rows(1))

    def __getitem__(self, index: int) -> dict[str, Any]:
        x, y = rows(1)[index]
        return {"x": x, "y": y}


def test_a_collator_may_take_the_public_row_apart(tmp_path: Path) -> None:
    data = ObservedRows(Named(), 4, row={"x": torch.zeros(WIDTH), "y": torch.tensor(0)})
    batch = data.__getitems__([0, len(data) - 1, len(data) - 2])
    assert [row.pop("y").item() for row in batch][1:] == [0, 0]
    assert data[len(data) - 1].keys() == {"x", "y"}


def test_a_saved_or_copied_model_holds_neither_data_nor_coins(loop: Loop) -> None:
    loop.watch.attach(loop.optimizer)
    file = io.BytesIO()
    torch.save(loop.model, file)
    assert b"ObservedRows" not in file.getvalue() and b"ObservedKey" not in file.getvalue()
    (hook,) = copy.deepcopy(loop.model)._forward_pre_hooks.values()
    assert hook.call is None


# ---- one line, and nothing lost


def test_a_record_is_never_written_over_another_file(loop: Loop, tmp_path: Path) -> None:
    loop.watch.attach(loop.optimizer)
    loop.epoch()
    other = tmp_path / "other.npz"
    other.write_text("somebody's")
    for place in (other, tmp_path):
        assert f"whole in {loop.seen_file}" in line_of(lambda place=place: loop.watch.save(place))
    assert other.read_text() == "somebody's" and record.load(loop.seen_file).about.ended
    assert loop.watch.save(tmp_path / "third.npz") == loop.watch.save(tmp_path / "third.npz")
    assert record.load(tmp_path / "third.npz").about.ended


def test_a_watch_is_attached_once(loop: Loop) -> None:
    loop.watch.attach(loop.optimizer)
    loop.private()
    assert "observe anew" in line_of(lambda: loop.watch.attach(loop.optimizer))


def model() -> nn.Module:
    return nn.Linear(WIDTH, 16)


def test_what_cannot_be_observed_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    there, free = tmp_path / "key.json", tmp_path / "seen.npz"

    def refused(wanted: str, data: Any = None, of: Any = None, **named: Any) -> None:
        given = {"key": there, "seen": free, **named}
        line = line_of(
            lambda: dpaudit.observe(rows(0) if data is None else data, model() if of is None else of, **given)
        )
        assert wanted in line and [path.name for path in tmp_path.iterdir()] == ["file"]

    refused("got a text; for example axes=300", axes="300")
    refused("got a number", axes=300.0)
    refused("0, or 20 or more, got 1", axes=1)
    refused("at most 528, the coordinates", axes=529)
    refused("weights not frozen", of=model().requires_grad_(False))
    refused("the data first", data=[1, 2], of=rows(0))
    refused("a mapping", data={"train": [1, 2]})
    refused("got a folder", key=tmp_path)
    refused("got a folder", seen=tmp_path)
    refused("a file that can be written", seen=tmp_path / "file" / "seen.npz")


def test_no_step_is_no_record(loop: Loop) -> None:
    assert "without an optimizer" in line_of(loop.watch.save)
    loop.watch.attach(loop.optimizer)
    assert "got no step" in line_of(loop.watch.save) and isinstance(loop.watch, Watch)
    assert not loop.seen_file.exists()
