"""What `dpaudit.observe` with 300 axes adds to a step of Opacus: processor time, in rounds that take turns.

Both trainings of a round have the same model, rows and sampler; one of them is watched. So the extra rows of
canaries are in neither figure: they are rows of the batch like others.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import dpaudit
from dpaudit.models.hf import resolve

ROWS, BATCH, LENGTH, AXES, STEPS = 731, 32, 64, 300, 12


def training(folder: Path, watched: bool) -> float:
    """Seconds of the processor for a step, the median of STEPS."""
    import peft
    from opacus import PrivacyEngine
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(resolve("builtin:tiny"))
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, target_modules="all-linear")).train()
    rows = list(torch.randint(0, 200, (ROWS, LENGTH)))
    data, watch = dpaudit.observe(
        rows, model, axes=AXES, key=folder / "key.json", seen=folder / "seen.npz", insecure_seed=0
    )
    private, optimizer, loader = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3),
        data_loader=DataLoader(data, batch_size=BATCH),
        noise_multiplier=0.6,
        max_grad_norm=0.5,
    )
    if watched:
        watch.attach(optimizer)
    took = []
    for _, ids in zip(range(STEPS), loader, strict=False):
        start = time.process_time()
        optimizer.zero_grad()
        private(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        took.append((time.process_time() - start) / len(ids))
    return statistics.median(took) * BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rounds: list[dict[str, Any]] = []
    for number in range(given.rounds):
        found: dict[str, Any] = {}
        for watched in (False, True) if number % 2 else (True, False):
            with tempfile.TemporaryDirectory() as folder:
                found["observed" if watched else "alone"] = training(Path(folder), watched)
        rounds.append(found)
        print(found, flush=True)
    ratio = statistics.median(found["observed"] / found["alone"] for found in rounds)
    result = {
        "axes": AXES,
        "batch": BATCH,
        "length": LENGTH,
        "steps": STEPS,
        "ratio": ratio,
        "rounds": rounds,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
