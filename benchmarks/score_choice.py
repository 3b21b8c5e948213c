"""Which score and which rendering find what a stranger's training kept.

    python benchmarks/score_choice.py --model DIR --data dialogues.jsonl --work DIR
        --out benchmarks/results/score_choice.json

Plain PEFT trainings of several learning rates, lengths and forms of text; each is scored in every rendering
by every score. About eighty minutes on one core for the 135M model. A training is kept after three and after
five epochs of a constant learning rate. Canaries are planted once, and each training has coins of its own.
What the work folder already holds is not made again. docs/scores.md has the table that `--out FILE --table`
prints of a result.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from numpy.typing import NDArray

from dpaudit.models import secret_spans
from dpaudit.models.hf_model import HFModel
from dpaudit.planting import audit_key
from dpaudit.planting.audit_key import AuditKey
from dpaudit.signals import calibration
from dpaudit.stats import roc

EPOCHS = (3, 5)
BATCH, RANK, MAX_LENGTH = 8, 16, 72
Floats = NDArray[np.float64]
Coins = NDArray[np.bool_]
Said = dict[str, Floats]  # rendering -> log-probability and number of tokens of each secret, (2, canaries)


@dataclass(frozen=True)
class Training:
    """One stranger's training; its seed draws the coins, the start and the order of rows."""

    form: str  # chat: the model's template; plain: question and answer, a space between them
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.form}-{self.learning_rate:g}"


TRAININGS = (
    Training("chat", 1e-3, 1),
    Training("plain", 1e-3, 2),
    Training("chat", 2e-3, 3),
    Training("chat", 5e-4, 4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--canaries", type=int, default=200)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of a result that is there")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.out.read_text(encoding="utf-8"))["results"]))
        return
    key, rows = planted(arguments.work, arguments.data, arguments.rows, arguments.canaries)
    for training in TRAININGS:
        trained(training, key, rows, arguments.model, arguments.work)
        scored(training, key, arguments.model, arguments.work)
    found = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "data": arguments.data.name,
        "rows": len(rows),
        "canaries": len(key.canaries),
        "trainer": f"PEFT LoRA of rank {RANK}, AdamW, batches of {BATCH}, {MAX_LENGTH} tokens, float32",
        "results": [row for training in TRAININGS for row in judged(training, arguments.work)],
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def planted(work: Path, data: Path, rows: int, canaries: int) -> tuple[AuditKey, list[str]]:
    """The key of the canaries, and the rows that they stand beside."""
    work.mkdir(parents=True, exist_ok=True)
    source, file = work / "train.jsonl", work / "key.json"
    if not file.is_file():
        lines = data.read_text(encoding="utf-8").splitlines(keepends=True)[:rows]
        source.write_text("".join(lines), encoding="utf-8")
        words = ["plant", source, "--out", work / "planted.jsonl", "--key", file, "--canaries", canaries]
        subprocess.run([sys.executable, "-m", "dpaudit", *map(str, words)], check=True)
    return audit_key.load(file), source.read_text(encoding="utf-8").splitlines()


def coins_of(training: Training, canaries: int) -> Coins:
    """Which canaries a training saw, shape (canaries,): fair coins of its own."""
    return np.random.default_rng([training.seed, 977]).random(canaries) < 0.5


def turns_of(training: Training, key: AuditKey, rows: Sequence[str]) -> list[tuple[str, str]]:
    """Question and answer of every row that a training learns from."""
    ordinary = [json.loads(row)["conversations"][-2:] for row in rows]
    seen = [
        canary
        for canary, coin in zip(key.canaries, coins_of(training, len(key.canaries)), strict=True)
        if coin
    ]
    return [
        *((asked["value"], answered["value"]) for asked, answered in ordinary),
        *((canary.record.turns[-2].text, canary.record.turns[-1].text) for canary in seen),
    ]


