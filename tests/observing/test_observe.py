"""Trainings of somebody else under `dpaudit.observe`: what is left alone, what is found, what is refused."""

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus_training import BATCH, ROWS, SIGMA, WIDTH, Training, rows, rows_alike
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, WeightedRandomSampler
from typed import Call

import dpaudit
from dpaudit.errors import UsageError
from dpaudit.evidence import whitebox
from dpaudit.observing import conformance
from dpaudit.observing.rows import ObservedRows
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import mechanism as mechanism_test

DELTA = 1e-5


def claim(epsilon: float) -> Claim:
    return Claim(epsilon, DELTA, "record", "add_or_remove")


def outcomes(training: Training, epsilon: float = 8.0, sigma: float | None = None) -> dict[str, str]:
    """Every check that did not pass."""
    seen, _ = training.seen()
    found = conformance.checks(seen, training.claimed(seen, sigma), claim(epsilon))
    return {check.name: check.detail for check in found if check.outcome == "fail"}


def p_value(training: Training) -> float:
    seen, key = training.seen()
    return mechanism_test.p_value(seen.observed, key.included, whitebox.family(training.claimed(seen)))


@pytest.fixture(scope="module", params=[4.0, 8.0])
def correct(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("correct"), sigma=SIGMA[request.param])
    training.run()
    return training


def epsilon_of(training: Training) -> float:
    return next(epsilon for epsilon, sigma in SIGMA.items() if sigma == training.sigma)


def test_a_correct_training_passes_every_check(correct: Training) -> None:
    seen, key = correct.seen()
    assert outcomes(correct, epsilon_of(correct)) == {}
    assert p_value(correct) > 0.05
    assert seen.about.matched > 20 and seen.one_row.max() == pytest.approx(1.0, abs=1e-4)
    units = ROWS + key.included.sum()
    assert seen.drawn.mean() == pytest.approx(units / 19, rel=0.1)


def test_what_is_kept_along_an_axis_is_the_coin_and_the_noise(correct: Training) -> None:
    """The mean over steps is the sampling rate where a coin is heads, and 0 elsewhere."""
    seen, key = correct.seen()
    along = seen.observed.mean(0)
    error = 5 * seen.observed.std() / np.sqrt(seen.observed.size / 2)
    assert along[key.included].mean() - along[~key.included].mean() == pytest.approx(1 / 19, abs=2 * error)


def halved(optimizer: Any, accountant: Any) -> None:
    noise = optimizer.add_noise

    def less() -> None:
        optimizer.noise_multiplier /= 2
        noise()
        optimizer.noise_multiplier *= 2

    optimizer.add_noise = less


def test_halved_noise_is_refuted(correct: Training, tmp_path: Path) -> None:
    training = Training(tmp_path, sigma=correct.sigma, after=halved)
    training.run()
    assert list(outcomes(training, epsilon_of(correct))) == ["noise of every weight"]
    assert p_value(training) < 0.01


def test_gradients_of_other_rows_that_add_up_hide_nothing(tmp_path: Path) -> None:
    """They look like more noise where they are left in: then p is near 1, of half of the noise too."""
    right = Training(tmp_path / "right", rows=rows_alike(1))
    wrong = Training(tmp_path / "wrong", rows=rows_alike(1), after=halved)
    right.run()
    wrong.run()
    claimed = whitebox.family(right.claimed(right.seen()[0]))
    told = mechanism_test.power(replace(claimed, noise_multiplier=right.sigma / 2), claimed, 300, 0.95)
    assert told > 0.99 and p_value(wrong) <= 0.05
    assert 0.05 < p_value(right) < 0.95


def test_without_noise_what_is_kept_is_the_canary_alone(tmp_path: Path) -> None:
    """However the rows of a step are clipped, and however many passes it takes."""
    layers = {"clipping": "per_layer", "max_grad_norm": [0.5] * 4}  # three of four have room for 60 axes
    for name, changed, part in (
        ("flat", {}, 1.0),
        ("physical batches", {"physical": 16}, 1.0),
        ("per layer", {"private": layers}, 0.75),
        ("small clip", {"private": {"max_grad_norm": 1e-3}}, 1.0),
    ):
        training = Training(tmp_path / name, sigma=1e-6, axes=60, epochs=1, rows=rows_alike(1), **changed)
        training.run()
        seen, key = training.seen()
        drawn = seen.observed > part / 2
        assert seen.observed == pytest.approx(part * drawn, abs=1e-3), name
        assert drawn.sum() == seen.canaries.sum() > 0 and not drawn[:, ~key.included].any(), name
        assert seen.about.mixed == 0, name


