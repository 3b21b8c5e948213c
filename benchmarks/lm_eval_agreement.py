"""Items as `dpaudit eval` asks them against plain lm-eval: the same answers, and log-probabilities of choices
within 1e-4?

    python benchmarks/lm_eval_agreement.py --model DIR --data FOLDER \\
        --out benchmarks/results/lm_eval_agreement.json

100 items each of PubMedQA, MedQA, MMLU-medical and CMExam (the files bench_*_dev.jsonl of FOLDER), drawn as
a limit draws them, in float32. Plain lm-eval loads the model itself, renders with the tokenizer's own
template and is given nothing of dpaudit but the YAML of the task and the places of the items. Some ten
minutes with a 135M model on one core.
"""

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

from dpaudit import content
from dpaudit.models import harness, items
from dpaudit.models.hf_model import HFModel
from dpaudit.stages import benchmarks
from dpaudit.suite.suite import Evaluation

FILES = {
    "pubmedqa_file": "bench_pubmedqa_en_dev.jsonl",
    "medqa_us_file": "bench_medqa_us_en_dev.jsonl",
    "mmlu_medical_file": "bench_mmlu_med_en_dev.jsonl",
    "cmexam_file": "bench_cmexam_zh_dev.jsonl",
}
ITEMS = 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = content.listing("suites/tasks")
    specs = {task: content.load_yaml(known[task]) for task in FILES}
    files = {task: arguments.data / file for task, file in FILES.items()}
    with tempfile.TemporaryDirectory() as cache:
        tasks = harness.load_tasks(specs, files, Path(cache))
        places = {name: items.drawn(task, ITEMS) for name, task in tasks.items()}
        ours = asked_by_us(arguments.model, tasks)
        theirs = asked_by_lm_eval(arguments.model, specs, files, places)
    result = {
        "machine": f"{platform.machine()}, torch {torch.__version__}, one thread",
        "model": Path(arguments.model).name,
        "tasks": {task: compared(ours[task], theirs[task]) for task in FILES},
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["tasks"], indent=1))


Logprobs = dict[str, list[float]]  # item -> log-probability of each choice


def asked_by_us(model: str, tasks: dict[str, Any]) -> dict[str, Logprobs]:
    lm = harness.harness_model(HFModel.load(model), 8)
    how = benchmarks.asking(Evaluation(limit=ITEMS))
    return {
        name: {item.id: list(item.logprobs) for item in harness.answer(lm, name, task, how).items}
        for name, task in tasks.items()
    }


def asked_by_lm_eval(
    model: str, specs: dict[str, Any], files: dict[str, Path], places: dict[str, list[int] | None]
) -> dict[str, Logprobs]:
    lm = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=8)
    found = {}
    for name, spec in specs.items():
        task = {**spec, "dataset_kwargs": {"data_files": {"test": str(files[name].resolve())}}}
        done = simple_evaluate(
            lm,
            tasks=[task],
            samples={name: places[name]},
            apply_chat_template=True,
            bootstrap_iters=0,
            log_samples=True,
        )
        found[name] = {
            str(sample["doc"]["id"]): [float(answer[0]) for answer in sample["filtered_resps"]]
            for sample in done["samples"][name]
        }
    return found


def compared(ours: Logprobs, theirs: Logprobs) -> dict[str, Any]:
    """Raises ValueError where the two sides were not asked the same items."""
    if ours.keys() != theirs.keys():
        raise ValueError("the same items for both")
    both = [(mine, theirs[item]) for item, mine in ours.items()]
    gaps = [abs(a - b) for mine, other in both for a, b in zip(mine, other, strict=True)]
    same = [mine.index(max(mine)) == other.index(max(other)) for mine, other in both]
    return {"items": len(same), "same_answer": sum(same), "largest_difference": max(gaps)}


if __name__ == "__main__":
    main()
