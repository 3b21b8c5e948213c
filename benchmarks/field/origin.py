"""A loop in the manner of the first origin system: a noise multiplier is computed and a claim printed, while
AdamW trains as ever.
"""

import math
from typing import Any

import common
import torch
from common import Work


class Engine:
    """Has a step that would clip and add noise. The loop never calls it."""

    def __init__(self, epsilon: float, delta: float, clip: float) -> None:
        self.clip, self.epsilon_spent = clip, 0.0
        self.noise_multiplier = math.sqrt(2 * math.log(1.25 / delta)) / epsilon

    def step(self, model: Any) -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        for weight in common.weights(model):
            weight.grad += self.noise_multiplier * self.clip * torch.randn_like(weight)


def trained(work: Work) -> dict[str, Any]:
    import dpaudit

    model, rows = common.lora(), common.planted(work)
    data, watch = dpaudit.observe(rows, model, axes=300, key=work.key, seen=work.seen)
    engine = Engine(common.EPSILON, common.DELTA, common.CLIP)
    optimizer = torch.optim.AdamW(common.weights(model.train()), lr=3e-3)
    loader = torch.utils.data.DataLoader(
        data, batch_size=common.BATCH, shuffle=True, collate_fn=common.collate
    )
    watch.attach(optimizer)
    common.loop(model, optimizer, loader, common.EPOCHS)
    watch.save()
    model.save_pretrained(work.adapter)
    claimed = common.mechanism(engine.noise_multiplier, len(loader))
    return {"inside": common.inside(work, claimed), "outside": common.outside(work)}


def main() -> None:
    common.main("the first origin system's loop", trained)


if __name__ == "__main__":
    main()
