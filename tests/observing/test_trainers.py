"""A Trainer of Hugging Face and two of TRL, private with Opacus as people do it, under `dpaudit.observe`."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dpaudit
from dpaudit.errors import UsageError
from dpaudit.observing import conformance, record
from dpaudit.observing.record import Record
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism

SIGMA, BATCH = 0.9, 12


def private(kind: type) -> type:
    """The Trainer with an optimizer and a loader of Opacus."""

    class Private(kind):  # type: ignore[misc]
        def make_private(self, folder: Path, prepared: bool = False) -> None:
            from opacus import PrivacyEngine

            data, self.watch = dpaudit.observe(
                self.train_dataset,
                self.model,
                axes=40,
                key=folder / "key.json",
                seen=folder / "seen.npz",
                insecure_seed=1,
            )
            weights = [p for p in self.model.parameters() if p.requires_grad]
            _, self.optimizer, self.loader = PrivacyEngine().make_private(
                module=self.model,
                optimizer=torch.optim.AdamW(weights, lr=1e-3),
                data_loader=torch.utils.data.DataLoader(
                    data, batch_size=BATCH, collate_fn=self.data_collator
                ),
                noise_multiplier=SIGMA,
                max_grad_norm=0.5,
                wrap_model=False,
            )
            self.watch.attach(self.optimizer)
            self.prepared = prepared

        def get_train_dataloader(self) -> Any:
            return self.accelerator.prepare(self.loader) if self.prepared else self.loader

        def training_step(self, *given: Any, **named: Any) -> Any:
            self.optimizer.zero_grad()
            return super().training_step(*given, **named)

    return Private


def settings(kind: type, folder: Path, **more: Any) -> Any:
    given = {
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    given |= {"save_strategy": "no", "logging_strategy": "no", "num_train_epochs": 1}
    return kind(str(folder / "out"), per_device_train_batch_size=BATCH, **(given | more))


def hugging_face(model_dir: Path, folder: Path, **more: Any) -> Any:
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(model_dir)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules="all-linear"))
    ids = [[5, 6, 7, 3 + i % 9] for i in range(100)]
    rows = [{"input_ids": row, "labels": row, "attention_mask": [1] * 4} for row in ids]
    return private(transformers.Trainer)(
        model,
        settings(transformers.TrainingArguments, folder, **more),
        train_dataset=rows,
        data_collator=transformers.default_data_collator,
    )


def of_trl(name: str, model_dir: Path, folder: Path, **more: Any) -> Any:
    import datasets
    import peft
    import transformers
    import trl

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    rows = [{"prompt": "fever", "chosen": "rest", "rejected": "cough", "completion": "rest"}] * 100
    wanted = ("prompt", "completion") if name == "SFT" else ("prompt", "chosen", "rejected")
    return private(getattr(trl, f"{name}Trainer"))(
        model=transformers.AutoModelForCausalLM.from_pretrained(model_dir),
        args=settings(getattr(trl, f"{name}Config"), folder, max_length=8, **more),
        train_dataset=datasets.Dataset.from_list([{key: row[key] for key in wanted} for row in rows]),
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def trained(trainer: Any, folder: Path, **private_as: Any) -> Record:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        trainer.make_private(folder, **private_as)
        trainer.train()
        trainer.watch.save()
    return record.load(folder / "seen.npz")


def failed(seen: Record, sigma: float = SIGMA) -> set[str]:
    steps = -(-(seen.about.rows + seen.about.included) // BATCH)
    claimed = Mechanism(sigma, 1 / steps, steps, 1.0)
    found = conformance.checks(seen, claimed, Claim(8, 1e-5, "record", "add_or_remove"))
    return {check.name for check in found if check.outcome == "fail"}


TRAINERS: dict[str, Callable[[Path, Path], Any]] = {
    "Trainer": hugging_face,
    "SFTTrainer": lambda model_dir, folder: of_trl("SFT", model_dir, folder),
}


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("prepared", [False, True], ids=["plain loader", "loader of accelerate"])
def test_a_correct_trainer_passes(name: str, prepared: bool, toy_model_dir: Path, tmp_path: Path) -> None:
    seen = trained(TRAINERS[name](toy_model_dir, tmp_path), tmp_path, prepared=prepared)
    assert failed(seen) == set() and seen.about.ended
    assert seen.canaries.sum() > 0 and seen.one_row.max() == pytest.approx(1.0, abs=1e-3)
    assert seen.steps == -(-(100 + seen.about.included) // BATCH)


def test_pairs_that_trl_stacks_are_clipped_as_two_rows(toy_model_dir: Path, tmp_path: Path) -> None:
    seen = trained(of_trl("DPO", toy_model_dir, tmp_path), tmp_path)
    assert failed(seen) == {"one row's part of a sum"}
    assert seen.about.sequences == 2 and seen.one_row.max() == pytest.approx(2.0, abs=1e-3)
    assert "one row's part of a sum" not in failed(seen, SIGMA / 2)  # noise for two clips


def test_worker_processes_are_refused(toy_model_dir: Path, tmp_path: Path) -> None:
    trainer = hugging_face(toy_model_dir, tmp_path)
    trainer.make_private(tmp_path)
    trainer.loader = torch.utils.data.DataLoader(
        trainer.loader.dataset, BATCH, collate_fn=trainer.data_collator, num_workers=1
    )
    with pytest.raises(UsageError, match="num_workers=0"):
        trainer.train()


def test_a_trainer_that_forgets_opacus_is_told(toy_model_dir: Path, tmp_path: Path) -> None:
    """The Trainer's own optimizer, attached by our callback."""
    import transformers

    from dpaudit.observing.trainers import WatchCallback

    trainer = hugging_face(toy_model_dir, tmp_path)
    data, watch = dpaudit.observe(
        trainer.train_dataset, trainer.model, axes=40, key=tmp_path / "key", seen=tmp_path / "seen.npz"
    )
    trainer = transformers.Trainer(
        trainer.model,
        trainer.args,
        train_dataset=data,
        data_collator=transformers.default_data_collator,
        callbacks=[WatchCallback(watch)],
    )
    with torch.random.fork_rng(devices=[]):
        trainer.train()
    seen = record.load(tmp_path / "seen.npz")
    assert not seen.planted and seen.about.ended
    assert {"every step clipped", "noise of every weight"} <= failed(seen)
