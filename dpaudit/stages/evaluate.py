"""Stage evaluate: benchmarks and held-out bits per byte of the base and every trained arm, and arms compared
in pairs.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpaudit.data.corpus import Record
from dpaudit.findings.finding import format_of
from dpaudit.findings.quality import (
    BASE,
    Asking,
    Comparisons,
    HeldOut,
    Measured,
    Quality,
    TaskAsked,
    TasksAsked,
)
from dpaudit.judging import cautions, losses, measures, quality
from dpaudit.schema import plain
from dpaudit.stages import benchmarks, comparisons, contaminated, preferences, tries
from dpaudit.stages.benchmarks import TASKS
from dpaudit.stages.comparisons import clusters, heldout, output
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.storage.answer_log import AnswerLog
from dpaudit.storage.disk import remove
from dpaudit.storage.exclusive import alone
from dpaudit.storage.remedies import missing
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Advance, Progress

if TYPE_CHECKING:
    from dpaudit.models.harness import Answers
    from dpaudit.models.hf_model import HFModel

SUMMARY = "evaluate/summary.json"
SETTINGS = declarations.input_of("evaluation")


@alone("evaluate")
def run(run_dir: RunDir, plan: Plan, progress: Progress) -> None:
    """Writes evaluate/ARM.json for the base and every trained arm, and evaluate/summary.json.

    Outputs hold ids and numbers, never a text. A task whose items are not there is left out with a line.
    Raises UsageError where no arm is trained.
    """
    trained = require_ready(run_dir, plan)
    if lacking := [arm.name for arm in plan.suite.grid.arms if arm not in trained]:
        progress.say(f"note: not measured, since not trained yet: {', '.join(lacking)}")
    for line in cautions.of_margin(plan.suite.evaluation.loss_tested):
        progress.say(line)
    files = benchmarks.write_tasks(run_dir, plan, progress)
    names = [BASE, *(arm.name for arm in trained)]
    models = [*names, *_degraded(run_dir, trained)]
    base = weights.of_base(plan.suite.model.base)
    pending = [name for name in models if not _is_current(run_dir, name, base)]
    with benchmarks.read_once(run_dir, files) as tasks:
        if pending:
            with run_dir.read_now(dict.fromkeys(file for name in pending for file in _weights(name))):
                _evaluate(run_dir, plan, pending, tasks, base, progress)
        for line in tries.keep(
            run_dir, TasksAsked.read(run_dir, TASKS), comparisons.read_all(run_dir, trained)
        ):
            progress.say(line)
        contaminated.run(run_dir, plan, names, tasks, progress)
    for name in models:
        remove(_log_file(run_dir, name))
    made_from = [*map(output, models), TASKS, SETTINGS]
    if not Comparisons.is_current(run_dir, SUMMARY, made_from):
        comparisons.summary(run_dir, plan, trained).write(run_dir, SUMMARY, made_from)
    preferences.run(run_dir, plan, trained, base, progress)
    for line in _cautions(run_dir, trained):
        progress.say(line)


def require_ready(run_dir: RunDir, plan: Plan) -> list[Arm]:
    """The trained arms. Raises UsageError where there is none, or where a file of the run or the base
    was exchanged.
    """
    trained = trained_arms(run_dir, plan)
    custody.require(run_dir, plan)
    weights.require_base(run_dir, plan)
    return trained


def trained_arms(run_dir: RunDir, plan: Plan) -> list[Arm]:
    """The arms of the plan whose adapters exist. Raises UsageError where there is none."""
    planned = plan.suite.grid.arms
    trained = [arm for arm in planned if run_dir.file(weights_of(arm.name)).is_file()]
    if not trained:
        raise missing(run_dir.file(weights_of(planned[0].name) if planned else "train"))
    return trained


def inputs(name: str) -> list[str]:
    """What evaluate/NAME.json is made from. The manifest holds keyed digests of the private files."""
    return [*_weights(name), SETTINGS, TASKS]


def _weights(name: str) -> list[str]:
    return ["plan.json", "corpus/manifest.json", *([] if name == BASE else [weights_of(_adapter(name))])]


def _adapter(name: str) -> str:
    """The arm whose adapter a model has, whole or degraded."""
    return name.removesuffix(losses.HALF)


def _degraded(run_dir: RunDir, trained: Sequence[Arm]) -> list[str]:
    """The model that shows which loss a benchmark can see: a non-private arm with half of its adapter."""
    arm = losses.degradable(trained)
    is_asked = bool(TasksAsked.read(run_dir, TASKS).tasks)
    return [arm.name + losses.HALF] if arm and is_asked else []


def _is_current(run_dir: RunDir, name: str, base: dict[str, str]) -> bool:
    """Whether a model's figures are there and of these weights of the base."""
    if not Measured.is_current(run_dir, output(name), inputs(name)):
        return False
    return Measured.read(run_dir, output(name)).base == base


