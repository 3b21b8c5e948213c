"""A real vLLM engine on the embedded model and an adapter: `make test-vllm`, minutes on two cores."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpaudit.stages import generate
from dpaudit.system.progress import Progress

pytestmark = pytest.mark.slow
QUESTIONS = [f"What helps a patient with complaint number {number}?" for number in range(24)]
TOKENS = 24


def answers(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


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
        "base": generate.of_model(None, "builtin:tiny", None),
        "adapter": generate.of_model(judge, None, "builtin:tiny"),
    }.items():
        found = {}
        for backend in generate.BACKENDS:
            file = tmp_path / f"{name}-{backend}.jsonl"
            generate.run(prompts, who, file, generate.way("greedy", TOKENS, 0, backend), Progress(quiet=True))
            found[backend] = [tokenizer(row["answer"])["input_ids"] for row in answers(file)]
        pairs = list(zip(found["hf"], found["vllm"], strict=True))
        same = sum(sum(a == b for a, b in zip(one, other, strict=False)) for one, other in pairs)
        shares[name] = same / sum(max(len(one), len(other)) for one, other in pairs)
        assert found["vllm"] != [[]] * len(pairs)
    assert min(shares.values()) >= 0.8, shares
    base, adapter = (answers(tmp_path / f"{name}-vllm.jsonl") for name in ("base", "adapter"))
    assert [row["answer"] for row in base] != [row["answer"] for row in adapter]
