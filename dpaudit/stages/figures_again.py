"""Figures of stages evaluate and judge, and what ledgers spend, once more: made again from the answers and
replies that a run keeps, in a copy of the run that `report verify` works in. No model is loaded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.findings.contamination import Contamination
from dpaudit.findings.judgement import Judgement
from dpaudit.findings.preferences import Preferences
from dpaudit.findings.quality import Measured, MeasureFigures, Quality, Score
from dpaudit.findings.together import Together
from dpaudit.judging import losses, measures, quality
from dpaudit.stages import comparisons, contaminated, declared, judge, preferences
from dpaudit.stages.audit.repeats import SUMMARY as AUDITED
from dpaudit.stages.evaluate import SUMMARY
from dpaudit.stages.integrity import weights
from dpaudit.stages.judge_replies import REPLIES, Way
from dpaudit.stages.report import CLAIMS
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

Made = Callable[[], str | None]  # makes a file again; says in words why that is not possible
Kept = Mapping[str, Mapping[str, Any]]  # place of a file -> what it holds now
QUIET = Progress(quiet=True)
OWN = ("evaluate/tasks.json", "evaluate/tries.json")  # what was asked, and when: raw records


def makers(run_dir: RunDir, plan: Plan, kept: Kept) -> dict[str, Made]:
    """For each of these files of evaluate/ and judge/, and audit/claims.json, how it is made again, in the
    order in which they rest on each other.
    """
    order = [CLAIMS, contaminated.FILE, SUMMARY, preferences.FILE, judge.PASSPORT, judge.SUMMARY]
    models = [file for file in kept if file.startswith("evaluate/") and file not in (*order, *OWN)]
    wanted = [CLAIMS, *sorted(models), *order[1:]]
    replayed = cache(lambda: _judge(run_dir, plan, kept.get(judge.SUMMARY)))
    return {file: _maker(run_dir, plan, file, kept[file], replayed) for file in wanted if file in kept}


def _maker(run_dir: RunDir, plan: Plan, file: str, kept: Mapping[str, Any], replayed: Made) -> Made:
    def make() -> str | None:
        if file == CLAIMS:
            found = Together.read(run_dir, AUDITED)
            declared.of_summary(run_dir, found).write(run_dir, CLAIMS, kept["inputs"])
        elif file == contaminated.FILE:
            _contamination(run_dir, kept)
        elif file == SUMMARY:
            arms = _arms(plan, kept)
            comparisons.summary(run_dir, plan, arms).write(run_dir, SUMMARY, kept["inputs"])
        elif file == preferences.FILE:
            _preferences(run_dir, plan, kept)
        elif file in (judge.PASSPORT, judge.SUMMARY):
            return replayed()
        else:
            _measured(run_dir, file, kept)
        return None

    return make


def _finding(cls: Any, kept: Mapping[str, Any], file: str) -> Any:
    return cls.from_json(dict(kept), file)


def _arms(plan: Plan, kept: Mapping[str, Any]) -> list[Arm]:
    """The arms whose figures a file was made from."""
    inputs = kept["inputs"]
    return [arm for arm in plan.suite.grid.arms if comparisons.output(arm.name) in inputs]


# ---- evaluate


def _measured(run_dir: RunDir, file: str, kept: Mapping[str, Any]) -> None:
    """The figures of one model from its answers item by item."""
    known: Measured = _finding(Measured, kept, file)
    replace(known, quality=_quality(run_dir, known)).write(run_dir, file, kept["inputs"])


def _quality(run_dir: RunDir, known: Measured) -> Quality:
    found = known.quality
    texts: Sequence[Record] = [] if found.arm.endswith(losses.HALF) else comparisons.heldout(run_dir)
    return replace(
        found,
        tasks=tuple(
            quality.accuracy_figures(row.task, known.items[row.task], row.chance, row.left_out)
            for row in found.tasks
        ),
        bits_per_byte=quality.bits_figures(known.heldout, comparisons.clusters(texts)),
        heldout_left_out=len(texts) - len(known.heldout),
        heldout_cut=sum(row.cut > 0 for row in known.heldout),
        measures=tuple(_measure(row, known.scores.get(row.task, {})) for row in found.measures),
    )


def _measure(row: MeasureFigures, scores: Mapping[str, tuple[Score, ...]]) -> MeasureFigures:
    """One measure; as it stands where no item has a score of its own."""
    rows = scores.get(row.measure, ())
    if not rows:
        return row
    found = measures.Measured(row.measure, rows, row.higher_is_better, None, row.alone, row.is_share)
    return measures.figures(row.task, found, len(rows), row.left_out, row.cut)


def _contamination(run_dir: RunDir, kept: Mapping[str, Any]) -> None:
    """Accuracies without the items that were found; that they were found rests on the file's hash."""
    known: Contamination = _finding(Contamination, kept, contaminated.FILE)
    answers = [file for file in kept["inputs"] if file.startswith("evaluate/") and file not in OWN]
    measured = {found.quality.arm: found for found in (Measured.read(run_dir, file) for file in answers)}
    rows = (
        replace(
            row,
            looked_for=row.items - row.too_short,
            found=len(row.ids),
            models=contaminated.without_them(row.task, set(row.ids), measured),
        )
        for row in known.tasks
    )
    replace(known, tasks=tuple(rows)).write(run_dir, contaminated.FILE, kept["inputs"])


def _preferences(run_dir: RunDir, plan: Plan, kept: Mapping[str, Any]) -> None:
    """What models prefer, and how that changed, from their log-probabilities of every pair."""
    known: Preferences = _finding(Preferences, kept, preferences.FILE)
    arms = _arms(plan, kept)
    asked = len(run_dir.read_lines(preferences.PAIRS))
    compared = preferences.compared_arms(plan, arms)
    results = preferences.results_of(run_dir, compared, known.pairs, asked)
    whole = replace(results, incomparable=tuple(preferences.incomparable(plan, arms)))
    replace(known, results=whole).write(run_dir, preferences.FILE, kept["inputs"])


# ---- judge


def _judge(run_dir: RunDir, plan: Plan, kept: Mapping[str, Any] | None) -> str | None:
    """Passport, verdicts and win rates from the replies that were kept."""
    if kept is None:
        return "no verdicts of this judge are there, and the page shows no passport alone"
    known: Judgement = _finding(Judgement, kept, judge.SUMMARY)
    why = _no_replay(run_dir, plan, known)
    if why is None:
        judge.run(run_dir, plan, QUIET, way=Way(is_offline=True))
    return why


def _no_replay(run_dir: RunDir, plan: Plan, known: Judgement) -> str | None:
    """Why nothing can be judged again offline; None where it can."""
    settings = plan.suite.judging
    if settings is None or known.asked is None or not run_dir.file(REPLIES).is_file():
        return "no replies of its judge are kept"
    if seal_key(run_dir.path) is None:
        return "the key of the run's seals is not here, and replies are read by it alone"
    try:
        rules = judge.rules_of(plan.suite, settings)
    except UsageError:
        return f"there is no rubric {settings.rubric} here"
    if json.loads(json.dumps(asdict(rules))) != run_dir.read_json(judge.RUBRIC)["rubric"]:
        return f"the rubric {settings.rubric} is not the one that was judged by"
    try:
        weights.require_base(run_dir, plan)
    except UsageError:
        return f"the base model is not here as it was: {plan.suite.model.base}"
    return None
