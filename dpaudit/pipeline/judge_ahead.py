"""What the judge of a run will be asked, before anything is trained."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.pipeline import needs
from dpaudit.stages import judge_forecast
from dpaudit.stages.judge_replies import Way
from dpaudit.stages.train.forecast import Forecast
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

CALLS = ("controls", "calls_for_controls", "calls_for_answers", "unwritten")
TOKENS = ("tokens_in", "tokens_out_at_most", "asked_where")


def rows(plan: Plan, found: Forecast, run_dir: RunDir | None) -> tuple[list[dict[str, Any]], list[str]]:
    """One row, and what is not known; none without a judge. `unwritten` answers are written for it, `calls`
    are for planted faults and, where the judge passes them, for answers; tokens are those of all calls.
    """
    settings = plan.suite.judging
    if settings is None:
        return [], []
    if run_dir is None:
        return [], ["calls of the judge: no corpus is drawn under training.population"]
    try:
        told = judge_forecast.ahead(run_dir, plan, settings, [job.arm for job in found.jobs])
    except UsageError as error:
        return [], [f"calls of the judge: {error}"]
    every = asdict(told)
    shown = {key: every[key] for key in (*CALLS, *TOKENS)}
    return [{"rubric": settings.rubric, **shown, "few": told.not_tested}], []


def warnings(plan: Plan, allow_egress: Sequence[str]) -> list[str]:
    """What `run` would end with before training for its judge, if it would."""
    try:
        needs.check_judge(plan.suite, Way(allow_egress))
    except UsageError as error:
        return [f"run would not begin: {line}" for line in str(error).splitlines()]
    return []
