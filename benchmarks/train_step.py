"""One DP training step against the same step without privacy, plain PEFT, and Opacus' hooks: time and memory.

    python benchmarks/train_step.py --out benchmarks/results/train_step.json

All variants take the same batch through the same Llama with LoRA of rank 8 on every linear layer, the same
loss on answer tokens, and AdamW:
  dp       clip by unit and noise, one backward pass (this project's training step)
  same     the same LoRA kernel without clip and noise
  peft     PEFT's own layers and autograd, without clip and noise
  opacus   Opacus' GradSampleModule hooks on PEFT's layers, then the same clip and noise
AdamW is PyTorch's fused one in all of them.
Time: processor time (on an accelerator: elapsed time), medians over interleaved rounds in one process, on one
thread, whose allocator keeps what was freed: else which variant pays for fresh pages hangs on what the others
left behind. A ratio is the median of the rounds' own ratios.
Memory: the growth of peak resident memory over the state before the step, each variant in a fresh process
that returns freed blocks at once (on an accelerator: the allocator's own peak); medians over three processes.
`throughput` above 1 means that dp is faster, `memory` below 1 that it is smaller.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from opacus.grad_sample import GradSampleModule

from dpaudit.models.encode import Encoded
from dpaudit.models.fused import FusedLora, trainable
from dpaudit.models.layout import Layout
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import batches, dpsgd, engine, examples

VARIANTS = ("dp", "same", "peft", "opacus")
VOCABULARY = 8192
SIZES: dict[str, dict[str, Any]] = {
    "5M": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4},
    "60M": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 17, "num_attention_heads": 8},
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 20,
        "num_attention_heads": 16,
    },
}
BATCH = {
    "5M": (16, 96),
    "60M": (8, 64),
    "1B": (8, 256),
}  # sequences and their tokens, a third of them the answer
MECHANISM = Mechanism(1.0, 0.1, 1000, 0.5)
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**40)}
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["5M", "60M"], choices=SIZES)
    parser.add_argument("--units", nargs="+", default=["record", "pair"], choices=["record", "pair"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1, help="of a variant's processor work")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, non-reentrant")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--peak", choices=VARIANTS, help=argparse.SUPPRESS
    )  # one process of the memory measure
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak(arguments.peak, arguments))
        return
    if not KEEPING.items() <= os.environ.items():  # read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEPING)
    rows = []
    for size, unit in itertools.product(arguments.sizes, arguments.units):
        arguments.sizes, arguments.units = [size], [unit]
        seconds = times(arguments)
        memory = {name: peaks(name, arguments) for name in VARIANTS}
        sequences, tokens = BATCH[size]
        told = {"model": size, "unit": unit, "sequences": sequences, "tokens": tokens}
        rows.append(told | ratios(seconds, memory))
        print(json.dumps(rows[-1]), flush=True)
    settings = {key: getattr(arguments, key) for key in ("rounds", "threads", "dtype", "checkpointing")}
    if arguments.out:
        found = {"machine": machine(), "settings": settings, "results": rows}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def ratios(seconds: dict[str, list[float]], memory: dict[str, float]) -> dict[str, Any]:
    others = [name for name in VARIANTS if name != "dp"]
    return {
        "throughput": {
            name: round(
                statistics.median(o / d for o, d in zip(seconds[name], seconds["dp"], strict=True)), 3
            )
            for name in others
        },
        "memory": {name: round(memory["dp"] / memory[name], 3) for name in others},
        "seconds": {name: round(statistics.median(seconds[name]), 4) for name in VARIANTS},
        "peak_mb": {name: round(memory[name], 1) for name in VARIANTS},
    }


def times(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Variant -> seconds of each round; the variants take turns, in another order every round."""
    steps = {name: step_of(name, arguments) for name in VARIANTS}
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(arguments.rounds + 2):
        for name in np.random.default_rng(number).permutation(VARIANTS):
            synchronize()
            began = clock()
            steps[name]()
            synchronize()
            if number >= 2:  # the first two warm up
                found[name].append(clock() - began)
    return found


