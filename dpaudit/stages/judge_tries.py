"""The history of judges, in stage judge: every passport that was made stays."""

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime

from dpaudit.errors import UsageError
from dpaudit.findings.finding import format_of
from dpaudit.findings.judge_tries import JudgeTries, JudgeTry
from dpaudit.findings.judgement import Asked, Judgement, Passport
from dpaudit.judging import names
from dpaudit.judging.rubric import Rubric
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir

FILE, SUMMARY = "judge/tries.json", "judge/summary.json"
WAY_TO_SERVER = ("base_url", "api_key_env", "timeout", "retries", "max_tokens_as")  # decides no verdict


def of(run_dir: RunDir) -> tuple[JudgeTry, ...]:
    """The tries so far; empty where another version counted them."""
    if not run_dir.file(FILE).is_file() or format_of(run_dir, FILE) != JudgeTries.FORMAT:
        return ()
    return JudgeTries.read(run_dir, FILE).tries


def keep(run_dir: RunDir, rules: Rubric, passport: Passport, asked: Asked | None) -> None:
    """Adds a passport to judge/tries.json, once for each rubric, model and outcome."""
    before = of(run_dir)
    tries = with_passport(before, rules, passport, asked)
    if tries != before:
        JudgeTries(tries).write(run_dir, FILE)


def with_passport(
    before: tuple[JudgeTry, ...], rules: Rubric, passport: Passport, asked: Asked | None
) -> tuple[JudgeTry, ...]:
    """The tries with this passport as the last one, unless it is there already."""
    made = JudgeTry(
        rubric=rules.name,
        kind=rules.kind,
        model=names.told(rules),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        digest=digest(rules),
        fit=passport.fit,
        reasons=passport.reasons,
        untested=tuple(passport.untested),
        replies=asked.replies if asked else None,
        oldest=asked.oldest if asked else None,
        newest=asked.newest if asked else None,
        failed=asked.failed if asked else {},
    )
    is_new = all(
        (one.digest, one.fit, one.reasons) != (made.digest, made.fit, made.reasons) for one in before
    )
    return (*before, made) if is_new else before


def current(run_dir: RunDir, rules: Rubric) -> JudgeTry | None:
    """The last try of a rubric with its model."""
    return next((one for one in reversed(of(run_dir)) if one.digest == digest(rules)), None)


def other_rates(run_dir: RunDir, rules: Rubric) -> Judgement | None:
    """The win rates that are there and that another judge than this rubric's gave; None without any."""
    if not run_dir.file(SUMMARY).is_file() or format_of(run_dir, SUMMARY) != Judgement.FORMAT:
        return None
    found = Judgement.read(run_dir, SUMMARY)
    is_same = (found.rubric, found.model) == (rules.name, names.told(rules))
    return None if is_same or not found.fit else found


def require_own_rates(run_dir: RunDir, rules: Rubric) -> None:
    """Raises UsageError where a replay would take the place of another judge's win rates."""
    found = other_rates(run_dir, rules)
    if found is not None:
        command = of_run("dpaudit judge", run_dir.name)
        raise UsageError(
            f"{run_dir.name}: judge replay",
            f"the rubric of the win rates that are there, {found.rubric} (model {found.model})",
            f"{rules.name} (model {names.told(rules)}), which was validated since",
            f"`{command} --rubric {found.rubric}` goes back to it, `{command}` judges by {rules.name}",
        )


def digest(rules: Rubric) -> str:
    """Of what decides a judge's verdicts and its passport."""
    decides = {key: value for key, value in asdict(rules).items() if key not in WAY_TO_SERVER}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