def of_the_batch(optimizer: Any) -> None:
    """A slip: the sum of the rows is clipped, and no row."""
    sums = [gradient.sum(0) for gradient in optimizer.grad_samples]
    norm = torch.stack([total.norm() for total in sums]).norm()
    for weight, total in zip(optimizer.params, sums, strict=True):
        weight.summed_grad = total * (optimizer.max_grad_norm / norm).clamp(max=1)


def of_the_shape(optimizer: Any) -> None:
    """The clip of Opacus, in a way that needs the shape of the weight."""
    both = zip(optimizer.params, optimizer.grad_samples, strict=True)
    rows = [gradient.view(len(gradient), *weight.shape) for weight, gradient in both]
    norms = torch.stack([row.flatten(1).norm(dim=1) for row in rows]).norm(dim=0)
    factor = (optimizer.max_grad_norm / norms.clamp(min=1e-6)).clamp(max=1)
    for weight, row in zip(optimizer.params, rows, strict=True):
        weight.summed_grad = torch.einsum("i,i...", factor, row)


@pytest.mark.parametrize("clip", [of_the_batch, of_the_shape])
def test_where_other_rows_cannot_be_taken_out_it_is_said(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    from opacus.optimizers import DPOptimizer

    monkeypatch.setattr(DPOptimizer, "clip_and_accumulate", clip)
    monkeypatch.setattr("opacus.optimizers.optimizer._check_processed_flag", lambda _: None)
    training = Training(tmp_path, sigma=0.7, axes=100, epochs=1, rows=rows_alike(1))
    training.run()
    seen, _ = training.seen()
    assert seen.about.mixed == seen.steps
    claimed = training.claimed(seen)
    typed = f"sigma=0.7,rate=1/{round(1 / claimed.sampling_rate)},steps={claimed.steps}"
    files = ["--observed", str(training.seen_file), "--key", str(training.key_file)]
    claims = ["--claim", "eps=8,delta=1e-5,unit=record,relation=add_or_remove", "--mechanism", typed]
    done = call("verify", *files, *claims, "--out", str(tmp_path / "verification"))
    assert "counts noise alone" in done.out
    assert "could not be taken out" in (tmp_path / "verification" / "index.html").read_text()


def unmoved(model: Any) -> Any:
    return [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.0}]


def as_two_rows(x: Any, y: Any) -> tuple[Any, Any]:
    """Chosen answers, then rejected ones, each clipped as a row of its own."""
    return torch.cat([x[:, :WIDTH], x[:, WIDTH:]]), torch.cat([y, y])


def divided_by_the_data(optimizer: Any) -> None:
    optimizer.expected_batch_size = len(next(iter(optimizer.grad_samples)))
    optimizer.step()


def without_a_clip(optimizer: Any) -> None:
    optimizer.original_optimizer.step()


def same_noise(optimizer: Any) -> None:
    optimizer.generator = torch.Generator().manual_seed(5)
    optimizer.step()


def no_noise_on_one(optimizer: Any, accountant: Any) -> None:
    noise = optimizer.add_noise

    def less() -> None:
        noise()
        last = optimizer.params[-1]
        last.grad = last.summed_grad.clone()

    optimizer.add_noise = less


def shuffled(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)


def weighted(data: Any) -> DataLoader[Any]:
    chances = [9.0 if i % 4 == 0 else 1.0 for i in range(len(data))]
    return DataLoader(data, batch_size=BATCH, sampler=WeightedRandomSampler(chances, len(data)))