def _is_of_format(run_dir: RunDir, name: str) -> bool:
    """Whether a model's file is of this version: what another version measured is measured again."""
    return format_of(run_dir, output(name)) == Measured.FORMAT


def load_model(run_dir: RunDir, plan: Plan, names: Sequence[str]) -> "HFModel":
    """The base of the plan, loaded once, with the adapters of the named arms beside it."""
    from dpaudit.models.hf_model import HFModel

    model = HFModel.as_trained(plan.suite.model)
    for adapter in dict.fromkeys(_adapter(name) for name in names if name != BASE):
        model.add_adapter(adapter, run_dir.file(weights_of(adapter)).parent)
    return model


def heldout_bits(model: "HFModel", records: Sequence[Record], max_length: int) -> list[HeldOut]:
    """Bits over the answer tokens (closing tokens included) and bytes of the answers, record by record.

    A record of which no answer fits into `max_length` tokens has no bytes to divide by and is left out.
    """
    import numpy as np

    from dpaudit.models.encode import counted_mask, encode

    encoded = [encode(record.turns, model.tokenizer, max_length) for record in records]
    scores = model.token_scores(encoded, counted=[counted_mask(item.answer_mask) for item in encoded])
    rows = []
    for record, item, score in zip(records, encoded, scores, strict=True):
        nats = -score.logprob[np.array(item.answer_mask)].astype(np.float64).sum()
        if item.answer_bytes:
            rows.append(HeldOut(record.id, float(nats) / math.log(2), item.answer_bytes, item.lost))
    return rows


def _evaluate(
    run_dir: RunDir,
    plan: Plan,
    names: Sequence[str],
    loaded: benchmarks.Loaded,
    base: dict[str, str],
    progress: Progress,
) -> None:
    """Writes the figures of the named models. Answers of the same weights to the same tasks are kept, those
    of a command that was killed too.
    """
    tasks = TasksAsked.read(run_dir, TASKS).tasks
    asked = {task: _digest(how) for task, how in tasks.items()}
    known = {name: _known(run_dir, name, base) for name in names}
    wanted = {name: _unanswered(known[name], asked) for name in names}
    open_names = [name for name in names if wanted[name] or known[name] is None]
    for name in names:
        if name not in open_names and (evaluation := known[name]) is not None:
            _of_asked(evaluation, asked).write(run_dir, output(name), inputs(name))
    if not open_names:
        return
    records = heldout(run_dir)
    steps = sum(len(wanted[name]) + 1 for name in open_names)
    with progress.task("evaluating", steps) as advance:
        if any(wanted.values()):
            loaded()  # first: what a benchmark lacks is told before a model is loaded
        model = load_model(run_dir, plan, open_names)
        hows = {task: how.how for task, how in tasks.items()}
        ask = _asker(model, loaded, plan, hows, advance) if any(wanted.values()) else None
        for name in open_names:
            is_half = name != _adapter(name)  # it answers benchmarks and nothing else
            texts = [] if is_half else records
            with model.active(
                None if name == BASE else _adapter(name), losses.FACTORS[0] if is_half else 1.0
            ):
                logs = {task: _log(run_dir, name, base, asked[task]) for task in wanted[name]}
                answers = ask(logs) if ask else {}
                rows = _heldout_rows(known[name])
                if texts and not rows:
                    rows = heldout_bits(model, texts, plan.suite.model.max_length)
            advance()
            now = _evaluation(name, answers, rows, texts, base)
            whole = _of_asked(_together(known[name], now), asked)
            whole.write(run_dir, output(name), inputs(name))


def _log(run_dir: RunDir, name: str, base: dict[str, str], how: str) -> AnswerLog | None:
    """Where a model's answers to one benchmark are kept until all are there; None without the run's key."""
    key = seal_key(run_dir.path)
    made_from = json.dumps([name, run_dir.digests(_weights(name)), base], sort_keys=True)
    return AnswerLog(_log_file(run_dir, name), key, [made_from, how]) if key else None


def _log_file(run_dir: RunDir, name: str) -> Path:
    """Hidden, as what a killed command leaves: readers of results pass it by."""
    return run_dir.file(f"evaluate/.{name}.answers")


