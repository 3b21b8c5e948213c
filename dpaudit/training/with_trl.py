"""Non-private preference arms by TRL's own trainers: for losses that couple pairs, and for DPO under
DeepSpeed.

Nothing here is private: batches are shuffled, no gradient is clipped and no noise is added.
"""

import importlib.util
import math
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from dpaudit.errors import GuardError, UsageError
from dpaudit.models.encode import Encoded
from dpaudit.models.fused import trainable
from dpaudit.suite.suite import Schedule
from dpaudit.training import engine, examples, guards, loop, losses
from dpaudit.training.state import Step, exact

BETA = 0.1  # of KTO and AOT, as their papers have it
BY_TRL = ("sigmoid", "robust", "ipo", "hinge", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero",
          "apo_down", "discopop", "sigmoid_norm")  # fmt: skip
ZERO_1: dict[str, Any] = {  # "auto" takes the trainer's own settings
    "zero_optimization": {"stage": 1},
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
}


@exact()
def train(
    model: Any,
    tokenizer: Any,
    units: Sequence[examples.UnitExamples],
    schedule: Schedule,
    objective: examples.Objective,
    *,
    seed: int,
    micro_batch: int = 256,
    coupled_pairs: int = 128,
    gradient_checkpointing: bool = False,
    zero_1: bool = False,
    advance: Callable[[int], None] = lambda n: None,
) -> loop.Result:
    """Trains the adapter of `model` in place on all pairs of the units, and returns what each step did.

    A batch is `schedule.batch` pairs. A loss that couples pairs sees the largest divisor of the batch that is
    not above `coupled_pairs` at once, since that number changes it; `micro_batch` bounds the others. The
    reference is the model as given. Under `zero_1` the optimizer's state is split over the processes of a
    launcher; without a launcher there is one process. Raises GuardError where a loss is not finite, no weight
    moved or steps are missing.
    """
    pairs_of_units = [example for unit in units for example in unit]
    rows = _rows(pairs_of_units, objective.loss, seed)
    parameters = trainable(model)
    start = {name: p.detach().clone() for name, p in parameters.items()}
    log = _log(schedule, advance)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _process_group() if zero_1 else nullcontext():
        most = coupled_pairs if objective.loss in losses.OPEN_ONLY else micro_batch // 2
        pairs = min(_divisor(schedule.batch, most), len(pairs_of_units))
        settings = _settings(folder, schedule, pairs, seed) | {
            "gradient_checkpointing": gradient_checkpointing,
            "deepspeed": ZERO_1 if zero_1 else None,
        }
        _run(model, tokenizer, rows, objective, settings, _optimizer(parameters, schedule), log)
    if "ref" in model.peft_config:  # TRL's copy of the adapter at its start
        model.delete_adapter("ref")
    model.eval()
    steps = tuple(log.steps)
    _check(steps, schedule, objective.loss)
    guards.check_moved(parameters, start, private=False)
    held = ("loss finite", "weights moved", "steps as in the ledger")
    return loop.Result(steps, log.tokens, time.perf_counter() - began, held)


def _run(
    model: Any,
    tokenizer: Any,
    rows: Any,
    objective: examples.Objective,
    settings: dict[str, Any],
    optimizers: tuple[Any, Any],
    log: Any,
) -> None:
    from transformers import PrinterCallback

    kind, arguments = _trainer(objective, settings)
    trainer = _counting(kind, log)(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        optimizers=optimizers,
        callbacks=[log],
    )
    trainer.remove_callback(PrinterCallback)  # it writes to stdout, where results go
    trainer.train()


def _check(steps: Sequence[Step], schedule: Schedule, loss: str) -> None:
    if not all(step.loss is not None and math.isfinite(step.loss) for step in steps):
        raise GuardError(f"loss of {loss}: expected finite numbers, seen NaN or infinity")
    if len(steps) != schedule.steps:
        raise GuardError(f"steps: expected {schedule.steps} as the ledger says, seen {len(steps)}")


def check_deepspeed(names: Sequence[str]) -> None:
    """Raises UsageError where DeepSpeed is not installed, or a non-private DPO arm's loss is not one of
    TRL's.
    """
    if not names:
        raise UsageError(
            "training.deepspeed",
            "a non-private DPO arm to use it",
            "no such arm",
            "give --dpo and keep the baseline, or --set training.deepspeed=null",
        )
    if importlib.util.find_spec("deepspeed") is None:
        raise UsageError(
            "training.deepspeed",
            "the package deepspeed",
            "no such package",
            "pip install deepspeed, or --set training.deepspeed=null",
        )
    for name in names:
        if name not in (*BY_TRL, *losses.OPEN_ONLY):
            raise UsageError("training.deepspeed", f"a loss that TRL has ({', '.join(BY_TRL)})", name)


