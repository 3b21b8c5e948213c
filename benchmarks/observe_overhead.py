"""What `dpaudit.observe` with 300 axes adds to a step of Opacus: processor time, in rounds that take turns.

Both trainings of a round have the same model, rows and sampler; one of them is watched. So the extra rows of
canaries are in neither figure: they are rows of the batch like others. Beside it `own`: the time within the
watch's own functions over the rest of a step, which a busy machine moves less than the difference of two.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import dpaudit
from dpaudit.models.hf import resolve
from dpaudit.observing.others import Others
from dpaudit.observing.watch import Watch

ROWS, BATCH, LENGTH, AXES, STEPS = 731, 32, 64, 300, 20


OWN = ((Watch, "_put"), (Watch, "_released"), (Others, "_in_short"), (Others, "_along"))  # none calls another


@contextmanager
def timed(spent: list[float]) -> Iterator[None]:
    """Adds the seconds within OWN to the first number of `spent`."""
    kept = [(owner, name, getattr(owner, name)) for owner, name in OWN]

    def of(work: Any) -> Any:
        def clocked(*given: Any) -> Any:
            start = time.process_time()
            done = work(*given)
            spent[0] += time.process_time() - start
            return done

        return clocked

    for owner, name, work in kept:
        setattr(owner, name, of(work))
    try:
        yield
    finally:
        for owner, name, work in kept:
            setattr(owner, name, work)


def training(folder: Path, watched: bool) -> tuple[float, float]:
    """Seconds of the processor for a step, and the share within the watch: medians of STEPS."""
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
    took, shares, spent = [], [], [0.0]
    with timed(spent):
        if watched:
            watch.attach(optimizer)
        for _, ids in zip(range(STEPS), loader, strict=False):
            spent[0], start = 0.0, time.process_time()
            optimizer.zero_grad()
            private(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            step = time.process_time() - start
            took.append(step / len(ids))
            shares.append(spent[0] / (step - spent[0]))
    return statistics.median(took) * BATCH, statistics.median(shares)


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
                seconds, own = training(Path(folder), watched)
                found |= {"observed": seconds, "own": own} if watched else {"alone": seconds}
        rounds.append(found)
        print(found, flush=True)
    ratio = statistics.median(found["observed"] / found["alone"] for found in rounds)
    own = statistics.median(found["own"] for found in rounds)
    result = {
        "axes": AXES,
        "batch": BATCH,
        "length": LENGTH,
        "steps": STEPS,
        "ratio": ratio,
        "own": own,
        "rounds": rounds,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
