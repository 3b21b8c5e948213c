"""What a command says of a judge beside its figures: its model, whether it was asked now, what was not
tested, and which judges were tried before.
"""

from dpaudit.commands import outcomes
from dpaudit.commands.states import Row
from dpaudit.findings.judge_tries import JudgeTry
from dpaudit.findings.judgement import Judgement, Passport
from dpaudit.judging import names
from dpaudit.judging.rubric import Rubric
from dpaudit.stages import judge_tries
from dpaudit.storage.rundir import RunDir

SUMMARY, PASSPORT = "judge/summary.json", "judge/passport.json"


def of_run(run_dir: RunDir, asked_now: int) -> Row:
    """The win rates of a run and its judge; `asked_now` are the replies that came in this command."""
    if not run_dir.file(SUMMARY).is_file():
        return {}
    return of(Judgement.read(run_dir, SUMMARY), asked_now) | tried(run_dir)


def of(judgement: Judgement, asked_now: int) -> Row:
    """The same of one judgement."""
    asked = judgement.asked
    told = _replies(asked.replies, asked.oldest, asked.newest, asked_now) if asked else {}
    head = {"rubric": judgement.rubric, "model": judgement.model, **told}
    return head | outcomes.judged(judgement) | _notes(judgement.notes)


def passport_of_run(run_dir: RunDir, rules: Rubric, asked_now: int) -> Row:
    """The passport of a run's judge, and what must be known of it."""
    if not run_dir.file(PASSPORT).is_file():
        return {}
    found, last = Passport.read(run_dir, PASSPORT), judge_tries.current(run_dir, rules)
    told = _replies(last.replies, last.oldest, last.newest, asked_now) if last and last.replies else {}
    return passport(found, names.told(rules), told, list(names.notes(rules, found))) | tried(run_dir)


def passport(found: Passport, model: str, told: Row, notes: list[str]) -> Row:
    """A passport under its rubric and model."""
    return {"rubric": found.rubric, "model": model, **told} | outcomes.passport_rows(found) | _notes(notes)


def tried(run_dir: RunDir) -> Row:
    """Every judge that the run tried, where that is more than one."""
    found = judge_tries.of(run_dir)
    return {"judges_tried": [_try(one) for one in found]} if len(found) > 1 else {}


def _try(one: JudgeTry) -> Row:
    why = "; ".join(one.reasons)
    return {"rubric": one.rubric, "model": one.model, "date": one.date, "fit": one.fit, "why_not": why}


def _notes(notes: list[str] | tuple[str, ...]) -> Row:
    return {"of_the_judge": "; ".join(notes)} if notes else {}


def _replies(replies: int, oldest: str | None, newest: str | None, asked_now: int) -> Row:
    """Where replies come from. A command may have asked for more than stands in the figures."""
    kept = max(0, replies - asked_now)
    now = f"{asked_now} asked now" if asked_now else "nobody was asked now"
    of = f", {kept} of {replies} from kept replies" if kept else ""
    return {"replies": f"{now}{of} (given {oldest} to {newest})"}