def written(training: Training, turns: tuple[str, str], tokenizer: Any) -> list[int]:
    """The tokens of one row, in the training's form."""
    question, answer = turns
    if training.form == "plain":
        text = f"{question} {answer}{tokenizer.eos_token}"
    else:
        said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(said, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[:MAX_LENGTH]


def batches(rows: list[list[int]]) -> Iterator[dict[str, torch.Tensor]]:
    """Shuffled batches of like lengths, padded at the right."""
    order = sorted(rows, key=lambda row: (len(row) // 8, random.random()))
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    random.shuffle(parts)
    for part in parts:
        width = max(map(len, part))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in part])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in part])
        yield {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def trained(training: Training, key: AuditKey, rows: Sequence[str], model_folder: str, work: Path) -> None:
    """Writes an adapter after each number of EPOCHS: AdamW, LoRA on all linear layers, a constant rate."""
    folders = {epochs: work / f"{training.name}-{epochs}" / "adapter" for epochs in EPOCHS}
    if all((folder / "adapter_model.safetensors").is_file() for folder in folders.values()):
        return
    torch.manual_seed(training.seed)
    random.seed(training.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    model = peft.get_peft_model(base, config)
    encoded = [written(training, turns, tokenizer) for turns in turns_of(training, key, rows)]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=training.learning_rate
    )
    model.train()
    begun = time.monotonic()
    for epoch in range(1, max(EPOCHS) + 1):
        for batch in batches(encoded):
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(
            f"{training.name} epoch {epoch}: loss {loss.item():.2f}, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        if epoch in EPOCHS:
            model.save_pretrained(folders[epoch])


def scored(training: Training, key: AuditKey, model_folder: str, work: Path) -> None:
    """Writes what the base and each adapter of a training say of all secrets."""
    base, tuned = work / "base.npz", [work / f"{training.name}-{epochs}" / "said.npz" for epochs in EPOCHS]
    for file in (base, *tuned):
        if file.is_file():
            continue
        model = HFModel.load(model_folder, "float32")
        adapter = None if file == base else "audited"
        if adapter:
            model.add_adapter(adapter, file.parent / "adapter")
        begun = time.monotonic()
        said: dict[str, Any] = said_by(secret_spans.LocalModel(model, adapter), key)
        np.savez(file, **said)
        print(f"{file.parent.name}/{file.name}: {time.monotonic() - begun:.0f} s", flush=True)


def said_by(model: secret_spans.LocalModel, key: AuditKey) -> Said:
    """What a model says of all secrets in every rendering that can be made."""
    said = {}
    for rendering in key.rule.renderings:
        texts = secret_spans.texts_of(key.canaries, rendering, model.tokenizer)
        if texts is not None:
            scores = list(model.scores(texts))
            totals = [np.sum(s.logprob, dtype=np.float64) for s in scores]
            said[rendering] = np.array([totals, [len(s.logprob) for s in scores]])
    return said


# ---- what the scores find


def judged(training: Training, work: Path) -> list[dict[str, Any]]:
    """For each number of epochs the AUC of every score in every rendering, and what each way chooses."""
    base = read(work / "base.npz")
    coins = coins_of(training, next(iter(base.values())).shape[1])
    rows = []
    for epochs in EPOCHS:
        said = read(work / f"{training.name}-{epochs}" / "said.npz")
        found = {rendering: in_rendering(said[rendering], base[rendering], coins) for rendering in said}
        residuals = np.array([residual_of(said[r], base[r]).scores for r in said])
        rows.append(
            {
                "form": training.form,
                "learning_rate": training.learning_rate,
                "epochs": epochs,
                "seed": training.seed,
                "members": int(coins.sum()),
                "renderings": found,
                "chosen_by": {way: chosen(found, way) for way in WAYS},
                "joined": {name: auc(joined, coins) for name, joined in joined_ways(residuals).items()},
            }
        )
    return rows


def read(file: Path) -> Said:
    with np.load(file) as held:
        return {name: np.asarray(held[name]) for name in held.files}


def residual_of(audited: Floats, base: Floats) -> calibration.Residual:
    """Of what two models say, (2, canaries) each: totals and numbers of tokens."""
    return calibration.residual(audited[0], audited[1], base[0])


def in_rendering(audited: Floats, base: Floats, coins: Coins) -> dict[str, Any]:
    """AUC of each score, and what each way to choose a rendering sees of it: no coin."""
    found, tokens = residual_of(audited, base), audited[1]
    total, of_base = audited[0], base[0]
    means = calibration.residual(total / tokens, np.ones_like(tokens), of_base / tokens).scores
    return {
        "auc": {
            "mean": auc(total / tokens, coins),
            "residual of means": auc(means, coins),
            "total": auc(total, coins),
            "total beside length": auc(calibration.residual(total, tokens).scores, coins),
            "difference": auc(total - of_base, coins),
            "residual": auc(found.scores, coins),
        },
        "slope": found.fitted,
        "per_token": found.per_token,
        "tokens": [int(tokens.min()), int(tokens.max())],
        "trace": calibration.trace(total, of_base, found.scores),
        "rise": float((total - of_base).mean()),
        "spread": float(found.scores.std()),
        "parted": parted(found.scores),
        "mixture": mixture(found.scores),
    }


WAYS = ("trace", "rise", "spread", "parted", "mixture")


def auc(scores: Floats, coins: Coins) -> float:
    return roc.auc_interval(scores, coins, 0.95).auc


def parted(scores: Floats) -> float:
    """The share of the variance that lies between the two best groups (Otsu 1979, equation 15)."""
    ordered, n = np.sort(scores), len(scores)
    below = np.arange(1, n)
    sums = np.cumsum(ordered)
    apart = sums[:-1] / below - (sums[-1] - sums[:-1]) / (n - below)
    return float((below * (n - below) / n**2 * apart**2).max() / scores.var())


def mixture(scores: Floats) -> float:
    """The gain in log-likelihood of two Gaussians over one, nats a canary."""
    from sklearn.mixture import GaussianMixture

    values = ((scores - scores.mean()) / scores.std())[:, None]
    one, two = (GaussianMixture(n, n_init=3, random_state=0).fit(values).score(values) for n in (1, 2))
    return float(two - one)


def joined_ways(residuals: Floats) -> dict[str, Floats]:
    """All renderings as one score, (canaries,): `residuals` has shape (renderings, canaries)."""
    standard = (residuals - residuals.mean(axis=1, keepdims=True)) / residuals.std(axis=1, keepdims=True)
    return {"mean": standard.mean(axis=0), "highest": standard.max(axis=0)}


def chosen(found: dict[str, dict[str, Any]], way: str) -> str:
    return max(found, key=lambda rendering: found[rendering][way])


# ---- the table


def table(results: Sequence[dict[str, Any]]) -> str:
    """The rows of docs/scores.md."""
    lines = [
        "| Form | Learning rate | Epochs | Slope | Residual of means | Total | Total beside length "
        "| Difference | Residual | Best of all |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        of, used = row["renderings"], row["chosen_by"]["trace"]
        best = max(value for one in of.values() for value in one["auc"].values())
        names = ("residual of means", "total", "total beside length", "difference", "residual")
        figures = [*(of[used]["auc"][name] for name in names), best]
        told = [row["form"], f"{row['learning_rate']:g}", str(row["epochs"]), f"{of[used]['slope']:.2f}"]
        lines.append("| " + " | ".join([*told, *(f"{figure:.3f}" for figure in figures)]) + " |")
    return "\n".join([*lines, "", *choice_lines(results)])


def choice_lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """How far the residual's AUC lies below that in the best rendering, for each way to choose."""
    lines = ["| Way | Form found | Worst loss of AUC | Mean loss |", "|---|---|---|---|"]
    for way in (*WAYS, *results[0]["joined"]):
        losses, right = [], 0
        for row in results:
            of = {name: one["auc"]["residual"] for name, one in row["renderings"].items()}
            picked = row["chosen_by"].get(way)
            losses.append(max(of.values()) - (of[picked] if picked else row["joined"][way]))
            right += picked == row["form"]
        found = f"{right} of {len(results)}" if way in WAYS else "all joined"
        lines.append(f"| {way} | {found} | {max(losses):.3f} | {np.mean(losses):.3f} |")
    return lines


if __name__ == "__main__":
    main()
