"""Scoring, exposure and many arms on one base against named alternatives: time and memory, with their bars.

    python benchmarks/score.py --out benchmarks/results/score.json [--model DIR]

scoring    `HFModel.token_scores` against `loop` (one sequence at a time through the model's own logits,
log-softmax in
           float32, gather; log-probabilities alone, without the mean, spread and greedy flag that
           token_scores adds), against `complete` (that loop with all that token_scores gives) and `padded`
           (batches of 16 in the order of the data, padded, log-probabilities alone). Texts: one to ten
           dialogues of builtin:clinic in one text, lengths log-normal, all tokens counted or the answers
           alone, and canaries, their secret counted. An adapter of rank 8 is on, as in an audit. Bar: loop
           1.8 times as slow, log-probabilities of a sequence within 1e-3.
exposure   `HFModel.sequence_logprobs` over 10,000 record numbers against scoring each whole text, sorted and
batched, its
           secret counted. Of a model that is not small a part is recomputed, and the time scaled up. Bar: 7
           times.
arms       peak resident memory of a fresh process that scores texts under each of N adapters on one base, as
growth per
           further adapter over the peak with one. Bar: under 5 %.
limit      with CUDA, bfloat16: the time of the forward pass alone over the same batches, as a share of the
time of scoring. Times are of the wall clock, medians over interleaved rounds; a ratio is the median of the
rounds' own ratios. Beside each stands the ratio of processor time, which other work on the machine hardly
moves. `random:41M` is a Llama of random weights (hidden 512, 8 layers, vocabulary 32,000), so that the
figures need no download. Bars are fixed and may fail.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import torch
import transformers

from dpaudit.data import clinic
from dpaudit.data.canary import draw
from dpaudit.models.encode import Encoded, counted_mask, encode
from dpaudit.models.hf_model import HFModel
from dpaudit.models.spaces import Spaces, encoded_secret
from dpaudit.models.tokenizers import load_tokenizer

TINY, RANDOM = "builtin:tiny", "random:41M"
BARS = {"scoring": 1.8, "nats": 1e-3, "exposure": 7.0, "arms": 0.05}
SMALL = 2**22  # parameters of a model that is recomputed over all candidates
ARMS = (1, 2, 5)
Measured = dict[str, list[tuple[float, float]]]  # variant -> seconds of wall clock and processor, a round


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], help="a further model folder")
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # one process of the memory measure
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.model[0], arguments.peak, arguments.threads))
        return
    rows = []
    for name in (TINY, RANDOM, *arguments.model):
        model = audited(name, 1)
        torch.set_num_threads(arguments.threads)
        rows.append(measured(name, model, arguments))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        write(arguments, rows)


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    settings = {key: getattr(arguments, key) for key in ("texts", "rounds", "threads")}
    if arguments.out:
        found = {"machine": machine(), "settings": settings, "bars": BARS, "results": rows}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measured(name: str, model: HFModel, arguments: argparse.Namespace) -> dict[str, Any]:
    parameters = sum(p.numel() for p in model.model.get_base_model().parameters() if not p.requires_grad)
    label = name if name in (TINY, RANDOM) else Path(name).name
    row: dict[str, Any] = {"model": label, "parameters": parameters}
    row["scoring"] = [
        scoring(what, model, *asked, arguments.rounds) for what, asked in texts(model, arguments.texts)
    ]
    if name != RANDOM:  # it has no tokenizer
        row["exposure"] = exposure(model, parameters, min(3, arguments.rounds))
    row["arms"] = arms(name, arguments.threads)
    if torch.cuda.is_available():
        row["limit"] = limit(model, arguments)
    return row


def scoring(
    what: str, model: HFModel, items: list[Encoded], counted: list[Any], rounds: int
) -> dict[str, Any]:
    def ours() -> list[Any]:
        found = model.token_scores(items, counted=counted)
        return [score.logprob[at] for score, at in zip(found, counted, strict=True)]

    variants = {
        "ours": ours,
        "loop": lambda: by_plain_batches(model, items, counted, 1),
        "padded": lambda: by_plain_batches(model, items, counted, 16),
        "complete": lambda: completely(model, items, counted),
    }
    sums = {
        name: np.array([row.astype(np.float64).sum() for row in variants[name]()])
        for name in ("ours", "loop")
    }
    found = rounds_of(variants, rounds)
    difference = float(np.abs(sums["ours"] - sums["loop"]).max())
    lengths = sorted(len(item.input_ids) for item in items)
    loop = ratio(found, "loop")
    return {
        "counted": what,
        "tokens": {
            "all": sum(lengths),
            "counted": int(sum(at.sum() for at in counted)),
            "shortest": lengths[0],
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
        },
        "loop": loop,
        "padded": ratio(found, "padded"),
        "complete": ratio(found, "complete"),
        "seconds": seconds(found),
        "largest_difference_nats": difference,
        "held": loop["wall"] >= BARS["scoring"],
        "equal_held": difference <= BARS["nats"],
    }


@torch.inference_mode()
def by_plain_batches(
    model: HFModel, items: Sequence[Encoded], counted: Sequence[Any], size: int
) -> list[Any]:
    """log p of the counted tokens by the model's own logits, batches in the order of the data."""
    found = []
    for start in range(0, len(items), size):
        rows = [item.input_ids for item in items[start : start + size]]
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.model.device)
        mask = torch.tensor(
            [[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.model.device
        )
        logits = model.model(input_ids=ids, attention_mask=mask).logits
        logprob = torch.log_softmax(logits[:, :-1].float(), -1).gather(2, ids[:, 1:, None])[..., 0]
        values = logprob.cpu().numpy()
        found += [values[row, : len(ids_) - 1][counted[start + row][1:]] for row, ids_ in enumerate(rows)]
    return found


@torch.inference_mode()
def completely(model: HFModel, items: Sequence[Encoded], counted: Sequence[Any]) -> list[Any]:
    """log p, mean and spread of log p, and whether greedy decoding takes the token, one sequence at a
    time.
    """
    found = []
    for item, at in zip(items, counted, strict=True):
        ids = torch.tensor([item.input_ids], device=model.model.device)
        logprob = torch.log_softmax(model.model(input_ids=ids).logits[0, :-1].float(), -1)
        probability, token = logprob.exp(), ids[0, 1:]
        mean = (probability * logprob).sum(-1)
        spread = (probability * (logprob - mean[:, None]).square()).sum(-1).sqrt()
        chosen, is_greedy = logprob.gather(1, token[:, None])[:, 0], logprob.argmax(-1) == token
        found.append(torch.stack([chosen, mean, spread, is_greedy.float()], -1).cpu().numpy()[at[1:]])
    return found


def exposure(model: HFModel, parameters: int, rounds: int) -> dict[str, Any]:
    (canary,) = draw("record_number", 1, 4, 1, "extraction", set(), "score")
    space = Spaces(model.tokenizer, 512).of(canary)
    whole = candidates(space)
    part = whole if parameters <= SMALL else whole[:: len(whole) // 100]
    counted = [counted_mask(item.secret_mask) for item in part]
    variants = {
        "ours": lambda: model.sequence_logprobs(space.prefix, space.trie),
        "recomputed": lambda: model.token_scores(part, counted=counted),
    }
    totals = [
        float(score.logprob[at].astype(np.float64).sum())
        for score, at in zip(variants["recomputed"](), counted, strict=True)
    ]
    step = 1 if part is whole else len(whole) // 100
    found = rounds_of(variants, rounds)
    found["recomputed"] = [
        (w * len(whole) / len(part), c * len(whole) / len(part)) for w, c in found["recomputed"]
    ]
    times = ratio(found, "recomputed")
    return {
        "candidates": len(whole),
        "recomputed_candidates": len(part),
        "recomputed": times,
        "seconds": seconds(found),
        "largest_difference_nats": float(np.abs(variants["ours"]()[::step] - totals).max()),
        "held": times["wall"] >= BARS["exposure"],
    }


def candidates(space: Any) -> list[Encoded]:
    """Every candidate behind its prefix, in the order of the trie's sequences, its own tokens counted."""
    trie, paths = space.trie, []
    for number, length in enumerate(trie.lengths):
        paths.append(tuple(int(trie.token[level][trie.node[level][number]]) for level in range(length)))
    before = (False,) * len(space.prefix)
    return [
        Encoded((*space.prefix, *own), (*before, *[True] * len(own)), (*before, *[True] * len(own)), False, 0)
        for own in paths
    ]


def arms(name: str, threads: int) -> dict[str, Any]:
    """Peak memory by number of adapters, each in a fresh process."""
    command = [sys.executable, __file__, "--model", name, "--threads", str(threads), "--peak"]
    peaks = {}
    for count in ARMS:
        run = subprocess.run([*command, str(count)], check=True, capture_output=True, text=True)
        peaks[count] = float(run.stdout)
    growth = (peaks[ARMS[-1]] - peaks[1]) / (ARMS[-1] - 1) / peaks[1]
    return {
        "peak_mb": {str(count): round(value, 1) for count, value in peaks.items()},
        "growth_per_further_arm": round(growth, 4),
        "held": growth < BARS["arms"],
    }


def peak(name: str, count: int, threads: int) -> float:
    """MiB at the peak of scoring a few texts under each of `count` adapters."""
    model = audited(name, count)
    torch.set_num_threads(threads)
    items, counted = texts(model, 4)[0][1]
    for number in range(count):
        with model.active(f"arm{number}"):
            model.token_scores(items, counted=counted)
    lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss starts at the parent's own peak
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@torch.inference_mode()
def limit(model: HFModel, arguments: argparse.Namespace) -> dict[str, Any]:
    """The share of the forward-only limit that scoring reaches, in bfloat16."""
    model.model.to(torch.bfloat16)
    items, counted = texts(model, 64 * arguments.texts)[0][1]
    order = sorted(items, key=lambda item: -len(item.input_ids))

    def forward() -> None:
        for start in range(0, len(order), 64):
            width = len(order[start].input_ids)
            rows = [
                [*item.input_ids, *[0] * (width - len(item.input_ids))] for item in order[start : start + 64]
            ]
            model.model(input_ids=torch.tensor(rows, device=model.model.device), use_cache=False)

    variants = {"ours": lambda: model.token_scores(items, counted=counted), "forward": forward}
    return {"share_reached": ratio(rounds_of(variants, arguments.rounds), "forward")["wall"]}


def rounds_of(variants: dict[str, Callable[[], Any]], rounds: int) -> Measured:
    """The variants take turns, in another order every round; a round before the first warms up."""
    found: Measured = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name in np.random.default_rng(number).permutation(list(variants)):
            synchronize()
            began = time.perf_counter(), time.process_time()
            variants[name]()
            synchronize()
            if number:
                found[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return found


def ratio(found: Measured, name: str) -> dict[str, float]:
    pairs = list(zip(found[name], found["ours"], strict=True))
    return {
        clock: round(statistics.median(other[i] / own[i] for other, own in pairs), 3)
        for i, clock in enumerate(("wall", "processor"))
    }


def seconds(found: Measured) -> dict[str, float]:
    return {name: round(statistics.median(wall for wall, _ in runs), 4) for name, runs in found.items()}


def texts(model: HFModel, count: int) -> list[tuple[str, tuple[list[Encoded], list[Any]]]]:
    """What is counted -> sequences and masks."""
    tokenizer = model.tokenizer if hasattr(model.tokenizer, "encode") else load_tokenizer(TINY)
    records = iter(clinic.world(7, 12 * count, 0).records)
    sizes = np.random.default_rng(7).lognormal(np.log(2), 0.7, count).round().clip(1, 10).astype(int)
    dialogues = [[turn for _ in range(size) for turn in next(records).turns] for size in sizes]
    items = [encode(tuple(turns), tokenizer, 512) for turns in dialogues]
    canaries = draw("record_number", count, 6, 1, "mia", set(), "score")
    secrets = [encoded_secret(canary, tokenizer, 512) for canary in canaries]
    if tokenizer is not model.tokenizer:
        items, secrets = spread(items), spread(secrets)
    every = [counted_mask([True] * len(item.input_ids)) for item in items]
    answers = [counted_mask(item.answer_mask) for item in items]
    return [
        ("all", (items, every)),
        ("answers", (items, answers)),
        ("secret", (secrets, [counted_mask(item.secret_mask) for item in secrets])),
    ]


def spread(items: Sequence[Encoded]) -> list[Encoded]:
    """The same lengths and masks with tokens of the random model's vocabulary."""
    generator = np.random.default_rng(0)
    return [
        Encoded(
            tuple(generator.integers(0, 32000, len(i.input_ids)).tolist()),
            i.answer_mask,
            i.secret_mask,
            False,
            0,
        )
        for i in items
    ]


def audited(name: str, count: int) -> HFModel:
    """The model with `count` adapters of rank 8 on every linear layer, random and not zero; the last one is
    on.
    """
    torch.manual_seed(0)
    if name == RANDOM:
        config = transformers.LlamaConfig(
            vocab_size=32000,
            hidden_size=512,
            intermediate_size=1376,
            num_hidden_layers=8,
            num_attention_heads=8,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
        )
        model = HFModel(transformers.LlamaForCausalLM(config), SimpleNamespace(pad_token_id=0))
        model.model.to("cuda" if torch.cuda.is_available() else "cpu")
    else:
        model = HFModel.load(name)
    with tempfile.TemporaryDirectory() as folder:
        wanted = peft.LoraConfig(
            r=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
        )
        made = peft.get_peft_model(model.model, wanted)
        made.save_pretrained(folder, save_embedding_layers=False)
        model.model = made.unload()
        for number in range(count):
            model.add_adapter(f"arm{number}", Path(folder))
    with model.active(f"arm{count - 1}"):
        return model


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(
        (x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.processor()
    )
    return {
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[1], 1),  # of the last five minutes: others may have been at work
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
    }


if __name__ == "__main__":
    main()