def forgets(optimizer: Any, accountant: Any) -> None:
    optimizer.attach_step_hook(lambda _: None)
    hook = type(accountant).step
    calls = []

    def now_and_then(_: Any) -> None:
        calls.append(1)
        if len(calls) % 2:
            hook(accountant, noise_multiplier=optimizer.noise_multiplier, sample_rate=1 / 19)

    optimizer.attach_step_hook(now_and_then)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "halved noise": ({"after": halved}, "noise of every weight"),
    "three times the steps": ({"epochs": 9}, "steps"),
    "shuffling": ({"loader": shuffled, "private": {"poisson_sampling": False}}, "rows a step"),
    "a weighted sampler": ({"loader": weighted, "private": {"poisson_sampling": False}}, "draws of a row"),
    "weights that never move": ({"trainable": unmoved}, "weights moved"),
    "pairs as two rows": ({"batch": as_two_rows, "rows": rows(1, 2 * WIDTH)}, "one row's part of a sum"),
    "batch from the data": ({"step": divided_by_the_data}, "one public divisor"),
    "no clip": ({"step": without_a_clip}, "every step clipped"),
    "the same noise": ({"step": same_noise}, "noise fresh in every step"),
    "one weight without noise": ({"after": no_noise_on_one}, "noise of every weight"),
    "a forgetful accountant": ({"after": forgets}, "steps that the trainer accounted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_names_the_fault(fault: str, tmp_path: Path) -> None:
    changed, named = FAULTS[fault]
    training = Training(tmp_path, **changed)
    training.run()
    assert named in outcomes(training)


def test_a_claim_of_less_than_was_done_fails_by_name(correct: Training) -> None:
    seen, _ = correct.seen()
    claimed = correct.claimed(seen)

    def failed(mechanism: Mechanism, epsilon: float = 8.0) -> set[str]:
        found = conformance.checks(seen, mechanism, claim(epsilon))
        return {check.name for check in found if check.outcome == "fail"}

    assert failed(replace(claimed, sampling_rate=claimed.sampling_rate / 2)) == {"sampling rate"}
    more_noise = failed(replace(claimed, noise_multiplier=2 * claimed.noise_multiplier))
    assert more_noise == {"noise of every weight", "noise multiplier of the optimizer"}
    assert failed(claimed, 1.0) == {"epsilon of the mechanism", "epsilon that the trainer accounted"}


@pytest.mark.parametrize(
    "changed",
    [{"physical": 16}, {"private": {"clipping": "per_layer", "max_grad_norm": [0.5] * 4}}],
    ids=["physical batches", "per layer"],
)
def test_other_ways_of_a_correct_training_pass(changed: dict[str, Any], tmp_path: Path) -> None:
    training = Training(tmp_path, **changed)
    training.run()
    seen, _ = training.seen()
    assert outcomes(training) == {} and seen.canaries.sum() > 100 and 0 < seen.one_row.max() <= 1 + 1e-3


def test_without_axes_the_weights_are_the_same_to_the_bit(tmp_path: Path) -> None:
    alone = Training(tmp_path / "a", observed=False, epochs=1).run().state_dict()
    beside = Training(tmp_path / "b", axes=0, epochs=1).run().state_dict()
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_key_and_record_are_private_and_known_before_training(correct: Training) -> None:
    for file in (correct.key_file, correct.seen_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    seen, key = correct.seen()
    assert seen.about.commitment == key.commitment


def test_a_crash_loses_the_last_minute_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpaudit.observing.watch.SAVE_SECONDS", 0.0)
    training = Training(tmp_path, epochs=1, save=False)
    training.run()
    seen, _ = training.seen()
    assert not seen.about.ended and seen.steps >= 18
    found = {check.name: check for check in conformance.checks(seen, training.claimed(seen), claim(8))}
    assert found["steps"].outcome == found["weights moved"].outcome == "not observable"


# ---- refusals


def line_of(work: Callable[[], Any]) -> str:
    with pytest.raises(UsageError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.Linear(16, 2))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


def test_data_without_numbers_of_rows_are_refused(tmp_path: Path) -> None:
    line = line_of(lambda: dpaudit.observe(Stream(), linear(), key=tmp_path / "key.json"))
    assert "a stream of rows" in line and not list(tmp_path.iterdir())


def test_a_model_is_observed_once(tmp_path: Path) -> None:
    model = linear()
    dpaudit.observe(rows(0), model, key=tmp_path / "key.json", seen=tmp_path / "seen.npz")
    again = tmp_path / "another.json"
    line = line_of(lambda: dpaudit.observe(rows(0), model, key=again, seen=tmp_path / "seen.npz"))
    assert "observe once" in line and not again.exists()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    dpaudit.observe(rows(0), linear(), key=key, seen=tmp_path / "seen.npz")
    before = key.read_bytes()
    assert "not there yet" in line_of(
        lambda: dpaudit.observe(rows(0), linear(), key=key, seen=tmp_path / "s")
    )
    assert key.read_bytes() == before


def test_what_is_no_optimizer_is_refused(tmp_path: Path) -> None:
    model = linear()
    _, watch = dpaudit.observe(rows(0), model, key=tmp_path / "key.json", seen=tmp_path / "seen.npz")
    assert "an optimizer of PyTorch or Opacus, got Sequential" in line_of(lambda: watch.attach(model))


def attached_twice(tmp_path: Path) -> None:
    watch: list[Any] = []
    observe = dpaudit.observe

    def kept(*given: Any, **named: Any) -> Any:
        found = observe(*given, **named)
        watch.append(found[1])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpaudit, "observe", kept)
        Training(tmp_path, epochs=0, save=False, after=lambda optimizer, _: watch[0].attach(optimizer)).run()


def test_a_watch_is_of_one_training(tmp_path: Path) -> None:
    assert "observe anew" in line_of(lambda: attached_twice(tmp_path))


def dropping(data: Any) -> DataLoader[Any]:
    def collate(batch: list[Any]) -> Any:
        return torch.utils.data.default_collate(batch[1:])

    return DataLoader(data, batch_size=BATCH, collate_fn=collate)


def reshuffled(x: Any, y: Any) -> tuple[Any, Any]:
    order = torch.randperm(len(x))
    return x[order], y[order]


ADAPTIVE = {
    "clipping": "adaptive",
    "target_unclipped_quantile": 0.5,
    "clipbound_learning_rate": 0.1,
    "min_clipbound": 0.1,
    "max_clipbound": 2.0,
    "unclipped_num_std": 5.0,
}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"loader": dropping}, "a gradient for every row that was fetched"),
        ({"batch": reshuffled}, "another row where a canary was fetched"),
        ({"private": ADAPTIVE}, "adaptive clipping"),
    ],
    ids=["a collator that drops rows", "a loop that shuffles", "adaptive clipping"],
)
def test_what_cannot_be_watched_is_refused(changed: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    assert wanted in line_of(Training(tmp_path, **changed).run)


def test_ghost_clipping_is_refused(tmp_path: Path) -> None:
    assert "ghost clipping" in line_of(lambda: _ghost(tmp_path))


def _ghost(folder: Path) -> None:
    from opacus import PrivacyEngine

    model = linear()
    data, watch = dpaudit.observe(rows(0), model, key=folder / "key.json", seen=folder / "seen.npz")
    _, optimizer, _, _ = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=DataLoader(data, batch_size=BATCH),
        criterion=nn.CrossEntropyLoss(),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        grad_sample_mode="ghost",
    )
    watch.attach(optimizer)


