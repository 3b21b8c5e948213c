"""Benchmarks of a model that was trained elsewhere: nothing is trained, and no run is needed."""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.content import listing, load_yaml
from dpaudit.errors import UsageError, unread
from dpaudit.findings.outside import MeasuredOutside, OutsideModel
from dpaudit.findings.quality import BASE, Comparison, TaskFigures
from dpaudit.judging import cautions, losses, measures, quality
from dpaudit.schema import plain
from dpaudit.stages import audited, benchmarks, verify_kept
from dpaudit.stages.audited import Audited
from dpaudit.stats.margins import fewest_clusters
from dpaudit.storage import exclusive
from dpaudit.storage.answer_log import AnswerLog
from dpaudit.storage.whole_files import PRIVATE, whole_file
from dpaudit.suite.suite import Evaluation
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.harness import Answers
    from dpaudit.models.hf_model import HFModel

FILE = "quality.json"
KEY, ANSWERS = ".answers.key", ".answers"  # of what a killed command leaves
OWN = "model"  # the role of the model that is not the base
COMMAND = "dpaudit eval"


@dataclass(frozen=True)
class Request:
    """What is asked: a model, with the base that it is compared with, and benchmarks with the files that hold
    their items.
    """

    model: Audited
    evaluation: Evaluation
    out: Path


def check(request: Request) -> None:
    """Raises UsageError, before anything is loaded, for a model that is not whole, for no benchmark or one
    that cannot be asked, and where another model's result would be lost.
    """
    audited.require(request.model, COMMAND, may_be_alone=True)
    _check_base(request.model)
    if not request.evaluation.tasks:
        raise UsageError(
            COMMAND,
            "a benchmark beside --adapter or --model",
            "no --task",
            "for example --task pubmedqa_file=items.jsonl",
        )
    benchmarks.check_tasks(request.evaluation.tasks)
    benchmarks.check_items(request.evaluation, request.evaluation.tasks)
    for task in request.evaluation.tasks:
        if task.data is not None:  # items of builtin:clinic are those of a run
            benchmarks.digest_of_items(task)
    file = request.out / FILE
    if file.is_file():
        _check_earlier(request, file)


