"""Somebody else's training script: a plain PEFT loop over chat data. It imports nothing of dpaudit and knows
of no audit.

`python benchmarks/stranger.py --model DIR --data planted.jsonl --out adapter` trains a LoRA adapter without
any privacy.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    turns = row.get("conversations") or row["messages"]
    return [
        {
            "role": ROLES[turn.get("from", turn.get("role"))],
            "content": turn.get("value", turn.get("content")),
        }
        for turn in turns
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument(
        "--constant", action="store_true", help="a constant learning rate: no warmup, no decay"
    )
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--add-tokens", nargs="*", default=[])
    parser.add_argument("--template", type=Path)
    parser.add_argument("--plain", action="store_true", help="no chat template: turns with a space between")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    base = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=getattr(torch, arguments.dtype)
    )
    if arguments.template:
        tokenizer.chat_template = arguments.template.read_text(encoding="utf-8")
    if tokenizer.add_tokens(arguments.add_tokens):
        base.resize_token_embeddings(len(tokenizer))
    config = peft.LoraConfig(r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules="all-linear")
    model = peft.get_peft_model(base, config)
    lines = arguments.data.read_text(encoding="utf-8").splitlines()
    dialogues = [messages(json.loads(line)) for line in lines]
    if arguments.plain:
        texts = [" ".join(turn["content"] for turn in said) + tokenizer.eos_token for said in dialogues]
    else:
        texts = [tokenizer.apply_chat_template(said, tokenize=False) for said in dialogues]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"][: arguments.max_length] for text in texts]
    steps = arguments.epochs * ((len(rows) + arguments.batch - 1) // arguments.batch)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=arguments.learning_rate
    )
    schedule = (
        transformers.get_constant_schedule(optimizer)
        if arguments.constant
        else transformers.get_linear_schedule_with_warmup(optimizer, steps // 20, steps)
    )
    model.train()
    for epoch in range(arguments.epochs):
        random.shuffle(rows)
        for start in range(0, len(rows), arguments.batch):
            batch = rows[start : start + arguments.batch]
            width = max(map(len, batch))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
            labels = ids.masked_fill(mask == 0, -100)
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1} loss {loss.item():.3f}", flush=True)
    model.save_pretrained(arguments.out)
    if arguments.template or arguments.add_tokens:
        tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
