"""Opacus' distributed training in two processes on gloo: one key, and what both release together."""

import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus_training import BATCH, ROWS, WIDTH, rows
from torch import nn
from torch.utils.data import DataLoader

import dpaudit
from dpaudit.errors import UsageError
from dpaudit.observing import conformance, keys, record
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism

SIGMA, EPOCHS, PROCESSES = 0.65, 2, 2
OF_CLAIM = {4.0: 0.9, 8.0: SIGMA}  # sigma by epsilon, of a mechanism that spends no more


def work(rank: int, folder: str, port: int, fault: str, sigma: float, seed: int) -> None:
    """One process; its error is written down."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=PROCESSES
    )
    try:
        _train(rank, Path(folder), fault, sigma, seed)
        if not fault:
            _train(rank, Path(folder) / "quiet", fault, sigma=1e-6)
    except UsageError as error:
        (Path(folder) / f"error-{rank}").write_text(str(error))
    finally:
        torch.distributed.destroy_process_group()


def _train(rank: int, folder: Path, fault: str, sigma: float, seed: int = 1) -> None:
    from opacus import PrivacyEngine
    from opacus.distributed import DifferentiallyPrivateDistributedDataParallel as Distributed

    torch.manual_seed(PROCESSES * seed + rank)
    model = nn.Sequential(nn.Linear(WIDTH, 32), nn.Tanh(), nn.Linear(32, 2))
    data, watch = dpaudit.observe(
        rows(1), model, axes=100, key=folder / "key.json", seen=folder / "seen.npz", insecure_seed=seed
    )
    engine = PrivacyEngine()
    wrapped, optimizer, loader = engine.make_private(
        module=model if fault == "not distributed" else Distributed(model),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        data_loader=DataLoader(data, batch_size=BATCH),
        noise_multiplier=sigma,
        max_grad_norm=1.0,
    )
    watch.attach(optimizer)
    if fault == "noise split":
        split_noise(optimizer)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(wrapped(x), y).backward()
            optimizer.step()
    watch.save()


def split_noise(optimizer: Any) -> None:
    """Every process adds its share of the deviation, as if deviations added up: variances do."""
    optimizer.rank = 0
    add = optimizer.add_noise

    def less() -> None:
        optimizer.noise_multiplier /= PROCESSES
        add()
        optimizer.noise_multiplier *= PROCESSES

    optimizer.add_noise = less


def started(folder: Path, fault: str = "", sigma: float = SIGMA, seed: int = 1) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (str(folder), port, fault, sigma, seed), nprocs=PROCESSES)


def failed(folder: Path, epsilon: float = 8, sigma: float = SIGMA) -> set[str]:
    seen = record.load(folder / "seen.npz")
    steps = -(-(ROWS + seen.about.included) // BATCH)
    claimed = Mechanism(sigma, 1 / steps, EPOCHS * steps, 1.0)
    found = conformance.checks(seen, claimed, Claim(epsilon, 1e-5, "record", "add_or_remove"))
    return {check.name for check in found if check.outcome == "fail"}


def test_a_correct_training_passes_every_check(tmp_path: Path) -> None:
    started(tmp_path)
    seen, key = record.load(tmp_path / "seen.npz"), keys.load(tmp_path / "key.json")
    assert failed(tmp_path) == set() and seen.about.processes == PROCESSES
    noise = np.sqrt(seen.noise_squares.sum() / seen.noise_values.sum())
    assert noise == pytest.approx(SIGMA, rel=0.01)  # the standard error is .3 %
    units = ROWS + key.included.sum()
    assert seen.drawn.mean() == pytest.approx(units / 18, rel=0.1)  # of both processes
    assert (seen.row_draws * np.arange(len(seen.row_draws))).sum() == seen.drawn.sum()
    along = seen.observed.mean(0)
    drawn = seen.canaries.sum() / seen.steps / key.included.sum()
    error = 5 * seen.observed.std() / np.sqrt(seen.observed.size / 2)
    assert along[key.included].mean() - along[~key.included].mean() == pytest.approx(drawn, abs=2 * error)

    quiet = record.load(tmp_path / "quiet" / "seen.npz").observed  # without noise: the canaries alone
    assert quiet == pytest.approx(1.0 * (quiet > 0.5), abs=1e-4) and (quiet > 0.5).any()


def test_noise_that_is_split_over_processes_is_named(tmp_path: Path) -> None:
    started(tmp_path, "noise split")
    assert failed(tmp_path) == {"noise of every weight"}


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", OF_CLAIM)
def test_power_to_find_split_noise(epsilon: float, tmp_path: Path) -> None:
    """20 trainings a claim, seeds 0 to 19, fixed beforehand: at least 18 are named, nothing else fails."""
    sigma, found = OF_CLAIM[epsilon], 0
    for seed in range(20):
        (tmp_path / str(seed)).mkdir()
        started(tmp_path / str(seed), "noise split", sigma, seed)
        found += failed(tmp_path / str(seed), epsilon, sigma) == {"noise of every weight"}
    assert found >= 18


def test_optimizers_that_add_nothing_up_are_refused_in_every_process(tmp_path: Path) -> None:
    started(tmp_path, "not distributed")
    for rank in range(PROCESSES):
        assert "DPDDP" in (tmp_path / f"error-{rank}").read_text()


def test_a_key_that_is_there_is_told_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("")
    started(tmp_path)
    for rank in range(PROCESSES):
        assert "a file that is not there yet" in (tmp_path / f"error-{rank}").read_text()
