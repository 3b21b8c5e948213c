"""Correct trainings with Opacus, observed and verified: how often a true claim is refuted.

    python benchmarks/observe_correct.py --data meqsum.jsonl --out benchmarks/results/observe_correct.json

LoRA on the embedded model, as docs/howto/audit-your-opacus-run.md does it, at claims 1, 4 and 8; seeds are
fixed beforehand and none is chosen. At an error of 5 % each, more than 3 refutations in 20 come with a chance
of 1.6 %. Trainings are independent, so several processes may take a part each: `--seeds 0 1 2`; what --out
holds of other seeds is kept. A training takes about ten seconds on an idle core. `--noise 0.5` adds half of
the noise behind the accountant's back: then as many as can are to be refuted.
"""

import argparse
import fcntl
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader

import dpaudit
from dpaudit.models.hf import resolve

CLAIMS, SEEDS, EPOCHS, BATCH, LENGTH, AXES, DELTA = (1, 4, 8), range(20), 2, 32, 48, 300, 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--noise", type=float, default=1.0, help="that is really added, over the claimed")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = tokenized(given.data)
    for seed in given.seeds:
        for epsilon in CLAIMS:
            with tempfile.TemporaryDirectory() as folder:
                found = {
                    "seed": seed,
                    "epsilon": epsilon,
                    **verified(rows, epsilon, seed, given.noise, Path(folder)),
                }
            print(found, flush=True)
            keep(given.out, found)


def tokenized(data: Path) -> list[Tensor]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve("builtin:tiny"))
    lines = [json.loads(line)["conversations"] for line in data.read_text(encoding="utf-8").splitlines()]
    texts = [" ".join(turn["value"] for turn in said) for said in lines]
    return [torch.tensor(tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]) for text in texts]


def collate(batch: list[Tensor]) -> dict[str, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
    return {"input_ids": ids.clamp(min=0), "labels": ids, "attention_mask": (ids >= 0).long()}


def verified(rows: list[Tensor], epsilon: int, seed: int, noise: float, folder: Path) -> dict[str, Any]:
    """One training with the noise that Opacus finds for the claim, and what verify says of it."""
    import opacus
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(resolve("builtin:tiny"))
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, target_modules="all-linear")).train()
    data, watch = dpaudit.observe(
        rows, model, axes=AXES, key=folder / "key.json", seen=folder / "seen.npz", insecure_seed=seed
    )
    private, optimizer, loader = opacus.PrivacyEngine().make_private_with_epsilon(
        module=model,
        optimizer=torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3),
        data_loader=DataLoader(data, batch_size=BATCH, collate_fn=collate),
        target_epsilon=epsilon,
        target_delta=DELTA,
        epochs=EPOCHS,
        max_grad_norm=0.5,
    )
    sigma, steps = optimizer.noise_multiplier, EPOCHS * len(loader)
    watch.attach(optimizer)
    add_noise = optimizer.add_noise

    def add_a_part() -> None:
        optimizer.noise_multiplier = sigma * noise
        add_noise()
        optimizer.noise_multiplier = sigma

    optimizer.add_noise = add_a_part
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            private(**batch).loss.backward()
            optimizer.step()
    found = dpaudit.verify_observed(
        observed=watch.save(),
        key=folder / "key.json",
        claims=[f"eps={epsilon},delta={DELTA},unit=record,relation=add_or_remove"],
        mechanism=f"sigma={sigma},rate=1/{len(loader)},steps={steps}",
        out=folder / "verification",
    )
    (answer,), (inside,) = found.answers, found.inside
    tested = inside.mechanism_test
    return {
        "verdict": answer.verdict,
        "p_value": tested and tested.p_value,
        "power_halved": inside.power_halved,
        "mixed": found.watched.mixed,
        "failed": [check.name for check in inside.conformance if check.outcome == "fail"],
    }


def keep(out: Path, found: dict[str, Any]) -> None:
    """Adds one training to the result, under a lock, and counts again."""
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = json.loads(out.read_text(encoding="utf-8"))["trainings"] if out.is_file() else []
        place = (found["seed"], found["epsilon"])
        others = [one for one in known if (one["seed"], one["epsilon"]) != place]
        trainings = sorted([*others, found], key=lambda one: (one["epsilon"], one["seed"]))
        told = {
            str(epsilon): counted([t for t in trainings if t["epsilon"] == epsilon]) for epsilon in CLAIMS
        }
        out.write_text(json.dumps({"claims": told, "trainings": trainings}, indent=1) + "\n")


def counted(trainings: list[dict[str, Any]]) -> dict[str, Any]:
    p_values = [one["p_value"] for one in trainings if one["p_value"] is not None]
    return {
        "trainings": len(trainings),
        "refuted": sum(one["verdict"] == "refuted" for one in trainings),
        "mechanism_test_at_most_05": sum(p <= 0.05 for p in p_values),
        "mean_p_value": sum(p_values) / len(p_values) if p_values else None,
        "kolmogorov_smirnov_p": float(stats.kstest(p_values, "uniform").pvalue) if p_values else None,
    }


if __name__ == "__main__":
    main()
