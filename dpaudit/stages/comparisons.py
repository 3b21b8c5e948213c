"""All models of a run compared, on benchmarks and on held-out text, from what each of them answered."""

from collections.abc import Mapping, Sequence

from dpaudit.data.corpus import Record
from dpaudit.findings.quality import (
    BASE,
    Comparison,
    Comparisons,
    Degraded,
    Item,
    MeasureChange,
    Measured,
    TasksAsked,
    Trend,
)
from dpaudit.judging import cautions, losses, measures, quality
from dpaudit.stages import contaminated
from dpaudit.stages.benchmarks import TASKS
from dpaudit.stats.margins import fewest_clusters
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan


def read_all(run_dir: RunDir, trained: Sequence[Arm]) -> dict[str, Measured]:
    """What the base and every trained arm answered."""
    names = (BASE, *(arm.name for arm in trained))
    return {name: Measured.read(run_dir, output(name)) for name in names}


def summary(run_dir: RunDir, plan: Plan, trained: Sequence[Arm]) -> Comparisons:
    """Every pair of models, every ladder of arms and every control, on benchmarks and on held-out text."""
    evaluations = read_all(run_dir, trained)
    pairs, ladders = quality.references(trained), quality.ladders(trained)
    margin = plan.suite.evaluation.loss_tested
    accuracies: list[Comparison] = []
    others: list[Comparison] = []
    trends: list[Trend] = []
    controls: list[Degraded] = []
    for task in TasksAsked.read(run_dir, TASKS).tasks:
        answers = {name: evaluation.items[task] for name, evaluation in evaluations.items()}
        if not answers[BASE]:
            continue
        accuracies += losses.accuracy_pairs(task, answers, pairs, margin)
        others += quality.log_odds_pairs(task, answers, pairs)
        controls += _controls(run_dir, task, answers, trained, margin)
        for ladder in ladders:
            trends += quality.task_trends(task, answers, ladder)
    if evaluations[BASE].heldout:
        patients = clusters(heldout(run_dir))
        texts = {name: evaluation.heldout for name, evaluation in evaluations.items()}
        others += quality.bits_pairs(texts, pairs, patients)
        for ladder in ladders:
            trends += quality.bits_trends(texts, ladder, patients)
    figures = {
        name: {row.task: row for row in evaluation.quality.tasks} for name, evaluation in evaluations.items()
    }
    return Comparisons(
        margin=margin,
        is_wide=cautions.is_wide(margin),
        is_default=plan.suite.evaluation.margin is None,
        fewest=fewest_clusters(margin),
        family=len(accuracies),
        confidence=quality.CONFIDENCE,
        pairs=(
            *losses.conclude(accuracies, figures, controls, margin, contaminated.shares(run_dir)),
            *others,
        ),
        trend=tuple(trends),
        controls=tuple(controls),
        measures=_changes(run_dir, evaluations, pairs),
    )


def _changes(
    run_dir: RunDir, evaluations: Mapping[str, Measured], pairs: Sequence[tuple[str, str]]
) -> tuple[MeasureChange, ...]:
    """Measures beside right and wrong, of the benchmarks whose items are there."""
    there = TasksAsked.read(run_dir, TASKS).tasks
    return measures.compared(
        [row for row in evaluations[BASE].quality.measures if row.task in there],
        {name: one.scores for name, one in evaluations.items()},
        pairs,
        contaminated.shares(run_dir),
    )


def _controls(
    run_dir: RunDir,
    task: str,
    answers: Mapping[str, Sequence[Item]],
    trained: Sequence[Arm],
    margin: float,
) -> list[Degraded]:
    """What the degraded arm answered, against the same arm as it is; the base is the arm with nothing of its
    adapter.
    """
    arm = losses.degradable(trained)
    if arm is None:
        return []
    half = Measured.read(run_dir, output(arm.name + losses.HALF)).items[task]
    by_factor = dict(zip(losses.FACTORS, (half, answers[BASE]), strict=True))
    return losses.controls(task, arm.name, answers[arm.name], by_factor, margin)


def output(name: str) -> str:
    """The file that holds what a model answered."""
    return f"evaluate/{name}.json"


def heldout(run_dir: RunDir) -> list[Record]:
    """The records that no arm is trained on."""
    return [Record.from_json(row) for row in run_dir.read_lines("corpus/heldout.jsonl")]


def clusters(records: Sequence[Record]) -> dict[str, str]:
    """Record id -> what it is one draw with."""
    return {record.id: record.patient or record.id for record in records}
