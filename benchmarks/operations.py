"""How many operations one training step dispatches: a GPU launches them, and Python pays for each.

    python benchmarks/operations.py --out benchmarks/results/operations.json

The variants and models are those of `train_step`. The numbers hang on the number of layers and hardly on
anything else, so that they are the same on any machine. `operations` counts all of a step, forward, backward,
clip, noise and AdamW; `kernels` leaves out views and allocations, which compute nothing. Opacus' hooks fail
under gradient checkpointing: no count there.
"""

import argparse
import itertools
import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import train_step
from torch.utils._python_dispatch import TorchDispatchMode

ALLOCATIONS = ("aten.empty", "aten.new_empty", "aten._unsafe_view", "aten._local_scalar_dense", "aten.lift")


class Counted(TorchDispatchMode):
    """Counts what is dispatched inside the block, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        self.operations[name] += 1
        if not function.is_view and not name.startswith(ALLOCATIONS):
            self.kernels[name] += 1
        return function(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["5M", "60M"], choices=train_step.SIZES)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for size, unit, checkpointing in itertools.product(arguments.sizes, ("record", "pair"), (False, True)):
        counts = {
            name: counted(name, size, unit, checkpointing)
            for name in train_step.VARIANTS
            if not (name == "opacus" and checkpointing)
        }
        layers = train_step.SIZES[size]["num_hidden_layers"]
        told = {"model": size, "layers": layers, "unit": unit, "checkpointing": checkpointing}
        rows.append(told | counts)
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        versions = {name: version(name) for name in ("torch", "transformers", "peft", "opacus")}
        found = {"versions": versions, "results": rows}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def counted(name: str, size: str, unit: str, checkpointing: bool) -> dict[str, int]:
    """All operations of a step, and its kernels, once the optimizer has its state."""
    settings = argparse.Namespace(sizes=[size], units=[unit], dtype="float32", checkpointing=checkpointing)
    step = train_step.step_of(name, settings)
    step()
    with Counted() as seen:
        step()
    return {"operations": seen.operations.total(), "kernels": seen.kernels.total()}


if __name__ == "__main__":
    main()
