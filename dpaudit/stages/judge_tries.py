"""The history of a run's judges, in stage judge: every passport that was made stays."""

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime

from dpaudit.findings.finding import format_of
from dpaudit.findings.judge_tries import JudgeTries, JudgeTry
from dpaudit.findings.judgement import Asked, Passport
from dpaudit.judging import names
from dpaudit.judging.rubric import Rubric
from dpaudit.storage.rundir import RunDir

FILE = "judge/tries.json"
WAY_TO_SERVER = ("base_url", "api_key_env", "timeout", "retries", "max_tokens_as")  # decides no verdict


def of(run_dir: RunDir) -> tuple[JudgeTry, ...]:
    """The tries so far; empty where another version counted them."""
    if not run_dir.file(FILE).is_file() or format_of(run_dir, FILE) != JudgeTries.FORMAT:
        return ()
    return JudgeTries.read(run_dir, FILE).tries


def keep(run_dir: RunDir, rules: Rubric, passport: Passport, asked: Asked | None) -> None:
    """Adds a passport to judge/tries.json, once for each rubric, model and outcome."""
    before = of(run_dir)
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
    )
    if all((one.digest, one.fit, one.reasons) != (made.digest, made.fit, made.reasons) for one in before):
        JudgeTries((*before, made)).write(run_dir, FILE)


def current(run_dir: RunDir, rules: Rubric) -> JudgeTry | None:
    """The last try of a rubric with its model."""
    return next((one for one in reversed(of(run_dir)) if one.digest == digest(rules)), None)


def digest(rules: Rubric) -> str:
    """Of what decides a judge's verdicts and its passport."""
    decides = {key: value for key, value in asdict(rules).items() if key not in WAY_TO_SERVER}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
