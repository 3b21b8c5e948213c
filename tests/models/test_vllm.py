"""A real vLLM engine on the embedded model and an adapter: `make test-vllm`, minutes on two cores."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
QUESTIONS = [f"What helps a patient with complaint number {number}?" for number in range(24)]
TOKENS = 24


def answers(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def typed(*words: object) -> None:
    """In a process of its own: tests switch off the compiler that the engine wants."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHDYNAMO")}
    command = [sys.executable, "-m", "dpaudit", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_vllm_answers_as_transformers_does(tmp_path: Path) -> None:
    """Greedy answers agree on most tokens: sums are made in another order, and one other token changes all
    that follow.
    """
    pytest.importorskip("vllm", reason="vLLM is not in this environment: make test-vllm")
    from dpaudit.models.hf import resolve
    from dpaudit.models.tokenizers import load_tokenizer

    judge = Path(resolve("builtin:tiny")).parent / "judge"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in QUESTIONS))
    tokenizer, shares = load_tokenizer("builtin:tiny"), {}
    for name, who in {
        "base": ("--model", "builtin:tiny"),
        "adapter": ("--adapter", str(judge), "--base", "builtin:tiny"),
    }.items():
        found = {}
        for backend in ("hf", "vllm"):
            file = tmp_path / f"{name}-{backend}.jsonl"
            typed("generate", prompts, *who, "--backend", backend, "--out", file, "--max-new-tokens", TOKENS)
            found[backend] = [tokenizer(row["answer"])["input_ids"] for row in answers(file)]
        pairs = list(zip(found["hf"], found["vllm"], strict=True))
        same = sum(sum(a == b for a, b in zip(one, other, strict=False)) for one, other in pairs)
        shares[name] = same / sum(max(len(one), len(other)) for one, other in pairs)
        assert found["vllm"] != [[]] * len(pairs)
    assert min(shares.values()) >= 0.8, shares
    base, adapter = (answers(tmp_path / f"{name}-vllm.jsonl") for name in ("base", "adapter"))
    assert [row["answer"] for row in base] != [row["answer"] for row in adapter]
