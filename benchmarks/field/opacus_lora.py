"""Opacus on a causal model with LoRA, in the manner of its own tutorial on text."""

from typing import Any

import common
import torch
from common import Work


def trained(work: Work, physical: int | None = None) -> dict[str, Any]:
    from opacus import PrivacyEngine
    from opacus.utils.batch_memory_manager import BatchMemoryManager

    import dpaudit

    model, rows = common.lora(), common.planted(work)
    data, watch = dpaudit.observe(rows, model, axes=300, key=work.key, seen=work.seen)
    engine = PrivacyEngine()
    private, optimizer, loader = engine.make_private_with_epsilon(
        module=model.train(),
        optimizer=torch.optim.AdamW(common.weights(model), lr=1e-3),
        data_loader=torch.utils.data.DataLoader(data, batch_size=common.BATCH, collate_fn=common.collate),
        target_epsilon=common.EPSILON,
        target_delta=common.DELTA,
        epochs=common.EPOCHS,
        max_grad_norm=common.CLIP,
    )
    claimed = common.mechanism(optimizer.noise_multiplier, len(loader))
    watch.attach(optimizer)
    if physical is None:
        common.loop(private, optimizer, loader, common.EPOCHS)
    for _ in range(common.EPOCHS if physical else 0):
        with BatchMemoryManager(
            data_loader=loader, max_physical_batch_size=physical, optimizer=optimizer
        ) as parts:
            common.loop(private, optimizer, parts)
    watch.save()
    model.save_pretrained(work.adapter)
    return {"inside": common.inside(work, claimed), "outside": common.outside(work)}


def main() -> None:
    common.main("Opacus, LoRA", trained)


if __name__ == "__main__":
    main()
