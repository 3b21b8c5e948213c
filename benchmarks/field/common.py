"""What the trainers of the field share: planted rows, the embedded model with LoRA, both looks at a claim.

Each script beside this one trains as its manual says, three lines of `dpaudit.observe` aside, on the rows of
one file with canaries of `dpaudit plant` among them, and claims epsilon 8. `make field` runs them all.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import dpaudit
from dpaudit.models.hf import resolve

EPSILON, DELTA, EPOCHS, BATCH, CLIP, LENGTH = 8.0, 1e-5, 3, 32, 0.5, 64
CLAIM = f"eps={EPSILON:g},delta={DELTA:g},unit=record,relation=add_or_remove"
PLANT = ("--canaries", "100", "--family", "words")
LIBRARIES = ("torch", "transformers", "peft", "opacus", "trl")


@dataclass(frozen=True)
class Work:
    """Where one trainer works, and on what."""

    folder: Path
    data: Path
    pairs: Path

    @property
    def key(self) -> Path:
        return self.folder / "observed-key.json"

    @property
    def seen(self) -> Path:
        return self.folder / "seen.npz"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"


def planted(work: Work) -> list[dict[str, list[int]]]:
    """Rows of `data` with canaries of text among them, as token numbers."""
    from transformers import AutoTokenizer

    out, key = work.folder / "planted.jsonl", work.folder / "audit-key.json"
    command("plant", str(work.data), "--out", str(out), "--key", str(key), *PLANT)
    tokenizer = AutoTokenizer.from_pretrained(resolve("builtin:tiny"))
    rows = []
    for line in out.read_text(encoding="utf-8").splitlines():
        said = [
            {"role": "user" if turn["from"] in ("human", "user") else "assistant", "content": turn["value"]}
            for turn in json.loads(line)["conversations"]
        ]
        text = tokenizer.apply_chat_template(said, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][-LENGTH:]
        rows.append({"input_ids": ids, "labels": ids, "attention_mask": [1] * len(ids)})
    return rows


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    def padded(name: str, value: int) -> torch.Tensor:
        tensors = [torch.tensor(row[name]) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)

    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100)} | {
        "attention_mask": padded("attention_mask", 0)
    }


def lora(seed: int = 0) -> Any:
    """The embedded model with LoRA on every linear layer."""
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(resolve("builtin:tiny"))
    settings = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(base, settings)


def weights(model: Any) -> list[Any]:
    return [p for p in model.parameters() if p.requires_grad]


def loop(model: Any, optimizer: Any, loader: Any, epochs: int = 1) -> None:
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()


def mechanism(noise_multiplier: float, batches: int) -> str:
    return f"sigma={noise_multiplier},rate=1/{batches},steps={EPOCHS * batches}"


def inside(work: Work, claimed: str) -> dict[str, Any]:
    """What `verify --observed` says."""
    found = dpaudit.verify_observed(
        observed=work.seen, key=work.key, claims=[CLAIM], mechanism=claimed, out=work.folder / "inside"
    )
    answer, look = found.answers[0], found.inside[0]
    tested = look.canaries > 0
    return {
        "verdict": answer.verdict,
        "reason": answer.reason,
        "failed": [check.name for check in look.failed],
        "p_value": look.mechanism_test.p_value if tested else None,
        "power_halved": look.power_halved if tested else None,
        "steps": found.watched.steps,
        "mechanism": claimed,
    }


def outside(work: Work) -> dict[str, Any]:
    """What `verify --adapter` says of the finished adapter, by the planted canaries."""
    words = ["--adapter", str(work.adapter), "--key", str(work.folder / "audit-key.json")]
    words += ["--data", str(work.folder / "planted.jsonl"), "--claim", CLAIM]
    answer = json.loads(command("verify", *words, "--out", str(work.folder / "outside"), "--json"))[
        "answers"
    ][0]
    return {"verdict": answer["verdict"], "reason": answer["reason"]}


def command(*words: str) -> str:
    """What a command of dpaudit prints; it may end with a verdict."""
    import subprocess

    done = subprocess.run([sys.executable, "-m", "dpaudit", *words], capture_output=True, text=True)
    if done.returncode not in (0, 1, 4):
        raise SystemExit(f"dpaudit {words[0]}: {done.stderr.strip()}")
    return done.stdout


def main(name: str, trained: Callable[[Work], dict[str, Any]]) -> None:
    """Trains once and puts what was found under `name` into the results."""
    parser = argparse.ArgumentParser(description=name)
    parser.add_argument("--data", type=Path, required=True, help="dialogues, a JSON a line")
    parser.add_argument("--pairs", type=Path, required=True, help="preference pairs, a JSON a line")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--out", type=Path, required=True, help="JSON of all results")
    given = parser.parse_args()
    given.work.mkdir(parents=True)
    found = trained(Work(given.work, given.data, given.pairs))
    known = json.loads(given.out.read_text()) if given.out.exists() else {}
    entry = {"claim": CLAIM, "versions": {lib: version(lib) for lib in LIBRARIES}, **found}
    known[name] = entry
    given.out.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    print(name, found)
