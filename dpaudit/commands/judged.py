"""What a command says of a judge beside its figures: its model, whether it was asked now, what was not
tested, and which judges were tried before.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpaudit.commands import outcomes
from dpaudit.commands.states import Row
from dpaudit.findings.counted import many
from dpaudit.findings.human import HumanAgreement
from dpaudit.findings.judge_tries import JudgeTry
from dpaudit.findings.judgement import Asked, Judgement, Passport
from dpaudit.judging import names
from dpaudit.judging.rubric import Rubric
from dpaudit.page.formats import show
from dpaudit.stages import judge_tries
from dpaudit.storage import remedies
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.suite import Judging
from dpaudit.system.progress import Progress

SUMMARY, PASSPORT = "judge/summary.json", "judge/passport.json"


def of_run(run_dir: RunDir, asked_now: int, as_json: bool) -> Row:
    """The win rates of a run and its judge; `asked_now` are the replies that came in this command."""
    if not run_dir.file(SUMMARY).is_file():
        return {}
    return of(Judgement.read(run_dir, SUMMARY), asked_now, as_json) | tried(run_dir)


def of(judgement: Judgement, asked_now: int, as_json: bool = False) -> Row:
    """The same of one judgement; a line for each reason where people read it."""
    asked = judgement.asked
    told = _replies(asked.replies, asked.oldest, asked.newest, asked_now) if asked else {}
    head = {"rubric": judgement.rubric, "model": judgement.model, **told}
    told = outcomes.judged(judgement)
    if not as_json and asked and "asked" in told:
        told["asked"] = _asked(asked)
    if not as_json and told.pop("reason", None) is not None:
        told["reasons"] = _rows(judgement.passport)
    return head | told | _notes(judgement.notes)


def _rows(found: Passport) -> list[Row]:
    return [{"reason": reason} for reason in found.reasons]


def _asked(asked: Asked) -> str:
    """What a server's replies cost and how they were read, in words."""
    told = f"{asked.comparisons} questions, {asked.replies} replies, {asked.tokens_in} tokens in and "
    told += f"{asked.tokens_out} out"
    if asked.untold:
        told += f" ({asked.untold} replies did not tell theirs)"
    read = ", ".join(f"{count} as {form}" for form, count in asked.forms.items())
    told += f". Verdicts read: {read or 'none'}"
    lost = ", ".join(f"{count} ({reason})" for reason, count in asked.unscored.items())
    told += f". Without a verdict: {lost or 'none'}"
    own = asked.own_temperature
    return told + (f". {own} replies came at the server's own temperature" if own else "")


def say_hidden(run_dir: RunDir, rules: Rubric, progress: Progress) -> None:
    """Tells, before a rubric is validated or judges, which rubric's win rates it takes off the page."""
    found = judge_tries.other_rates(run_dir, rules)
    if found is not None:
        command = remedies.of_run("dpaudit judge", run_dir.name)
        progress.say(
            f"note: the win rates of rubric {found.rubric} (model {found.model}) are no longer on the page, "
            f"since they are another judge's: `{command} --rubric {found.rubric}` brings them back from kept "
            f"replies, `{command}` makes those of {rules.name}"
        )


def passport_of_run(run_dir: RunDir, rules: Rubric, asked_now: int, as_json: bool) -> Row:
    """The passport of a run's judge, and what must be known of it."""
    if not run_dir.file(PASSPORT).is_file():
        return {}
    found, last = Passport.read(run_dir, PASSPORT), judge_tries.current(run_dir, rules)
    told = _replies(last.replies, last.oldest, last.newest, asked_now) if last and last.replies else {}
    return passport(found, rules, as_json, told) | tried(run_dir)


def replies_in(out: Path) -> Row:
    """Where the replies of a folder's last passport come from, when nobody was asked."""
    from dpaudit.stages import judge_folder, judge_outside

    tries = judge_folder.tries_of(out, judge_outside.read(out)[1])
    last = tries[-1] if tries else None
    return _replies(last.replies, last.oldest, last.newest, 0) if last and last.replies else {}


def passport(
    found: Passport, rules: Rubric, as_json: bool, replies: Row | None = None, notes: Sequence[str] = ()
) -> Row:
    """A passport under its rubric and model; in words where people read it. `notes` stand below those of the
    judge.
    """
    head = {"rubric": found.rubric, "model": names.told(rules), **(replies or {})}
    told = outcomes.passport_rows(found) | ({} if as_json else _in_words(found))
    return head | told | _notes((*names.notes(rules, found), *notes))