def _check_base(model: Audited) -> None:
    """Raises UsageError for a model that would be compared with itself."""
    places = [Path(name).expanduser().resolve() for name in (model.model, model.base) if name is not None]
    if len(places) == 2 and places[0] == places[1]:
        raise UsageError(
            f"--base {model.base}",
            "another model than --model, to compare it with",
            "the same",
            "leave --base out to measure the model alone",
        )


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
    dropped = [task for task in known.items[known.model.name] if task not in asked]
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
    item; of a model without a base its figures alone. Raises UsageError as `check` and loading do.
    """
    check(request)
    for task in request.evaluation.tasks:
        if task.data:
            config = load_yaml(listing("suites/tasks")[task.name])
            for line in benchmarks.not_shared(task.name, config, Path(task.data)):
                progress.say(line)
    base = request.model.base_name()
    _make_folder(request.out)
    models = 1 if base is None else 2
    with progress.task("evaluating", models * len(request.evaluation.tasks)) as advance:
        answers = _answers(request, base, advance)
    found = _found(request, base, answers)
    for line in _cautions(found):
        progress.say(line)
    _write(found, request.out)
    _remove_logs(request.out)
    return found


def _cautions(found: MeasuredOutside) -> Iterator[str]:
    yield from cautions.of_margin(found.margin)
    by_model: dict[str, list[cautions.Figures]] = {
        name: [*rows, *found.measures[name]] for name, rows in found.figures.items()
    }
    yield from cautions.of_cut_prompts(by_model)
    models = f"{found.model.name}{' or its base' if found.model.base else ''}"
    yield f"note: whether items stand in the text that {models} was trained on was not looked at"
    if found.model.base is None:
        yield (
            "note: nothing is compared, since no --base was named: these figures do not tell what "
            "fine-tuning changed"
        )


def _found(
    request: Request, base: str | None, answers: "Mapping[str, Mapping[str, Answers]]"
) -> MeasuredOutside:
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
    pairs = [(request.model.name, BASE)] if base else []
    return MeasuredOutside(
        model=OutsideModel(request.model.name, base, verify_kept.digest_of(request.model)),
        how=benchmarks.asking(request.evaluation),
        data={task.name: benchmarks.digest_of_items(task) for task in request.evaluation.tasks if task.data},
        margin=margin,
        fewest=fewest_clusters(margin),
        figures=figures,
        compared=tuple(_accuracies(pairs, answers, figures, margin)),
        items={name: {task: said.items for task, said in of.items()} for name, of in answers.items()},
        measures=scored,
        changes=measures.compared(scored[request.model.name], scores, pairs),
        scores=scores,
    )


def _accuracies(
    pairs: Sequence[tuple[str, str]],
    answers: "Mapping[str, Mapping[str, Answers]]",
    figures: Mapping[str, Sequence[TaskFigures]],
    margin: float,
) -> Sequence[Comparison]:
    found = [
        pair
        for task, said in next(iter(answers.values())).items()
        if said.items
        for pair in losses.accuracy_pairs(
            task, {name: of[task].items for name, of in answers.items()}, pairs, margin
        )
    ]
    by_task = {name: {row.task: row for row in of} for name, of in figures.items()}
    return losses.conclude(found, by_task, (), margin)


def _answers(request: Request, base: str | None, advance: Any) -> "dict[str, dict[str, Answers]]":
    """Model -> task -> its answers; the base, if any, comes first, and is loaded once where the audited model
    is an adapter.
    """
    from dpaudit.models import harness
    from dpaudit.models.hf_model import HFModel

    known, tasks = listing("suites/tasks"), request.evaluation.tasks
    specs = {task.name: load_yaml(known[task.name]) if task.data else None for task in tasks}
    files = {task.name: Path(task.data) for task in tasks if task.data}
    adapter, name = request.model.adapter, request.model.name
    with exclusive.scratch() as cache:
        loaded = harness.load_tasks(specs, benchmarks.prepared(specs, files, cache), cache, files)
        logs, said = _Logs.of(request, specs), {}
        if base is not None:
            model = HFModel.load(base)
            if adapter is not None:
                model.add_adapter(name, adapter)
            said[BASE] = _asked(model, loaded, request.evaluation, None, logs.of_model(BASE), advance)
        if adapter is None:
            model = HFModel.load(str(request.model.model))
        active = name if adapter else None
        said[name] = _asked(model, loaded, request.evaluation, active, logs.of_model(OWN), advance)
    return said


@dataclass(frozen=True)
class _Logs:
    """Where answers are kept as they come, until all are there: a command that was killed goes on there."""

    out: Path
    key: bytes
    made_from: dict[str, str]  # benchmark -> what its answers depend on, the role of the model aside

    @classmethod
    def of(cls, request: Request, specs: Mapping[str, Any]) -> "_Logs":
        """The logs beside the result. Their key lies there too: it seals against lines of other weights or
        settings, not against people.
        """
        file = request.out / KEY
        if not file.is_file():
            file.touch(mode=PRIVATE)
            file.write_bytes(secrets.token_bytes(32))
        files, how = verify_kept.digest_of(request.model), plain(benchmarks.asking(request.evaluation))
        data = {task.name: benchmarks.digest_of_items(task) for task in request.evaluation.tasks if task.data}
        return cls(
            request.out,
            file.read_bytes(),
            {
                task: json.dumps([files, how, spec, data.get(task)], sort_keys=True)
                for task, spec in specs.items()
            },
        )

    def of_model(self, role: str) -> "dict[str, AnswerLog]":
        file = self.out / f".{role}{ANSWERS}"
        return {task: AnswerLog(file, self.key, [role, of]) for task, of in self.made_from.items()}


def _remove_logs(out: Path) -> None:
    for file in (KEY, f".{BASE}{ANSWERS}", f".{OWN}{ANSWERS}"):
        (out / file).unlink(missing_ok=True)


def _asked(
    model: "HFModel",
    tasks: Mapping[str, Any],
    evaluation: Evaluation,
    adapter: str | None,
    logs: "Mapping[str, AnswerLog]",
    advance: Any,
) -> "dict[str, Answers]":
    from dpaudit.models import harness

    lm = harness.harness_model(model, evaluation.batch)
    answers = {}
    with model.active(adapter) if model.adapters else nullcontext():
        for name, task in tasks.items():
            answers[name] = harness.answer(lm, name, task, benchmarks.asking(evaluation), logs[name])
            advance()
    return answers


def _make_folder(out: Path) -> None:
    """Raises UsageError, before anything is loaded, for a folder that nothing can be written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unread(f"--out {out}", "a folder to write in", error) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}", "a folder to write in", "a folder without write permission")


def _write(found: MeasuredOutside, out: Path) -> None:
    with whole_file(out / FILE) as part:
        part.write_text(json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def rows(found: MeasuredOutside) -> Sequence[dict[str, Any]]:
    """The lines of a terminal: each model on each benchmark."""
    accuracies = [row.row(name) for name, figures in found.figures.items() for row in figures]
    scored = [one.row(name) for name, figures in found.measures.items() for one in figures]
    return [*accuracies, *scored]