@contextmanager
def _process_group() -> Iterator[None]:
    """The environment variables of a launcher, for a process started without one: DeepSpeed would look for
    MPI.
    """
    if "RANK" in os.environ:
        yield
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    before = dict(os.environ)
    os.environ.update(alone | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _rows(examples: Sequence[examples.Example], loss: str, seed: int) -> Any:
    """The pairs as TRL's trainers take them, tokens and template as in every other arm."""
    from datasets import Dataset

    rows = [_pair(*example.sequences) for example in examples]
    if loss == "kto":
        rows = [
            {"prompt_ids": row["prompt_ids"], "completion_ids": row[f"{side}_ids"], "label": side == "chosen"}
            for row in rows
            for side in ("chosen", "rejected")
        ]
    random.Random(f"trl/{seed}").shuffle(rows)  # KTO takes rows in the order given
    return Dataset.from_list(rows)


def _pair(chosen: Encoded, rejected: Encoded) -> dict[str, Any]:
    first = min(_first(chosen), _first(rejected))
    return {
        "prompt_ids": list(chosen.input_ids[:first]),
        "chosen_ids": list(chosen.input_ids[first : _last(chosen)]),
        "rejected_ids": list(rejected.input_ids[first : _last(rejected)]),
    }


def _first(sequence: Encoded) -> int:
    """Where the answer begins; the end of a sequence that was cut before it."""
    return sequence.answer_mask.index(True) if any(sequence.answer_mask) else len(sequence.input_ids)


def _last(sequence: Encoded) -> int:
    return (
        len(sequence.answer_mask) - sequence.answer_mask[::-1].index(True)
        if any(sequence.answer_mask)
        else len(sequence.input_ids)
    )


def _divisor(batch: int, most: int) -> int:
    return max(d for d in range(1, batch + 1) if batch % d == 0 and d <= max(most, 1))


def _settings(folder: str, schedule: Schedule, pairs: int, seed: int) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": pairs,
        "gradient_accumulation_steps": max(schedule.batch // pairs, 1),
        "max_steps": schedule.steps,
        "learning_rate": schedule.learning_rate,
        "max_grad_norm": 0.0,
        "max_length": None,  # cut already
        "dataloader_drop_last": True,
        "disable_dropout": False,
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # otherwise a NaN would be logged as the mean so far
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": seed,
    }


def _optimizer(parameters: dict[str, Any], schedule: Schedule) -> tuple[Any, Any]:
    """The optimizer and the learning rates of every other arm."""
    optimizer = engine.optimizer_of(parameters, schedule)
    for settings in optimizer.param_groups:
        settings["lr"] = settings["initial_lr"] = schedule.learning_rate
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: engine.learning_rate(schedule, step) / schedule.learning_rate
    )


def _trainer(objective: examples.Objective, settings: dict[str, Any]) -> tuple[Any, Any]:
    """TRL's trainer for the loss, made to take rows that have tokens already, and its arguments."""
    import trl

    if objective.loss == "kto":

        class Kto(trl.KTOTrainer):  # type: ignore[misc]
            def _prepare_dataset(self, dataset: Any, _: Any, args: Any, name: str) -> Any:
                return _with_next_answers(dataset, args.per_device_train_batch_size)

        rows = {"per_device_train_batch_size": 2 * settings["per_device_train_batch_size"]}
        return Kto, trl.KTOConfig(**(settings | rows), beta=objective.beta or BETA)

    class Dpo(trl.DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    beta, smoothing = objective.beta or BETA, objective.label_smoothing or 0.0
    if objective.loss in losses.LOSSES:
        published = losses.settings_of(objective.loss, objective.beta, objective.label_smoothing)
        beta, smoothing = published.beta, published.label_smoothing
    arguments = trl.DPOConfig(
        **settings,
        loss_type=[objective.loss],
        beta=beta,
        label_smoothing=smoothing,
        discopop_tau=losses.DISCOPOP_TAU,
    )
    return Dpo, arguments


def _counting(kind: Any, log: Any) -> Any:
    """The trainer, which gives `log` the number of sequences seen: at the end of an epoch a batch may be
    smaller.
    """

    class Counting(kind):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            log.sequences += len(inputs["input_ids"])
            return super().training_step(model, inputs, *rest, **named)

    return Counting


def _with_next_answers(rows: Any, batch: int) -> Any:
    """Each row with another row's answer of the same batch, from which KTO estimates its divergence."""
    answers = rows["completion_ids"]
    shifted = []
    for first in range(0, len(rows), batch):
        part = list(answers[first : first + batch])
        shifted += [part[-1], *part[:-1]]
    return rows.add_column("KL_completion_ids", shifted)


def _log(schedule: Schedule, advance: Callable[[int], None]) -> Any:
    """A callback that keeps a Step for every optimizer step."""
    from transformers import TrainerCallback

    class Log(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.steps: list[Step] = []
            self.tokens = self.sequences = 0
            self.began = time.perf_counter()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" not in logs:
                return
            number = state.global_step - 1
            rate = engine.learning_rate(schedule, number)
            self.tokens = int(logs.get("num_tokens", 0))
            seconds = time.perf_counter() - self.began
            units = self.sequences // 2 * args.world_size
            self.steps.append(Step(number, units, 0.0, float(logs["loss"]), rate, seconds))
            self.sequences = 0
            advance(1)

    return Log()
