"""The scorecard of a finished run: its models' answers to the judge's prompts, and the judge's win rates."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dpaudit.data.answer_files import Answer
from dpaudit.errors import UsageError
from dpaudit.findings.finding import format_of
from dpaudit.findings.judgement import Judgement
from dpaudit.findings.quality import BASE
from dpaudit.judging import facts, scorecard
from dpaudit.judging.scorecard import WIN, Figure
from dpaudit.judging.scored_files import reason
from dpaudit.stages import judge, judge_answers, judge_prompts
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan


def values(run_dir: RunDir, plan: Plan, arms: Sequence[str] | None = None) -> dict[str, Any]:
    """One scorecard a model, as one mapping. Nothing is generated and nobody is asked.

    Raises UsageError for a name of no trained arm, and where a model's answers are not there as it is now.
    """
    trained = [arm.name for arm in judge.require_ready(run_dir, plan)]
    names = [arm.name for arm in plan.suite.grid.named(arms, twins=False)] if arms else [BASE, *trained]
    rows = _answers(run_dir, plan, names)
    judgement, why = _judgement(run_dir)
    drug_names = facts.drugs_of_clinic() if plan.suite.data.source == judge_answers.CLINIC else ()
    figures, composites, aside = [], [], []
    for name in names:
        win, lacking = _win(judgement, name) if judgement else (None, why)
        card = scorecard.of(rows[name], win, drug_names=drug_names)
        figures += [{"arm": name, **asdict(figure)} for figure in card.figures]
        aside += [{"arm": name, **asdict(one)} for one in card.aside]
        composites.append(
            {
                "arm": name,
                "composite": card.composite.value,
                "reason": reason(card),
                "collapsed": card.collapsed,
                "win_rate": lacking,
            }
        )
    return {"scorecards": figures, "composites": composites, "set_aside_by_arm": aside, "notes": _notes()}


def _answers(run_dir: RunDir, plan: Plan, names: Sequence[str]) -> dict[str, list[Answer]]:
    """Model -> its answers with their references."""
    limit = judge_answers.limit_of(run_dir, plan)
    kept = judge_answers.kept_answers(run_dir, judge_answers.sources_of(run_dir, plan, names, limit))
    references = judge_answers.references_of(judge_prompts.heldout(run_dir))
    found: dict[str, list[Answer]] = {}
    for (name, prompt), row in kept.items():
        answer = Answer(prompt, row["answer"], references.get(prompt), is_member=False, is_cut=row["cut"])
        found.setdefault(name, []).append(answer)
    of_file = plan.suite.judging is not None and plan.suite.judging.criteria is not None
    command = of_run("dpaudit judge", run_dir.name) + " --set judging.criteria=null" * of_file
    for name in names:
        if name not in found:
            raise UsageError(
                str(run_dir.file(judge_prompts.ANSWERS)),
                f"answers of {name} as it is now to held-out prompts",
                "none",
                f"type `{command}`, which makes them",
            )
    return found


def _judgement(run_dir: RunDir) -> tuple[Judgement | None, str]:
    """What a fit judge said of the models as they are now; else why there is nothing."""
    file = judge.SUMMARY
    if not run_dir.file(file).is_file():
        return None, "no judge was asked"
    if not run_dir.is_current(file, run_dir.recorded_inputs(file)) or format_of(run_dir, file) != (
        Judgement.FORMAT
    ):
        return None, "what the judge said is out of date"
    found = Judgement.read(run_dir, file)
    return (found, "") if found.fit else (None, f"the judge {found.rubric} is not fit")


def _win(judgement: Judgement, name: str) -> tuple[Figure | None, str | None]:
    """The win rate against the base; else why it is left out."""
    if name == BASE:
        return None, "it is what the others are compared with"
    pair = next((pair for pair in judgement.pairs if (pair.arm, pair.against) == (name, BASE)), None)
    if pair is None or pair.win_rate is None:
        return None, "it was not compared with the base"
    said = ("against the base; higher is better", *pair.cautions)
    return Figure(WIN, pair.win_rate, pair.lower, pair.upper, pair.prompts, "; ".join(said)), None


def _notes() -> list[dict[str, str]]:
    lines = (
        "no figure here says anything about epsilon: dpaudit verify --run tests its claims",
        "the answers are to held-out prompts, on which no arm was trained: dpaudit attack tells what "
        "training gives away",
    )
    return [{"note": line} for line in lines]
