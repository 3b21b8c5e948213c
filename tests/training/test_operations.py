"""How many operations a step dispatches, on a processor: what a GPU would launch one by one.

Bars: the same kernel at most PEFT's number, the private step at most PEFT's and at most 1.25 times the same
kernel's.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds

from dpaudit.models.fused import trainable
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import axes, dpsgd, engine, examples

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WAITS = "aten._local_scalar_dense.default"


@pytest.fixture(scope="module")
def operations() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import operations
        import train_step

        patch.setitem(train_step.SIZES["5M"], "num_hidden_layers", 3)
        patch.setitem(train_step.BATCH, "5M", (4, 12))
        yield operations


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("unit", ["record", "pair"])
def test_a_private_step_dispatches_no_more_than_plain_peft(
    unit: str, checkpointing: bool, operations: Any
) -> None:
    found = {name: operations.counted(name, "5M", unit, checkpointing) for name in ("dp", "same", "peft")}
    for kind in ("operations", "kernels"):
        private, same, plain = (found[name][kind] for name in ("dp", "same", "peft"))
        assert same <= plain
        assert private <= plain
        assert private <= 1.25 * same


@pytest.mark.parametrize("mechanism", [Mechanism(0.0, 0.5, 1, float("inf")), Mechanism(0.8, 0.5, 1, 0.5)])
@pytest.mark.parametrize("passes", [1, 4])
def test_a_step_waits_for_the_device_once(
    mechanism: Mechanism, passes: int, operations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is told of a step is one list. Beside it transformers looks once a pass whether rows are
    packed.
    """
    read, tolist = list[int](), torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: read.append(1) or tolist(tensor))
    model = worlds.lora_model().train()
    along = axes.spread(trainable(model), np.ones(20, dtype=bool)) if mechanism.noise_multiplier else None
    objective, schedule = examples.Objective(), Schedule(8, 1, 0.01)
    stepping = engine.Engine(model, schedule, mechanism, objective, 8 // passes, axes=along)
    noise = dpsgd.noise_generator(torch.device("cpu"), 1)
    stepping.step(0, worlds.record_units(8), noise)
    read.clear()
    with operations.Counted() as seen:
        stepping.step(1, worlds.record_units(8), noise)
    assert len(read) == 1
    assert seen.operations[WAITS] == passes
