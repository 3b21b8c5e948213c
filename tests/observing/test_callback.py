"""What the callback records of somebody's Trainer."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpaudit.errors import UsageError
from dpaudit.stages import verify_facts


def trained_under_the_callback(
    toy_model_dir: Path, tmp_path: Path, file: Path, rows: int = 24, **more: Any
) -> None:
    """Somebody's Trainer over that many rows, two a forward pass."""
    import peft
    import torch
    import transformers

    from dpaudit.observing.trainers import ConformanceCallback

    base = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules="all-linear"))
    data = [
        {"input_ids": [5, 6, 7, i], "labels": [5, 6, 7, i], "attention_mask": [1] * 4} for i in range(rows)
    ]
    arguments = transformers.TrainingArguments(
        str(tmp_path / "t"),
        per_device_train_batch_size=2,
        num_train_epochs=1,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        learning_rate=1e-2,
        disable_tqdm=True,
        **more,
    )
    with torch.random.fork_rng():
        transformers.Trainer(
            model, arguments, train_dataset=data, callbacks=[ConformanceCallback(file)]
        ).train()


def test_the_callback_counts_the_rows_of_a_step_and_not_of_a_forward_pass(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    """A Poisson batch in parts of one size is no batch of one size."""
    file = tmp_path / "seen.json"
    trained_under_the_callback(toy_model_dir, tmp_path, file, gradient_accumulation_steps=4)
    found = {row["check"]: row for row in json.loads(file.read_text())["checks"]}
    assert found["batches as Poisson sampling gives them"]["seen"] == "8 rows × 3"


def test_the_callback_fails_before_training_where_it_cannot_write(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        trained_under_the_callback(toy_model_dir, tmp_path, tmp_path / "file" / "seen.json")


def test_the_callback_records_a_stranger(toy_model_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "seen.json"
    trained_under_the_callback(toy_model_dir, tmp_path, file)
    found = {row["check"]: row for row in json.loads(file.read_text())["checks"]}
    assert found["steps"]["result"] == "pass" and found["steps"]["seen"].startswith("12 ")
    assert found["every trainable tensor moved"]["result"] == "pass"
    assert found["batches as Poisson sampling gives them"]["result"] == "fail"
    assert found["noise"]["result"] == "not observable"
    assert verify_facts.recorded(file) is not None
    with pytest.raises(UsageError, match="conformance"):
        verify_facts.recorded(tmp_path / "none.json")