def clock() -> float:
    """Seconds; on a processor those that this process had it, so that others' work does not count."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def peaks(name: str, arguments: argparse.Namespace) -> float:
    command = [
        sys.executable,
        __file__,
        "--peak",
        name,
        "--sizes",
        *arguments.sizes,
        "--units",
        *arguments.units,
    ]
    command += ["--dtype", arguments.dtype, "--threads", str(arguments.threads)]
    command += ["--checkpointing"] if arguments.checkpointing else []
    environment = os.environ | RETURNING
    return statistics.median(
        float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    )


def peak(name: str, arguments: argparse.Namespace) -> float:
    """MiB by which memory grows at the peak of a step, after two steps that make the optimizer's state."""
    step = step_of(name, arguments)
    step(), step()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is in use now
    before = resident("VmRSS")
    step()
    return (resident("VmHWM") - before) / 1024


def resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def step_of(name: str, arguments: argparse.Namespace) -> Callable[[], None]:
    """A function that does one whole step of the variant: forward, backward, clip and noise where it has
    them, AdamW.
    """
    (size,), (unit,) = arguments.sizes, arguments.units
    model = lora_model(size, arguments.dtype, arguments.checkpointing)
    units, objective = batch(unit, *BATCH[size])
    parameters = trainable(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4, fused=True)
    noise = dpsgd.noise_generator(device(), 1)
    wrapped = GradSampleModule(model, batch_first=True, loss_reduction="sum") if name == "opacus" else None
    lora = FusedLora(model) if name in ("dp", "same") else None

    def step() -> None:
        groups = batches.grouped(units, BATCH[size][0])
        if lora is not None:
            source = engine.model_source(model, lora, objective)
            with lora.attached():
                total = (
                    engine.private_sum(source, lora.layout, groups, MECHANISM, noise)
                    if name == "dp"
                    else engine.plain_sum(model, lora, groups, objective)
                )
            engine.set_gradients(lora, engine.divided(total.gradients, len(units)))
        elif wrapped is not None:
            opacus_step(wrapped, parameters, units, objective, noise)
        else:
            loss = examples.example_losses(model, [e for unit in units for e in unit], objective).sum()
            (loss / len(units)).backward()
            loss.item()
        optimizer.step()
        optimizer.zero_grad()

    return step


def opacus_step(
    model: Any,
    parameters: dict[str, torch.nn.Parameter],
    units: list[Any],
    objective: Any,
    noise: torch.Generator,
) -> None:
    """Rows' gradients by Opacus' hooks, summed by unit, clipped and noised as this project does."""
    drawn = [example for unit in units for example in unit]
    loss = examples.example_losses(model, drawn, objective).sum()
    loss.backward()
    sequences = len(drawn[0].sequences)
    rows = [p.grad_sample.float().flatten(1) for p in parameters.values()]  # type: ignore[attr-defined]
    by_unit = [g.view(len(units), sequences, -1).sum(1) if sequences > 1 else g for g in rows]
    layout = Layout.of(parameters)
    total, clipped = dpsgd.clipped_sum(by_unit, MECHANISM.clip)
    total += dpsgd.gaussian_noise(layout, MECHANISM.noise_multiplier * MECHANISM.clip, noise)
    for name, view in layout.views(total / len(units)).items():
        parameters[name].grad = view.to(parameters[name].dtype)
        parameters[name].grad_sample = None  # type: ignore[attr-defined]
    torch.stack([loss.detach(), clipped]).tolist()


def lora_model(size: str, dtype: str, checkpointing: bool) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=2048, tie_word_embeddings=True, **SIZES[size]
    )
    base = transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).to(device())
    model = peft.get_peft_model(
        base,
        peft.LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
        ),
    )
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def batch(unit: str, rows: int, tokens: int) -> tuple[list[Any], examples.Objective]:
    random = np.random.default_rng(0)
    kept = tokens // 3
    mask = (False,) * (tokens - kept) + (True,) * kept

    def sequence() -> Encoded:
        ids = tuple(int(t) for t in random.integers(0, VOCABULARY, tokens))
        return Encoded(ids, mask, (False,) * tokens, False, kept)

    if unit == "record":
        return [[examples.Example((sequence(),))] for _ in range(rows)], examples.Objective("sft")
    pairs = [[examples.Example((sequence(), sequence()), (-90.0, -91.0))] for _ in range(rows // 2)]
    return pairs, examples.Objective("sigmoid")


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft", "opacus")},
    }


if __name__ == "__main__":
    main()
