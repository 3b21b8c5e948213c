"""A stranger's training audited from end to end: plant, `stranger.py`, a control by `stranger.py` with
another seed, verify; once for every seed, none chosen.

    python benchmarks/stranger_audit.py --case strong --model DIR --data meqsum.jsonl --work DIR \\
        --out benchmarks/results/stranger_audit.json

Cases (CASES below): `strong` and those that begin with `weak` are chat trainings with invented canaries,
`weak` and `weak-constant` on rows of MedQuAD, the other two on MeQSum. The learning rate rises and falls
(linear, with warmup), so that its mean is half of the one that is named, save in `weak-constant`, which is
plain AdamW. `apart` has another template, rank and batch, and was looked at once; `natural` and `held-out`
are MedQuAD rows of at most 96 tokens. A seed has a planting with coins of its own, a training of its own and
a control of its own (`weak`, `weak-constant` and `held-out` have none: a refutation stands without one, and
where nothing is refuted the verdict is without power). What the work folder already holds is not made again,
and what --out holds of other cases is kept. With the 135M model a case takes about half an hour a training on
one core; `held-out` twice that.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLAIM = "eps=3,delta=1e-5,unit=record,relation=add_or_remove"
EXIT_CODES = (0, 1, 4)
LONGEST = 96  # tokens of a row, where rows are chosen by length
CONTROL_SEED = 1000  # added to a training's seed


@dataclass(frozen=True)
class Case:
    """How rows are chosen, planted and trained on; `then` is a further number of epochs, looked at too."""

    plant: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    rows: int = 100
    short: bool = False
    epochs: tuple[int, ...] = (5,)
    claim: str = CLAIM
    control: bool = True


CASES = {
    "strong": Case(),
    "weak": Case(train=("--learning-rate", "0.001"), rows=120, epochs=(3,), control=False),
    "weak-constant": Case(
        train=("--learning-rate", "0.001", "--constant"), rows=120, epochs=(3,), control=False
    ),
    "weak-questions": Case(train=("--learning-rate", "0.001"), epochs=(3,)),
    "apart": Case(train=("--plain", "--rank", "8", "--batch", "4", "--learning-rate", "0.001")),
    "natural": Case(plant=("--family", "natural"), rows=150, short=True),
    "held-out": Case(plant=("--hold-out", "400"), rows=400, short=True, epochs=(5, 20), control=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    case, work = CASES[arguments.case], arguments.work / arguments.case
    work.mkdir(parents=True, exist_ok=True)
    lines = chosen_rows(arguments.data, case, arguments.model)
    (work / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    runs = [
        {"seed": seed, "epochs": epochs, **audited(work, case, seed, epochs, arguments.model)}
        for seed in arguments.seeds
        for epochs in case.epochs
    ]
    known = (
        json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {"cases": {}}
    )
    known["cases"][arguments.case] = {
        "machine": f"{platform.machine()}, python {platform.python_version()}",
        "data": arguments.data.name,
        "rows": len(lines),
        "claim": case.claim,
        "plant": case.plant,
        "trainer": ["benchmarks/stranger.py", *case.train, "--dtype", "float32"],
        "runs": runs,
        "refuted": sum(run["verdict"] == "refuted" for run in runs),
    }
    arguments.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def chosen_rows(data: Path, case: Case, model: str) -> list[str]:
    """The dialogues of the first rows of the data, or of the first that are short."""
    from transformers import AutoTokenizer

    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({"conversations": r["conversations"]}, ensure_ascii=False) + "\n" for r in rows]
    if not case.short:
        return lines[: case.rows]
    tokenizer, chosen = AutoTokenizer.from_pretrained(model), []
    for line in lines:
        said = " ".join(turn["value"] for turn in json.loads(line)["conversations"])
        if len(tokenizer(said)["input_ids"]) <= LONGEST:
            chosen.append(line)
        if len(chosen) == case.rows:
            return chosen
    raise SystemExit(f"{data}: {len(chosen)} rows of at most {LONGEST} tokens, {case.rows} are needed")


def audited(work: Path, case: Case, seed: int, epochs: int, model: str) -> dict[str, Any]:
    """Plants, trains twice and verifies under one seed, and what verify found."""
    place = work / f"s{seed}"
    place.mkdir(exist_ok=True)
    rows, data, key = work / "train.jsonl", place / "planted.jsonl", place / "key.json"
    if not data.is_file():
        typed("-m", "dpaudit", "plant", rows, "--out", data, "--key", key, *case.plant)
    adapter, control = place / f"adapter-{epochs}", place / f"control-{epochs}"
    seconds = trained(case, model, data, adapter, seed, epochs)
    if case.control:
        trained(case, model, data, control, seed + CONTROL_SEED, epochs)
    found = place / f"verification-{epochs}/verification.json"
    checked = rows if "--hold-out" in case.plant else data
    if not found.is_file():
        of_control = ("--control", control) if case.control else ()
        of_model = ("--adapter", adapter, "--base", model, *of_control)
        of_claim = ("--key", key, "--data", checked, "--claim", case.claim, "--out", found.parent)
        typed("-m", "dpaudit", "verify", *of_model, *of_claim, expected=EXIT_CODES)
    return told(json.loads(found.read_text(encoding="utf-8"))) | {
        "rows_planted": sum(1 for _ in data.open(encoding="utf-8")),
        "training_seconds": seconds,
    }


def told(found: dict[str, Any]) -> dict[str, Any]:
    """What one verification says that a reader of the benchmark needs."""
    (answer,), (asked,) = found["answers"], found["models"]
    (question,), bound, visible = answer["questions"], answer["bound"], found["key"]["visibility"]
    control = asked["control"] or {}
    return {
        "verdict": answer["verdict"],
        **{name: question[name] for name in ("p_value", "level", "power")},
        **{name: bound[name] for name in ("epsilon_lower", "ceiling", "canaries", "guesses", "correct")},
        "rendering": asked["rule"]["rendering"],
        "recipe": asked["rule"]["recipe"],
        "auc": asked["performance"]["auc"],
        "visible_auc": visible and visible["auc"],
        "control_correct": control.get("correct"),
        "gain": control.get("gain_audited"),
        "control_gain": control.get("gain"),
    }


def trained(case: Case, model: str, data: Path, out: Path, seed: int, epochs: int) -> float:
    """Seconds of one training, of this call or of the one that made it."""
    noted = out.with_suffix(".seconds")
    if not noted.is_file():
        script, begun = Path(__file__).with_name("stranger.py"), time.monotonic()
        words = ("--model", model, "--data", data, "--out", out, "--seed", seed, "--epochs", epochs)
        typed(script, *words, "--dtype", "float32", *case.train)
        noted.write_text(f"{time.monotonic() - begun:.0f}", encoding="utf-8")
    return float(noted.read_text(encoding="utf-8"))


def typed(*words: object, expected: tuple[int, ...] = (0,)) -> None:
    """Runs `python WORDS`. Ends the benchmark for an exit code that is not expected."""
    code = subprocess.run([sys.executable, *map(str, words)], check=False).returncode
    if code not in expected:
        raise SystemExit(f"{words[0]} {words[1]}: exit code {code}")


if __name__ == "__main__":
    main()
