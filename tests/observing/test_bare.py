"""Trainings that claim privacy with an optimizer of PyTorch: told at the first step, refuted by name."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from opacus_training import BATCH, WIDTH, rows
from torch import nn
from torch.utils.data import DataLoader
from typed import Call

import dpaudit
from dpaudit.errors import UsageError
from dpaudit.observing import record

CLAIM = "eps=8,delta=1e-5,unit=record,relation=add_or_remove"


def trained(folder: Path, before_step: Callable[[nn.Module], Any] = lambda model: None) -> Path:
    """Plain AdamW; `before_step` is what a loop does to its gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, 2))
        data, watch = dpaudit.observe(
            rows(0), model, axes=40, key=folder / "key.json", seen=folder / "seen.npz"
        )
        optimizer = torch.optim.AdamW(model.parameters())
        watch.attach(optimizer)
        for x, y in DataLoader(data, batch_size=BATCH, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            before_step(model)
            optimizer.step()
        return watch.save()


def clipped_as_a_whole(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)


def noise_of_its_own(model: nn.Module) -> None:
    for weight in model.parameters():
        assert weight.grad is not None
        weight.grad += 0.1 * torch.randn_like(weight)


@pytest.mark.parametrize("change", [lambda model: None, clipped_as_a_whole], ids=["plain", "batch clip"])
def test_a_training_that_clips_nothing_is_told_and_refuted(
    change: Callable[[nn.Module], Any], tmp_path: Path, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dpaudit"):
        seen_file = trained(tmp_path, change)
    told = [line for line in caplog.messages if "clipped no row" in line]
    assert len(told) == 1 and "step 1 " in told[0]
    seen = record.load(seen_file)
    assert not seen.planted and not seen.observed.any() and seen.about.unclipped == seen.steps == 17
    words = ["--observed", str(seen_file), "--key", str(tmp_path / "key.json"), "--claim", CLAIM]
    words += ["--mechanism", "sigma=0.65,rate=1/19,steps=57", "--out", str(tmp_path / "found")]
    done = call("verify", *words, "--json")
    found = json.loads(done.out)
    outcome = {check["name"]: check["outcome"] for check in found["inside"][0]["conformance"]}
    assert done.code == 1 and found["answers"][0]["verdict"] == "refuted"
    failed = {"noise of every weight", "noise multiplier of the optimizer", "every step clipped"}
    assert {name for name, how in outcome.items() if how == "fail"} == failed
    assert outcome["sampling rate"] == outcome["rows a step"] == "not observable"
    assert "no canary could be planted" in (tmp_path / "found/index.html").read_text()
    assert "noise at most" not in call("verify", *words).out


def test_noise_of_another_library_is_no_slip(tmp_path: Path) -> None:
    """What cannot be watched is refused, and not taken for a training without noise."""
    with pytest.raises(UsageError, match="something changed after it"):
        trained(tmp_path, noise_of_its_own)


def test_noise_that_opacus_adds_is_never_taken_for_none(tmp_path: Path) -> None:
    """The inner optimizer of a private one, attached by mistake."""
    from opacus import PrivacyEngine

    model = nn.Sequential(nn.Linear(WIDTH, 2))
    data, watch = dpaudit.observe(rows(0), model, axes=40, key=tmp_path / "k", seen=tmp_path / "s")
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapped, optimizer, loader = PrivacyEngine().make_private(
        module=model,
        optimizer=inner,
        data_loader=DataLoader(data, batch_size=BATCH),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    watch.attach(inner)
    x, y = next(iter(loader))
    nn.functional.cross_entropy(wrapped(x), y).backward()
    with pytest.raises(UsageError, match="something changed after it"):
        optimizer.step()
