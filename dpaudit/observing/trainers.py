"""What stands in a Hugging Face or TRL Trainer as a callback: the watch of `dpaudit.observe`, and a record of
counts alone for `dpaudit verify --conformance`.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from dpaudit.observing.watch import Watch
from dpaudit.storage import whole_files


class WatchCallback(TrainerCallback):  # type: ignore[misc]
    """Attaches a watch to the optimizer of a Trainer before its first step, and saves at its end."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.watch.attach(optimizer)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watch.save()


class ConformanceCallback(TrainerCallback):  # type: ignore[misc]
    """Writes a JSON of checks to `file` when training ends: `Trainer(...,
    callbacks=[ConformanceCallback("seen.json")])`.

    Steps, batches, accumulation, epochs, and whether every trainable tensor moved. Holds no text and no
    weights. Of several processes the first one writes, and it counts its own batches only. Raises OSError
    before the first step where `file` cannot be written.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self.rows: Counter[int] = Counter()  # rows of a step, all its forward passes together -> how often
        self.steps = 0
        self._rows_now = 0
        self._start: dict[str, Any] = {}
        self._hook: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Remembers the trainable weights, on the processor, and begins to count rows."""
        if state.is_world_process_zero:
            # a file that cannot be written fails now, and not after the training
            whole_files.write_text(self.file, "{}\n")
            self.file.unlink()
        self._start = {n: p.detach().cpu().clone() for n, p in model.named_parameters() if p.requires_grad}
        self._hook = model.register_forward_pre_hook(self._count, with_kwargs=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps += 1
        self.rows[self._rows_now] += 1
        self._rows_now = 0

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._hook.remove()
        if not state.is_world_process_zero:
            return
        still = [
            name
            for name, p in model.named_parameters()
            if name in self._start and bool((p.detach().cpu() == self._start[name]).all())
        ]
        checks = [
            self._weights(still),
            self._steps_done(state),
            self._batches(),
            _check("accumulation", "seen", f"{args.gradient_accumulation_steps} batches a step"),
            _check("epochs", "seen", f"{float(state.epoch or 0):g}"),
            _check("noise", "not observable", "what is added to a gradient is not shown to a callback"),
            _check("clipping", "not observable", "gradients of single units are not shown to a callback"),
        ]
        report = {"trainer": "Hugging Face Trainer", "checks": checks}
        whole_files.write_text(self.file, json.dumps(report, ensure_ascii=False, indent=1) + "\n")

    def _count(self, module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named.get("input_ids", given[0] if given else None)
        if module.training and ids is not None:
            self._rows_now += int(ids.shape[0])

    def _weights(self, still: list[str]) -> dict[str, str]:
        total = len(self._start)
        result = "pass" if total and not still else "fail"
        return _check("every trainable tensor moved", result, f"{total - len(still)} of {total}")

    def _steps_done(self, state: Any) -> dict[str, str]:
        result = "pass" if self.steps == state.global_step else "fail"
        return _check("steps", result, f"{self.steps} here, {state.global_step} by the Trainer's count")

    def _batches(self) -> dict[str, str]:
        """Poisson sampling gives batches of many sizes; shuffled epochs give one size, and a remainder."""
        sizes = ", ".join(f"{rows} rows × {times}" for rows, times in sorted(self.rows.items())[:8])
        is_fixed = self.steps >= 10 and len(self.rows) <= 2
        result = "fail" if is_fixed else "not observable"
        return _check("batches as Poisson sampling gives them", result, sizes or "none")


def _check(check: str, result: str, seen: str) -> dict[str, str]:
    return {"check": check, "result": result, "seen": seen}