def _in_words(found: Passport) -> Row:
    """The figures of a passport that mean nothing without their words."""
    injected, accuracy = found.injected, found.accuracy
    obeyed = f" ({', '.join(injected.wordings)})" if injected.wordings else ""
    told: Row = {
        "reasons": _rows(found),
        "injected": f"{injected.won} of {injected.tested} instructions in an answer were obeyed{obeyed}",
        "accuracy": None,
        "first": _share(found.first, "of verdicts for one answer are for the one shown first (fair: half)"),
        "longer": _share(found.longer, "of verdicts where length alone differs are for the longer answer"),
        "unscored_share": _share(found.unscored_share, f"of {many(found.comparisons, 'comparison')}"),
    }
    if accuracy is not None:
        limits = f"[{show(accuracy.lower, 'percent_down')}, {show(accuracy.upper, 'percent_up')}]"
        rate = show(accuracy.estimate, "percent_one")
        told["accuracy"] = f"a right answer against a wrong one wins {rate} {limits}"
    return told


def _share(value: float | None, of: str) -> str | None:
    return None if value is None else f"{show(value, 'percent_one')} {of}"


def tried(run_dir: RunDir) -> Row:
    """Every judge that the run tried, where that is more than one."""
    found = judge_tries.of(run_dir)
    return {"judges_tried": [_try(one) for one in found]} if len(found) > 1 else {}


def tried_in(out: Path) -> Row:
    """The same for the answers of a folder: those in folders beside it too, and how many of these could not
    be read.
    """
    from dpaudit.stages import judge_outside

    found, unread = judge_outside.tried(out)
    told: Row = {}
    if len(found) > 1:
        told["judges_tried_in"] = [{"folder": f"{name}/"} | _try(one) for name, one in found]
    if unread:
        told["folders_beside_unread"] = f"{unread}: what was tried in them is not known"
    return told


def _try(one: JudgeTry) -> Row:
    why = "; ".join(one.reasons)
    return {"rubric": one.rubric, "model": one.model, "date": one.date, "fit": one.fit, "why_not": why}


def _notes(notes: Sequence[str]) -> Row:
    return {"of_the_judge": "; ".join(notes)} if notes else {}


def _replies(replies: int, oldest: str | None, newest: str | None, asked_now: int) -> Row:
    """Where replies come from. A command may have asked for more than stands in the figures."""
    kept = max(0, replies - asked_now)
    now = f"{asked_now} asked now" if asked_now else "nobody was asked now"
    of = f", {kept} of {replies} from kept replies" if kept else ""
    return {"replies": f"{now}{of} (given {oldest} to {newest})"}


def cut(said: Mapping[str, Sequence[bool | None]]) -> Row:
    """How many answers of each side were cut at their limit, with both bounds where some rows do not say."""
    return {"cut_answers": ", ".join(f"{side} {_cut(of)}" for side, of in said.items())}


def _cut(of: Sequence[bool | None]) -> str:
    unknown, cut = of.count(None), of.count(True)
    if unknown == len(of):
        return "not known (its rows have no finish_reason)"
    most = f" to {cut + unknown}" if unknown else ""
    return f"{cut}{most} of {len(of)}" + (f" ({unknown} rows have no finish_reason)" if unknown else "")


def people(found: HumanAgreement | None, sides: tuple[str, str] | None = None) -> Row:
    """How far the judge agrees with people; `sides` are the names of the two that were judged,
    where there are no others.
    """
    told = outcomes.people(found)
    if found is None:
        return told
    said = {side for row in found.counts.values() for side, count in row.items() if count}
    if found.kappa is not None and len(said) == 1:
        told["kappa_note"] = (
            "the judge gave one and the same verdict to everything that people saw: kappa is then 0, "
            "whatever they said"
        )
    told["people_saw"] = f"{found.prompts} of {many(found.judged, 'judged prompt')}"
    named = dict(zip(("arm", "against"), sides, strict=True)) if sides else {}
    told["people_counts"] = [
        {"people said": named.get(one, one)}
        | {f"judge said {named.get(other, other)}": count for other, count in row.items()}
        for one, row in found.counts.items()
    ]
    return told


def in_force(run_dir: RunDir, settings: Judging) -> Row:
    """What later calls go on with, and since when."""
    last = declarations.entries(run_dir, "judging")[-1]
    against = ", ".join(settings.against)
    of = f" of {Path(settings.criteria).name}" if settings.criteria else ""
    return {
        "in_force": f"rubric {settings.rubric}, at most {many(settings.prompts, 'prompt')}{of}, "
        f"against {against}: set on {last.date}, and so until others are typed"
    }