def test_rows_of_another_process_are_refused() -> None:
    data = ObservedRows(rows(0), 10)
    assert "num_workers=0" in line_of(lambda: data.trained(5))


def test_empty_batches_and_batches_of_an_evaluation_are_told_apart() -> None:
    data = ObservedRows(rows(0), 10)
    for batch in ([], [1, 2, ROWS + 3], [4], [], [5, 6]):
        data.__getitems__(batch)
    assert data.trained(3) == [1, 2, ROWS + 3]
    data.passed(1)
    assert data.trained(0) == [] and data.trained(2) == [5, 6]
    assert data.draws.sum() == 5 and data.draws[ROWS + 3] == 1


def test_a_split_that_drops_canaries_is_told(correct: Training) -> None:
    seen, _ = correct.seen()
    assert conformance.draws_missing(seen) is None
    lost = replace(seen, canaries=seen.canaries // 3)
    assert "rows are canaries" in str(conformance.draws_missing(lost))


@pytest.mark.slow
def test_p_values_of_correct_trainings_are_uniform(tmp_path: Path) -> None:
    """100 trainings with seeds 0 to 99, fixed beforehand, on rows whose gradients point the same way:
    Kolmogorov-Smirnov, p > .01.
    """
    from scipy import stats

    found = [short_p_value(tmp_path / str(seed), seed)[0] for seed in range(100)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_halved_noise_is_caught_as_often_as_is_told(tmp_path: Path) -> None:
    """Of 50 trainings on such rows, seeds fixed beforehand, by the mechanism test alone; fails by chance once
    in a thousand.
    """
    from scipy import stats

    found = [short_p_value(tmp_path / str(seed), seed, after=halved) for seed in range(50)]
    claimed = found[0][1]
    acting = replace(claimed, noise_multiplier=claimed.noise_multiplier / 2)
    told = mechanism_test.power(acting, claimed, 100, 0.95)
    assert stats.binom(50, told).cdf(sum(p <= 0.05 for p, _ in found)) > 0.001


def short_p_value(folder: Path, seed: int, **changed: Any) -> tuple[float, mechanism_test.SampledGaussian]:
    """The p-value of one epoch with 100 axes, and the mechanism that was claimed."""
    training = Training(folder, axes=100, seed=seed, epochs=1, rows=rows_alike(seed), **changed)
    training.run()
    seen, key = training.seen()
    claimed = whitebox.family(replace(training.claimed(seen), steps=seen.steps))
    return mechanism_test.p_value(seen.observed, key.included, claimed), claimed


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [4.0, 8.0])
@pytest.mark.parametrize("fault", FAULTS)
def test_power_of_every_check(fault: str, epsilon: float, tmp_path: Path) -> None:
    """20 trainings a fault and claim, seeds 0 to 19, fixed beforehand: at least 18 are named."""
    changed, named = FAULTS[fault]
    found = 0
    for seed in range(20):
        training = Training(tmp_path / str(seed), sigma=SIGMA[epsilon], seed=seed, axes=40, **changed)
        training.run()
        found += named in outcomes(training, epsilon)
    assert found >= 18