def _digest(how: TaskAsked) -> str:
    return hashlib.sha256(json.dumps(plain(how), sort_keys=True).encode()).hexdigest()[:32]


def _known(run_dir: RunDir, name: str, base: dict[str, str]) -> Measured | None:
    """What evaluate/NAME.json holds on the present weights, whatever was asked; None where it has nothing."""
    if not run_dir.file(output(name)).is_file() or not _is_of_format(run_dir, name):
        return None
    read = run_dir.recorded_inputs(output(name))
    same = all(file in read and read[file] == run_dir.digest(file) for file in _weights(name))
    evaluation = Measured.read(run_dir, output(name))
    return evaluation if same and evaluation.base == base else None


def _unanswered(known: Measured | None, asked: Mapping[str, str]) -> list[str]:
    """The tasks that a model did not answer yet, or was asked in another way."""
    answered = {} if known is None else known.asked
    return [task for task, digest in asked.items() if task not in answered or answered[task] != digest]


def _heldout_rows(known: Measured | None) -> list[HeldOut]:
    return [] if known is None else list(known.heldout)


def _evaluation(
    name: str,
    answers: "Mapping[str, Answers]",
    rows: Sequence[HeldOut],
    records: Sequence[Record],
    base: dict[str, str],
) -> Measured:
    """What a model answered now."""
    tasks = [
        quality.accuracy_figures(task, answer.items, answer.chance, answer.left_out)
        for task, answer in answers.items()
        if answer.items
    ]
    scored = [
        measures.figures(task, found, answer.asked, answer.left_out, answer.cut)
        for task, answer in answers.items()
        for found in answer.scores
    ]
    bits = quality.bits_figures(rows, clusters(records))
    cut = sum(row.cut > 0 for row in rows)
    figures = Quality(name, tuple(tasks), bits, len(records) - len(rows), cut, tuple(scored))
    items = {task: tuple(answer.items) for task, answer in answers.items()}
    scores = {
        task: {found.name: found.rows for found in answer.scores if found.rows}
        for task, answer in answers.items()
    }
    return Measured(figures, items, scores, tuple(rows), base, asked={})


def _together(known: Measured | None, now: Measured) -> Measured:
    """What is known of a model with what it answered now, which goes before."""
    if known is None:
        return now
    again = now.items.keys()
    tasks = [row for row in known.quality.tasks if row.task not in again]
    scored = [row for row in known.quality.measures if row.task not in again]
    figures = replace(
        now.quality,
        tasks=(*tasks, *now.quality.tasks),
        measures=(*scored, *now.quality.measures),
    )
    items, scores = known.items | now.items, known.scores | now.scores
    return replace(now, quality=figures, items=items, scores=scores, asked=known.asked)


def _of_asked(evaluation: Measured, asked: Mapping[str, str]) -> Measured:
    """A model's figures of the tasks that are asked for, in that order, then of those that it answered before
    and whose items are not there any more.
    """
    found = evaluation.quality
    order = [*asked, *(task for task in evaluation.items if task not in asked)]
    figures = replace(
        found,
        tasks=tuple(row for task in order for row in found.tasks if row.task == task),
        measures=tuple(row for task in order for row in found.measures if row.task == task),
    )
    return replace(
        evaluation,
        quality=figures,
        items={task: evaluation.items[task] for task in order},
        scores={task: evaluation.scores[task] for task in order},
        asked=evaluation.asked | dict(asked),
    )


def _asker(
    model: "HFModel",
    loaded: benchmarks.Loaded,
    plan: Plan,
    hows: Mapping[str, Asking],
    advance: Advance,
) -> "Callable[[Mapping[str, AnswerLog | None]], dict[str, Answers]]":
    """A function that has the active model answer named tasks, each as `hows` says and with its log."""
    from dpaudit.models import harness

    tasks, lm = loaded(), harness.harness_model(model, plan.suite.evaluation.batch)

    def ask(logs: "Mapping[str, AnswerLog | None]") -> dict[str, harness.Answers]:
        answers = {}
        for name, log in logs.items():
            answers[name] = harness.answer(lm, name, tasks[name], hows[name], log)
            advance()
        return answers

    return ask


def _cautions(run_dir: RunDir, trained: Sequence[Arm]) -> Iterator[str]:
    """What is to be said of the figures beside them."""
    models = {name: found.quality for name, found in comparisons.read_all(run_dir, trained).items()}
    yield from cautions.of_cut_prompts(
        {name: (*found.tasks, *found.measures) for name, found in models.items()}
    )
    yield from cautions.of_heldout(list(models.values()))
    yield from contaminated.cautions(run_dir)
