"""Opacus in two processes on gloo, with its own DPDDP."""

import os
import socket
from typing import Any

import common
import torch
from common import Work

PROCESSES = 2


def one(rank: int, work: Work, rows: list[Any]) -> None:
    from opacus import PrivacyEngine
    from opacus.distributed import DifferentiallyPrivateDistributedDataParallel

    import dpaudit

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    model = common.lora()
    data, watch = dpaudit.observe(rows, model, axes=300, key=work.key, seen=work.seen)
    private, optimizer, loader = PrivacyEngine().make_private_with_epsilon(
        module=DifferentiallyPrivateDistributedDataParallel(model.train()),
        optimizer=torch.optim.AdamW(common.weights(model), lr=1e-3),
        data_loader=torch.utils.data.DataLoader(data, batch_size=common.BATCH, collate_fn=common.collate),
        target_epsilon=common.EPSILON,
        target_delta=common.DELTA,
        epochs=common.EPOCHS,
        max_grad_norm=common.CLIP,
    )
    watch.attach(optimizer)
    common.loop(private, optimizer, loader, common.EPOCHS)
    watch.save()
    if rank == 0:
        model.save_pretrained(work.adapter)
        claimed = common.mechanism(optimizer.noise_multiplier, len(loader))
        (work.folder / "claimed").write_text(claimed)
    torch.distributed.destroy_process_group()


def trained(work: Work) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    torch.multiprocessing.spawn(one, (work, common.planted(work)), nprocs=PROCESSES)
    claimed = (work.folder / "claimed").read_text()
    return {"inside": common.inside(work, claimed), "outside": common.outside(work)}


def main() -> None:
    common.main("Opacus, DDP on 2 gloo ranks", trained)


if __name__ == "__main__":
    main()
