"""A small training with Opacus, as somebody else would write it, with three lines of `dpaudit.observe`."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dpaudit
from dpaudit.observing import keys, record
from dpaudit.observing.keys import ObservedKey
from dpaudit.observing.record import Record
from dpaudit.privacy.mechanism import Mechanism

ROWS, BATCH, EPOCHS, WIDTH, HIDDEN = 1050, 64, 3, 32, 64
SIGMA = {4.0: 0.871, 8.0: 0.65}  # what 57 steps at a rate of 1/19 need at delta 1e-5


@dataclass
class Training:
    """One training. Hooks change it as a slip of a programmer would."""

    folder: Path
    sigma: float = SIGMA[8.0]
    axes: int = 300
    seed: int = 1
    epochs: int = EPOCHS
    observed: bool = True
    private: dict[str, Any] = field(default_factory=dict)  # further arguments of make_private
    rows: Any = None
    loader: Callable[[Any], DataLoader[Any]] = lambda data: DataLoader(data, batch_size=BATCH)
    trainable: Callable[[nn.Module], Any] = lambda model: model.parameters()
    after: Callable[[Any, Any], None] = lambda optimizer, accountant: None  # make_private and attach
    batch: Callable[[Any, Any], tuple[Any, Any]] = lambda x, y: (x, y)
    step: Callable[[Any], None] = lambda optimizer: optimizer.step()
    physical: int | None = None  # rows of a physical batch
    save: bool = True

    def run(self) -> nn.Module:
        from opacus import PrivacyEngine
        from opacus.utils.batch_memory_manager import BatchMemoryManager

        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(self.seed)
            data: Any = rows(self.seed) if self.rows is None else self.rows
            model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2))
            watch = None
            if self.observed:
                data, watch = dpaudit.observe(
                    data,
                    model,
                    axes=self.axes,
                    key=self.key_file,
                    seen=self.seen_file,
                    insecure_seed=self.seed,
                )
            optimizer: Any = torch.optim.SGD(self.trainable(model), lr=0.01)
            engine = PrivacyEngine()
            wrapped, optimizer, loader = engine.make_private(
                module=model,
                optimizer=optimizer,
                data_loader=self.loader(data),
                noise_multiplier=self.sigma,
                **{"max_grad_norm": 1.0, **self.private},
            )
            if watch is not None:
                watch.attach(optimizer)
            self.after(optimizer, engine.accountant)
            if self.physical:
                with BatchMemoryManager(
                    data_loader=loader, max_physical_batch_size=self.physical, optimizer=optimizer
                ) as parts:
                    self._loop(wrapped, optimizer, parts)
            else:
                self._loop(wrapped, optimizer, loader)
            if watch is not None and self.save:
                watch.save()
        return model

    def _loop(self, model: Any, optimizer: Any, loader: Any) -> None:
        for _ in range(self.epochs):
            for x, y in loader:
                x, y = self.batch(x, y)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                self.step(optimizer)

    @property
    def key_file(self) -> Path:
        return self.folder / "audit-key.json"

    @property
    def seen_file(self) -> Path:
        return self.folder / "seen.npz"

    def seen(self) -> tuple[Record, ObservedKey]:
        return record.load(self.seen_file), keys.load(self.key_file)

    def claimed(self, seen: Record, sigma: float | None = None) -> Mechanism:
        """What a claim would say of it: the rate of Opacus is one over the number of batches."""
        batches = -(-(seen.about.rows + seen.about.included) // BATCH)
        return Mechanism(self.sigma if sigma is None else sigma, 1 / batches, EPOCHS * batches, 1.0)


def rows(seed: int, width: int = WIDTH) -> TensorDataset:
    """Rows of noise with random labels, drawn apart from the generator of the training."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(ROWS, width)).astype(np.float32)
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(generator.integers(0, 2, ROWS)))


def rows_alike(seed: int) -> TensorDataset:
    """Rows of one label that differ little: their gradients point the same way, step after step."""
    x, labels = rows(seed).tensors
    return TensorDataset(x + 3, torch.zeros_like(labels))
