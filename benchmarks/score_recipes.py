"""`attack mia` by recipe: the processor time that scores take, beside that of the model's passes alone.

    python benchmarks/score_recipes.py --out benchmarks/results/score_recipes.json [--model DIR]

Trains one step of a non-private and a private arm on the synthetic clinic, and scores both, once for every
recipe that needs no shadow models and once for all of them, as `attack mia` does: copies of texts are made,
encoded and batched, signals computed, scores written. The model is loaded before. Meanwhile every batch that
goes through the model is kept. The limit is the time of those batches' passes again: backbone and head at
counted tokens, and for the gradient recipe plain PEFT's backward pass of the sum of losses. A share of 1
would mean that nothing else costs time. Rounds of all recipes and their limits are interleaved; shares are
medians of the rounds' own. Bar: a share of .8 on a processor. The bar is fixed and may fail.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from score import machine, synchronize

from dpaudit.models import gradients, low_rank, scoring
from dpaudit.models.hf_model import HFModel
from dpaudit.pipeline import plans, sequence
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Recipe
from dpaudit.stages.attack import attack, membership
from dpaudit.stages.attack.scores import ScoringJob
from dpaudit.stages.prepare.candidates import load_candidates
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

BAR = 0.8
QUIET = Progress(quiet=True)


@dataclass(frozen=True, eq=False)
class Pass:
    """One batch that went through the model, with the adapter that was switched on."""

    model: Any
    parts: scoring.Split | None
    batch: scoring.Batch
    adapter: str | None
    before: int = 0  # tokens of a prefix that are in the batch's cache
    backward: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin:tiny")
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--canaries", type=int, default=500)
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipe", action="append", help="only this one; may be given again")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plan = planned(arguments)
        run_dir = sequence.train(plan, Path(folder), QUIET, workers=1)
        found = measured(run_dir, plan, arguments.rounds, arguments.recipe)
    settings = {
        key: getattr(arguments, key) for key in ("model", "patients", "canaries", "records", "rounds")
    }
    text = json.dumps({"machine": machine(), "settings": settings, "bar": BAR, **found}, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def planned(arguments: argparse.Namespace) -> Plan:
    changed = {
        "model.base": arguments.model,
        "data.patients": arguments.patients,
        "candidates.canaries": arguments.canaries,
        "candidates.records": arguments.records,
        "candidates.extraction": 0,
        "candidates.gradient": 0,
        "training.steps": 1,
        "training.private.batch": 64,
        "training.nonprivate.batch": 64,
        "grid.epsilons": [8],
        "grid.dpo": [],
        "attacks": ["mia"],
        "evaluation.tasks": [],
        "judging": None,
    }
    return plans.resolve("demo", changed, 0, 1)


def measured(run_dir: RunDir, plan: Plan, rounds: int, only: Sequence[str] | None = None) -> dict[str, Any]:
    arms = list(plan.suite.grid.arms)
    model = attack._load(run_dir, plan, arms)
    candidates = load_candidates(run_dir)
    known = [r for r in recipe.load_all("mia") if not r.least_shadows]

    def scored(recipes: Sequence[Recipe]) -> Callable[[], None]:
        jobs = [ScoringJob(arm, list(recipes)) for arm in arms]
        return lambda: membership.score(run_dir, plan, QUIET, jobs, candidates, model)

    whole = {"attack mia": scored(known), **{r.name: scored([r]) for r in known}}
    whole = {name: score for name, score in whole.items() if not only or name in only}
    passes = {}
    for name, score in whole.items():
        with kept(model) as passes[name]:
            score()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in whole}
    for _ in range(rounds):
        for name, score in whole.items():
            times[name].append((seconds(score), seconds(lambda name=name: again(model, passes[name]))))  # type: ignore[misc]
        print("a round is done", file=sys.stderr, flush=True)
    rows = [row(name, times[name], passes[name]) for name in whole]
    return {"results": rows}


def row(name: str, times: Sequence[tuple[float, float]], passes: Sequence[Pass]) -> dict[str, Any]:
    share = statistics.median(limit / whole for whole, limit in times)
    return {
        "recipe": name,
        "sequences": sum(len(one.batch.ids) for one in passes),
        "batches": len(passes),
        "padding": round(
            1 - sum(int(p.batch.mask.sum()) for p in passes) / sum(p.batch.ids.numel() for p in passes), 3
        ),
        "seconds": round(statistics.median(whole for whole, _ in times), 3),
        "limit_seconds": round(statistics.median(limit for _, limit in times), 3),
        "share": round(share, 3),
        "held": share >= BAR,
    }


@contextmanager
def kept(model: HFModel) -> Iterator[list[Pass]]:
    """Inside the block every batch that goes through a model is added to the list."""
    passes: list[Pass] = []
    forward, backward = scoring.chunks, gradients.norms

    def chunks(asked: Any, parts: Any, batch: scoring.Batch) -> Any:
        before = batch.cache.get_seq_length() if batch.cache is not None else 0
        passes.append(Pass(asked, parts, batch, switched_on(model, asked), before))
        return forward(asked, parts, batch)

    def norms(asked: Any, parts: Any, lora: Any, batch: scoring.Batch) -> Any:
        passes.append(Pass(asked, parts, batch, switched_on(model, asked), backward=True))
        return backward(asked, parts, lora, batch)

    scoring.chunks, gradients.norms = chunks, norms
    try:
        yield passes
    finally:
        scoring.chunks, gradients.norms = forward, backward


def switched_on(model: HFModel, asked: Any) -> str | None:
    """The name of the adapter that is on, None for the base alone."""
    layer = next(part for part in asked.modules() if hasattr(part, "lora_A"))
    slots = {slot: name for name, slot in model._slots.items()}
    return None if layer.disable_adapters else slots[layer.active_adapters[0]]


def again(model: HFModel, passes: Sequence[Pass]) -> None:
    """The passes alone, in their order."""
    for one in passes:
        with model.active(one.adapter):
            if one.backward:
                learned(one)
            else:
                with torch.inference_mode(), low_rank.attached(one.model):
                    logits(one)


def logits(one: Pass) -> torch.Tensor:
    if one.parts is None:
        whole = one.model(input_ids=one.batch.ids, attention_mask=one.batch.mask, use_cache=False).logits
        return whole[one.batch.row, one.batch.before]
    cache = one.batch.cache
    if cache is not None and cache.get_seq_length() > one.before:
        cache.crop(one.before - cache.get_seq_length())  # the pass before wrote into it
    hidden = one.parts.backbone(
        input_ids=one.batch.ids, past_key_values=one.batch.cache, use_cache=False
    ).last_hidden_state
    return one.parts.head(hidden[one.batch.row, one.batch.before])


def learned(one: Pass) -> None:
    """Forward and backward pass of the sum of all losses; gradients of A and B alone."""
    wanted = list(gradients._active_weights(one.model))
    before = [parameter.requires_grad for parameter in one.model.parameters()]
    for parameter in one.model.parameters():
        parameter.requires_grad_(any(parameter is weight for weight in wanted))
    with torch.enable_grad():
        torch.nn.functional.cross_entropy(logits(one).float(), one.batch.token, reduction="sum").backward()
    for parameter, trains in zip(one.model.parameters(), before, strict=True):
        parameter.requires_grad_(trains)
        parameter.grad = None


def seconds(work: Callable[[], None]) -> float:
    """Processor time on a processor, else wall clock."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    synchronize()
    began = clock()
    work()
    synchronize()
    return clock() - began


if __name__ == "__main__":
    main()
