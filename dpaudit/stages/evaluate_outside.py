"""Benchmarks of a model that was trained elsewhere: nothing is trained, and no run is needed."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.content import listing, load_yaml
from dpaudit.errors import UsageError
from dpaudit.findings.outside import MeasuredOutside, OutsideModel
from dpaudit.findings.quality import Comparison, TaskFigures
from dpaudit.judging import cautions, losses, measures, quality
from dpaudit.judging.quality import BASE
from dpaudit.stages import audited, benchmarks, verify_kept
from dpaudit.stages.audited import Audited
from dpaudit.stats.margins import fewest_clusters
from dpaudit.storage import exclusive
from dpaudit.storage.whole_files import whole_file
from dpaudit.suite.suite import Evaluation
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.harness import Answers
    from dpaudit.models.hf_model import HFModel

FILE = "quality.json"
COMMAND = "dpaudit eval"


@dataclass(frozen=True)
class Request:
    """What is asked: a model with its base, and benchmarks with the files that hold their items."""

    model: Audited
    evaluation: Evaluation
    out: Path


def check(request: Request) -> None:
    """Raises UsageError, before anything is loaded, for a model that is not whole, for no benchmark or one
    that cannot be asked, and where another model's result would be lost.
    """
    audited.require(request.model, COMMAND)
    if not request.evaluation.tasks:
        raise UsageError(
            COMMAND,
            "a benchmark beside --adapter or --model",
            "no --task",
            "for example --task pubmedqa_file=items.jsonl",
        )
    benchmarks.check_tasks(request.evaluation.tasks, are_known=True)
    benchmarks.check_items(request.evaluation.tasks)
    for task in request.evaluation.tasks:
        if task.data is not None:  # items of builtin:clinic are those of a run
            benchmarks.digest_of_items(task)
    file = request.out / FILE
    if file.is_file():
        _check_earlier(request, file)


def _check_earlier(request: Request, file: Path) -> None:
    """Raises UsageError where a result that is there would be lost: that of another model, of a
    benchmark that is not asked for now, or of the same items asked otherwise.
    """
    way = "name another folder with --out DIR"
    try:
        known = MeasuredOutside.from_json(json.loads(file.read_text(encoding="utf-8")), str(file))
    except (ValueError, AttributeError, UsageError):
        raise UsageError(str(file), "a result of this version of dpaudit", "another file", way) from None
    if known.model.files != verify_kept.digest_of(request.model):
        raise UsageError(str(file), "no result of another model", "one", way)
    asked = {task.name: task for task in request.evaluation.tasks}
    dropped = [task for task in known.items[BASE] if task not in asked]
    if dropped:
        again = " ".join(f"--task {task}" for task in dropped)
        raise UsageError(
            str(file),
            "no result that this call would drop",
            f"that of {', '.join(dropped)}",
            f"{way}, or ask for it again beside the others: {again}",
        )
    data = {name: benchmarks.digest_of_items(task) for name, task in asked.items() if task.data}
    if known.how != benchmarks.asking(request.evaluation) or any(
        data.get(name) != digest for name, digest in known.data.items()
    ):
        raise UsageError(
            str(file), "a result of the same items and settings", "one of others, which would be lost", way
        )


def run(request: Request, progress: Progress) -> MeasuredOutside:
    """Writes OUT/quality.json and returns it: figures of the model and of its base, and both compared item by
    item. Raises UsageError as `check` and loading do.
    """
    check(request)
    for task in request.evaluation.tasks:
        if task.data:
            config = load_yaml(listing("suites/tasks")[task.name])
            for line in benchmarks.not_shared(task.name, config, Path(task.data)):
                progress.say(line)
    base = request.model.base_name()
    assert base is not None  # `check` refuses a model without one
    names = (BASE, request.model.name)
    with progress.task("evaluating", len(names) * len(request.evaluation.tasks)) as advance:
        answers = _answers(request, base, advance)
    found = _found(request, base, answers)
    for line in _cautions(found):
        progress.say(line)
    _write(found, request.out)
    return found


def _cautions(found: MeasuredOutside) -> Iterator[str]:
    yield from cautions.of_margin(found.margin)
    by_model: dict[str, list[cautions.Figures]] = {
        name: [*rows, *found.measures[name]] for name, rows in found.figures.items()
    }
    yield from cautions.of_cut_prompts(by_model)
    yield (
        f"note: whether items stand in the text that {found.model.name} or its base was trained on was not "
        f"looked at"
    )


def _found(request: Request, base: str, answers: "Mapping[str, Mapping[str, Answers]]") -> MeasuredOutside:
    figures = {
        name: tuple(
            quality.accuracy_figures(task, said.items, said.chance, said.left_out)
            for task, said in of.items()
            if said.items
        )
        for name, of in answers.items()
    }
    scored = {
        name: tuple(
            measures.figures(task, one, said.asked, said.left_out, said.cut)
            for task, said in of.items()
            for one in said.scores
        )
        for name, of in answers.items()
    }
    scores = {
        name: {task: {one.name: one.rows for one in said.scores if one.rows} for task, said in of.items()}
        for name, of in answers.items()
    }
    margin = request.evaluation.loss_tested
    return MeasuredOutside(
        model=OutsideModel(request.model.name, base, verify_kept.digest_of(request.model)),
        how=benchmarks.asking(request.evaluation),
        data={task.name: benchmarks.digest_of_items(task) for task in request.evaluation.tasks if task.data},
        margin=margin,
        fewest=fewest_clusters(margin),
        figures=figures,
        compared=tuple(_accuracies(request, answers, figures)),
        items={name: {task: said.items for task, said in of.items()} for name, of in answers.items()},
        measures=scored,
        changes=measures.compared(scored[BASE], scores, [(request.model.name, BASE)]),
        scores=scores,
    )


def _accuracies(
    request: Request,
    answers: "Mapping[str, Mapping[str, Answers]]",
    figures: Mapping[str, Sequence[TaskFigures]],
) -> Sequence[Comparison]:
    margin = request.evaluation.loss_tested
    found = [
        pair
        for task, said in answers[BASE].items()
        if said.items
        for pair in losses.accuracy_pairs(
            task, {name: of[task].items for name, of in answers.items()}, [(request.model.name, BASE)], margin
        )
    ]
    by_task = {name: {row.task: row for row in of} for name, of in figures.items()}
    return losses.conclude(found, by_task, (), margin)


def _answers(request: Request, base: str, advance: Any) -> "dict[str, dict[str, Answers]]":
    """Model -> task -> its answers; the base is loaded once where the audited model is an adapter."""
    from dpaudit.models import harness
    from dpaudit.models.hf_model import HFModel

    known, tasks = listing("suites/tasks"), request.evaluation.tasks
    specs = {task.name: load_yaml(known[task.name]) if task.data else None for task in tasks}
    files = {task.name: Path(task.data) for task in tasks if task.data}
    adapter, name = request.model.adapter, request.model.name
    with exclusive.scratch() as cache:
        loaded = harness.load_tasks(specs, benchmarks.prepared(specs, files, cache), cache, files)
        model = HFModel.load(base)
        if adapter is not None:
            model.add_adapter(name, adapter)
        said = {BASE: _asked(model, loaded, request.evaluation, None, advance)}
        if adapter is None:
            model = HFModel.load(str(request.model.model))
        said[name] = _asked(model, loaded, request.evaluation, name if adapter else None, advance)
    return said


def _asked(
    model: "HFModel", tasks: Mapping[str, Any], evaluation: Evaluation, adapter: str | None, advance: Any
) -> "dict[str, Answers]":
    from dpaudit.models import harness

    lm = harness.harness_model(model, evaluation.batch)
    answers = {}
    with model.active(adapter) if model.adapters else nullcontext():
        for name, task in tasks.items():
            answers[name] = harness.answer(lm, name, task, benchmarks.asking(evaluation))
            advance()
    return answers


def _write(found: MeasuredOutside, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}", "a folder to write in", "a folder without write permission")
    with whole_file(out / FILE) as part:
        part.write_text(json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def rows(found: MeasuredOutside) -> Sequence[dict[str, Any]]:
    """The lines of a terminal: each model on each benchmark."""
    accuracies = [row.row(name) for name, figures in found.figures.items() for row in figures]
    scored = [one.row(name) for name, figures in found.measures.items() for one in figures]
    return [*accuracies, *scored]
