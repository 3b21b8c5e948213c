"""Benchmark items beside the training text, in stage evaluate: which stand in it, and what remains without
them.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence

from dpaudit.data import contamination
from dpaudit.findings.contamination import Contamination, TaskContamination, WithoutThem
from dpaudit.findings.quality import Measured, TasksAsked
from dpaudit.judging import quality
from dpaudit.stages.benchmarks import TASKS, Loaded
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

FILE = "evaluate/contamination.json"
FEWEST = 10  # items of an accuracy


def run(run_dir: RunDir, plan: Plan, names: Sequence[str], loaded: Loaded, progress: Progress) -> None:
    """Writes evaluate/contamination.json: ids and numbers, no text."""
    made_from = ["corpus/manifest.json", TASKS, *(f"evaluate/{name}.json" for name in names)]
    tasks = TasksAsked.read(run_dir, TASKS).tasks
    if not tasks or Contamination.is_current(run_dir, FILE, made_from):
        return
    with progress.task("comparing items with training text"):
        from dpaudit.models.item_texts import texts_of

        texts = {
            (task, name): said
            for task, of in loaded().items()
            for name, said in texts_of(of, tasks[task].how.limit).items()
        }
        keyed = {json.dumps(key): (*said.own, said.whole) for key, said in texts.items()}
        found = {tuple(json.loads(key)) for key in contamination.contaminated(keyed, training_texts(run_dir))}
    short = {key for key, said in texts.items() if not contamination.can_be_found(said.own)} - found
    measured = {name: Measured.read(run_dir, f"evaluate/{name}.json") for name in names}
    parts = [
        _task(
            task,
            [name for of, name in texts if of == task],
            {name for of, name in found if of == task},
            sum(of == task for of, _ in short),
            measured,
        )
        for task in tasks
    ]
    Contamination(contamination.WIDTH, contamination.SHARE, tuple(parts)).write(run_dir, FILE, made_from)


def cautions(run_dir: RunDir) -> Iterator[str]:
    """For a terminal: of each benchmark how many items stand in the training text, and what was not looked
    at.
    """
    if not run_dir.file(FILE).is_file():
        return
    for row in Contamination.read(run_dir, FILE).tasks:
        yield f"{'warning' if row.found else 'note'}: {said(row)}"


def said(row: TaskContamination) -> str:
    """The sentence for one benchmark."""
    short = f"; {row.too_short:,} are too short to look for" if row.too_short else ""
    if not row.looked_for:
        return (
            f"{row.task}: whether its items stand in the training text is not known: all {row.items:,} are "
            f"too short to look for"
        )
    counted = f"{row.found:,} of {row.looked_for:,} items"
    which = " that could be looked for" if row.too_short else ""
    verb = "stand in the training text"
    means = (
        "their answers may have been read and not known; the page gives accuracy without them"
        if row.found
        else "what the base model was pretrained on was not looked at"
    )
    return f"{row.task}: {counted}{which} {verb}{short}; {means}"


def shares(run_dir: RunDir) -> dict[str, float]:
    """Benchmark -> of the items that could be looked for, the share that stands in the training text; empty
    without a benchmark.
    """
    if not run_dir.file(FILE).is_file():
        return {}
    return {row.task: row.share for row in Contamination.read(run_dir, FILE).tasks}


def _task(
    task: str, items: Sequence[str], found: set[str], too_short: int, measured: Mapping[str, Measured]
) -> TaskContamination:
    ids = tuple(item for item in items if item in found)
    return TaskContamination(
        task,
        len(items),
        len(items) - too_short,
        too_short,
        len(ids),
        ids,
        without_them(task, found, measured),
    )


def without_them(
    task: str, found: Collection[str], measured: Mapping[str, Measured]
) -> tuple[WithoutThem, ...]:
    """Every model's accuracy without the items that were found, where enough items remain."""
    models = []
    for name, evaluation in measured.items():
        whole = next((row for row in evaluation.quality.tasks if row.task == task), None)
        rest = [item for item in evaluation.items[task] if item.id not in found]
        if whole and len(rest) >= FEWEST:
            clean = quality.accuracy_figures(task, rest, whole.chance)
            models.append(
                WithoutThem(
                    name,
                    len(rest),
                    whole.accuracy,
                    clean.accuracy,
                    clean.accuracy_lower,
                    clean.accuracy_upper,
                )
            )
    return tuple(models)


def training_texts(run_dir: RunDir) -> Iterator[str]:
    """The texts that arms train on, whichever way coins fell: canaries aside, each text by itself."""
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if row["kind"] == "canary":
            continue
        for record in (*row.get("records", ()), *row.get("pairs", ()), *row.get("texts", ())):
            turns = [turn["text"] for turn in record.get("turns", ())]
            yield " ".join(turns)
            yield from filter(None, (record.get(key) for key in ("chosen", "rejected", "text")))
