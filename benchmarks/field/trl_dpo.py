"""TRL's DPOTrainer with an optimizer and a loader of Opacus: chosen and rejected answers are stacked as two
rows.
"""

import json
from pathlib import Path
from typing import Any

import common
import torch
from common import Work

ROWS, CHARACTERS = 600, 150


def trained(work: Work) -> dict[str, Any]:
    import datasets
    import peft
    import transformers
    import trl
    from opacus import PrivacyEngine

    import dpaudit
    from dpaudit.models.hf import resolve

    class Private(trl.DPOTrainer):  # type: ignore[misc, name-defined]
        def get_train_dataloader(self) -> Any:
            return self.loader

        def training_step(self, *given: Any, **named: Any) -> Any:
            self.optimizer.zero_grad()
            return super().training_step(*given, **named)

    torch.manual_seed(0)
    base = resolve("builtin:tiny")
    trainer = Private(
        model=transformers.AutoModelForCausalLM.from_pretrained(base),
        args=trl.DPOConfig(
            str(work.folder / "out"),
            per_device_train_batch_size=common.BATCH,
            num_train_epochs=common.EPOCHS,
            max_grad_norm=0.0,  # Opacus clips
            max_length=common.LENGTH,
            gradient_checkpointing=False,  # else hooks of Opacus see no gradient of a row
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(pairs_of(work.pairs)),
        processing_class=transformers.AutoTokenizer.from_pretrained(base),
        peft_config=peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    model = trainer.model
    data, watch = dpaudit.observe(trainer.train_dataset, model, axes=300, key=work.key, seen=work.seen)
    loader = torch.utils.data.DataLoader(data, batch_size=common.BATCH, collate_fn=trainer.data_collator)
    _, trainer.optimizer, trainer.loader = PrivacyEngine().make_private_with_epsilon(
        module=model.train(),
        optimizer=torch.optim.AdamW(common.weights(model), lr=1e-3),
        data_loader=loader,
        target_epsilon=common.EPSILON,
        target_delta=common.DELTA,
        epochs=common.EPOCHS,
        max_grad_norm=common.CLIP,
        wrap_model=False,
    )
    claimed = common.mechanism(trainer.optimizer.noise_multiplier, len(trainer.loader))
    watch.attach(trainer.optimizer)
    trainer.train()
    watch.save()
    return {"inside": common.inside(work, claimed), "outside": None}


def pairs_of(file: Path) -> list[dict[str, str]]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:ROWS]]
    return [{key: row[key][:CHARACTERS] for key in ("prompt", "chosen", "rejected")} for row in rows]


def main() -> None:
    common.main("TRL DPOTrainer with Opacus", trained)


if __name__ == "__main__":
    main()
