"""Two files of answers by anybody, judged without a run: nothing is trained, and the result is a folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from dpaudit.data import judged_files
from dpaudit.data.corpus import Record, Turn
from dpaudit.data.judged_files import Judged
from dpaudit.errors import UsageError
from dpaudit.findings.finding import Finding
from dpaudit.findings.human import HumanAgreement
from dpaudit.findings.judge_tries import JudgeTry
from dpaudit.findings.judgement import Judgement, Passport
from dpaudit.judging import facts, names, own_criteria, planted, rubric
from dpaudit.judging.comparing import Answered, Row, pair_summary
from dpaudit.judging.own_criteria import Graded
from dpaudit.judging.passport import comparisons_of, passport_of
from dpaudit.judging.rubric import CONTENT, Comparison, Control, Criterion, Rubric
from dpaudit.stages import (
    judge,
    judge_folder,
    judge_forecast,
    judge_human,
    judge_prompts,
    judge_replies,
    judge_tries,
)
from dpaudit.stages.judge_folder import (
    ANOTHER,
    HUMAN,
    JUDGEMENTS,
    KEY,
    PASSPORT,
    REPLIES,
    SUMMARY,
    TASK,
    key_of,
    new_key,
    require_place,
    write,
)
from dpaudit.stages.judge_forecast import Forecast
from dpaudit.stages.judge_replies import AS_USUAL, Asker, Kept, Way
from dpaudit.stages.judge_tries import WAY_TO_SERVER
from dpaudit.storage import exclusive
from dpaudit.storage.whole_files import PRIVATE, write_text
from dpaudit.suite.suite import Judging
from dpaudit.system.progress import Progress

CLINIC = "builtin:clinic"
KNOWN_TRIES = (
    "which judges were tried on these answers is known from the folder of the result and from those beside "
    "it alone: of several that are tried, the one that is fit shows less than it seems to"
)
NOT_OWN = (
    "not all of the judge's controls are made of prompts of these files: so far it is proven on other data"
)
PARTS = {  # of a task, as the user knows it
    "rubric": "rubric or model",
    "longest": "rubric or model",
    "files": "files of the judge's model",
    "controls": "controls",
    "are_controls_own": "controls",
    "criteria": "criteria of the prompts",
    "criteria_of": "criteria of the prompts",
    "criteria_whole": "criteria of the prompts",
} | dict.fromkeys(("answers", "against", "items"), "answers, right answers or number of prompts")


@dataclass(frozen=True)
class Request:
    """What is asked: two files of answers, what is known of their prompts, and where right answers are."""

    answers: Path
    against: Path
    questions: Path | None  # prompts and right answers by id
    criteria: Path | None  # prompts with criteria of their own
    controls: str | None  # a file of dialogues whose answers are right, or builtin:clinic
    settings: Judging
    out: Path
    prompts: int | None = None  # None: all
    way: Way = AS_USUAL


@dataclass(frozen=True)
class Task(Finding):
    """All that the result is made from, replies apart: with them, it is made again without the files."""

    FORMAT: ClassVar = "judged-files/6"
    rubric: Rubric
    longest: int  # tokens of a prompt with its answer that the judge scores; 0 without a limit
    answers: str  # what the two sides are called
    against: str
    items: tuple[Judged, ...]
    controls: tuple[Control, ...]
    files: dict[str, str]  # that the judge is loaded from -> SHA-256; none of a server's
    are_controls_own: bool  # all made of right answers to prompts of these files
    criteria_of: str = ""  # the file that the prompts' own criteria are of
    criteria_whole: int = 0  # its prompts
    criteria: dict[str, tuple[Criterion, ...]] = field(default_factory=dict)  # by id of an item


@dataclass(frozen=True)
class Result:
    """What the judge says of two files of answers."""

    judgement: Judgement
    rows: list[Row]  # a comparison each: ids and outcome, no text
    prompts: int  # different ones
    cut: dict[str, list[bool | None]]  # side -> whether each answer was cut; None where its row does not say


def run(request: Request, progress: Progress) -> Result:
    """Writes OUT/{asked.json, passport.json, judgements.jsonl, summary.json} and returns what they say.

    The passport comes first; an unfit judge compares nothing. Replies are kept as they come, so that a
    command that was killed goes on where it was. Raises UsageError before anything is written for files that
    do not fit, for a judge that cannot be asked, and for a folder that holds another result.
    """
    require_place(request.out)
    task = _task(request)
    with exclusive.making(request.out):
        _require_own(request.out, task)
        key = key_of(request.out) or new_key(request.out)
        if not _is_begun(request.out):
            write(request.out, TASK, task.to_json(), key)
        return _made(request.out, task, key, request.settings, request.way, progress)


def forecast(request: Request) -> Forecast:
    """The calls that `run` would make, retries not counted. Nothing is written."""
    require_place(request.out)
    task = _task(request)
    _require_own(request.out, task)
    asker = _asker(request.out, task, key_of(request.out), request.settings, request.way)
    shown = [comparison for _, comparison in _shown(task)]
    return judge_forecast.told(asker, task.controls, shown)


def replay(out: Path, progress: Progress) -> Result:
    """Makes every figure of a result again, from its folder alone: no model and no server. Raises UsageError
    where something is missing or altered.
    """
    with exclusive.making(out):
        task, key = read(out)
        return _made(out, task, key, Judging(), Way(is_offline=True), progress)


def validate(out: Path, human: Path | None, progress: Progress) -> tuple[Passport, HumanAgreement | None]:
    """The passport of a result, made again from its folder, and how far the judge agrees with a table of
    people's verdicts, which is kept as OUT/human.json.
    """
    with exclusive.making(out):
        task, key = read(out)
        result = _made(out, task, key, Judging(), Way(is_offline=True), progress)
        if human is None:
            return result.judgement.passport, None
        found = judge_human.agreement(task.rubric.name, result.rows, human, str(out / JUDGEMENTS))
        if (out / HUMAN).is_file():
            progress.say(f"note: {out / HUMAN} takes the place of the comparison before")
        write(out, HUMAN, found.to_json(), key)
        return result.judgement.passport, found


def read(out: Path) -> tuple[Task, bytes]:
    """What a folder's result was made from, and the key of its replies."""
    require_place(out)
    key = key_of(out)
    if key is None:
        raise UsageError(
            str(out / KEY),
            "a folder that `dpaudit judge --answers` wrote, with the key of its replies",
            "no such file",
            "name the folder with --out DIR",
        )
    return Task.from_json(judge_folder.read(out, TASK, key), str(out / TASK)), key


def tried(out: Path) -> tuple[list[tuple[str, JudgeTry]], int]:
    """Every passport that was made for these answers, with the name of its folder: in this one, then in
    those beside it; and how many folders beside it could not be read.
    """
    task, key = read(out)
    found = [(out.name, one) for one in judge_folder.tries_of(out, key)]
    own, unread = _answers_of(task), 0
    for other in sorted(file.parent for file in out.resolve().parent.glob(f"*/{TASK}")):
        if other == out.resolve():
            continue
        try:
            task, key = read(other)
            if own & _answers_of(task):
                found += [(other.name, one) for one in judge_folder.tries_of(other, key)]
        except UsageError:
            unread += 1
    return found, unread


def _answers_of(task: Task) -> set[tuple[object, ...]]:
    """The two answers to each prompt, whichever is the first."""
    return {(item.turns, frozenset((item.answer, item.against))) for item in task.items}


def rows_of(task: Task, asker: Asker, progress: Progress) -> list[Row]:
    """A row a comparison, as a run's have it."""
    shown = _shown(task)
    rows = judge.judged(asker, [row for row, _ in shown], [comparison for _, comparison in shown], progress)
    return judge_prompts.as_draws(rows, {item.id: item.turns for item in task.items})


# ---- what is asked


def _task(request: Request) -> Task:
    """What is asked, checked before anything is written or asked."""
    rules = rubric.load(request.settings.rubric)
    rules = replace(rules, model=request.settings.model or rules.model)
    judge_replies.require_there(rules)
    rows, known = _prompts(request, rules), request.questions or request.criteria
    every = judged_files.read(request.answers, request.against, known)
    items = every[: request.prompts]
    controls = tuple(_controls(request, rules, items))
    judge_replies.require_askable(rules, request.settings, request.way)
    sides = request.answers.stem, request.against.stem
    if sides[0] == sides[1]:
        sides = "answers", "against"
    made_from = dict(judge_replies.files_of(rules))
    longest, prompts = judge_replies.window(rules), {item.turns for item in every}
    is_own = all(control.turns in prompts for control in controls)
    task = Task(rules, longest, *sides, items, controls, made_from, is_own)
    if request.criteria is None:
        return task
    own = own_criteria.matched(request.criteria, rows, items)
    return replace(task, criteria_of=request.criteria.name, criteria_whole=len(rows), criteria=own)


def _prompts(request: Request, rules: Rubric) -> tuple[Graded, ...]:
    """The prompts with criteria of their own. Raises UsageError for a rubric that asks for none."""
    if request.criteria is None:
        return ()
    own_criteria.require_criteria(rules, request.criteria)
    return own_criteria.read(request.criteria)


def _controls(request: Request, rules: Rubric, items: Sequence[Judged]) -> list[Control]:
    """Controls planted in right answers. Raises UsageError where too few of any error of content can be, so
    that the judge would be unfit whatever it says.
    """
    wanted = rules.controls
    if request.controls == CLINIC:
        from dpaudit.data import clinic

        return planted.completed([Control(**row) for row in clinic.judge_controls(0, wanted.count)], wanted)
    if request.controls is not None:
        records = judged_files.right_answers(request.controls)
        where = f"--controls {request.controls}"
    else:
        records = [
            Record(item.id, (*item.turns, Turn("assistant", item.reference)))
            for item in items
            if item.reference is not None
        ]
        where = f"{request.answers}: reference"
    controls = planted.completed(planted.plant(records, wanted), wanted)
    counts = {kind: sum(one.kind == kind for one in controls) for kind in CONTENT if kind in wanted.faults}
    if not any(count >= wanted.least for count in counts.values()):
        told = ", ".join(f"{count} of {kind}" for kind, count in counts.items())
        raise UsageError(
            where,
            f"right answers that {wanted.least} controls of one kind can be made of: the judge proves itself "
            "on them first",
            f"{len(records)} right answers, {told}",
            "name dialogues whose answers are right with --controls FILE, or add right answers as reference",
        )
    return controls


def _shown(task: Task) -> list[tuple[Row, Comparison]]:
    """Every comparison of the two files, with its ids."""
    prompts = {item.id: item.turns for item in task.items}
    answers = {
        task.answers: {item.id: item.answer for item in task.items},
        task.against: {item.id: item.against for item in task.items},
    }
    rows, shown = judge.shown(task.rubric, prompts, answers, [(task.answers, task.against)], task.criteria)
    return list(zip(rows, shown, strict=True))


# ---- what comes out


def _made(out: Path, task: Task, key: bytes, settings: Judging, way: Way, progress: Progress) -> Result:
    rules, asker = task.rubric, _asker(out, task, key, settings, way)
    asked = comparisons_of(rules, task.controls)
    outcomes = asker.compare(asked, "judging planted faults", progress)
    passport: Passport = passport_of(rules, task.controls, outcomes)
    write(out, PASSPORT, passport.to_json(), key)
    before = judge_folder.tries_of(out, key)
    tries = judge_tries.with_passport(before, rules, passport, asker.account(asked))
    if tries != before:
        judge_folder.keep_tries(out, tries, key)
    rows: list[Row] = []
    if passport.fit:
        rows = rows_of(task, asker, progress)
        asked += [comparison for _, comparison in _shown(task)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(out / JUDGEMENTS, text, PRIVATE)
    pair = pair_summary(rows, task.answers, task.against, _known(task, passport))
    if not task.are_controls_own:
        pair = judge.cautioned(pair, NOT_OWN)
    if task.criteria_of:
        told = own_criteria.cautions(task.criteria_of, len(task.items), task.criteria_whole)
        pair = judge.cautioned(pair, *told)
    judgement = Judgement(
        rubric=rules.name,
        title=rules.title,
        kind=rules.kind,
        model=names.told(rules),
        fit=passport.fit,
        reason=None if passport.fit else "; ".join(passport.reasons),
        passport=passport,
        pairs=(pair,),
        asked=asker.account(asked),
        notes=(*names.notes(rules, passport), KNOWN_TRIES),
    )
    write(out, SUMMARY, judgement.to_json(), key)
    return Result(judgement, rows, len({row["prompt"] for row in rows}), cut_of(task))


def cut_of(task: Task) -> dict[str, list[bool | None]]:
    """What the rows of both sides say of whether each answer was cut."""
    return {
        task.answers: [item.answer_cut for item in task.items],
        task.against: [item.against_cut for item in task.items],
    }


def _known(task: Task, passport: Passport) -> Answered:
    """What is known of prompts and answers beside the verdicts."""
    return Answered(
        facts=facts.of_texts({item.id: item.turns for item in task.items}),
        texts={
            task.answers: {item.id: item.answer for item in task.items},
            task.against: {item.id: item.against for item in task.items},
        },
        references={item.id: item.reference for item in task.items if item.reference is not None},
        cut={
            side: sum(map(bool, said)) / len(said) for side, said in cut_of(task).items() if None not in said
        },
        accuracy=passport.accuracy,
    )


def _asker(out: Path, task: Task, key: bytes | None, settings: Judging, way: Way) -> Asker:
    kept = Kept(out / REPLIES, key, "dpaudit judge --answers FILE --against FILE")
    return Asker(kept, task.rubric, settings, task.longest, way=way, files=task.files)


def _require_own(out: Path, task: Task) -> None:
    """Raises UsageError where the folder holds anything but this result, or the beginning of one."""
    if not out.exists():
        return
    if not (out / TASK).is_file():
        if any(file.name != KEY and not file.name.endswith(".tmp") for file in out.iterdir()):
            raise UsageError(f"--out {out}", "an empty folder, or one of this result", "other files", ANOTHER)
        return
    if not _is_begun(out):  # nobody answered yet: a mistake in the rubric can be mended
        return
    known, _ = read(out)
    before, now = _decides(known), _decides(task)
    other = dict.fromkeys(PARTS[key] for key in now if before[key] != now[key])
    if other:
        raise UsageError(
            str(out / TASK),
            "the same answers, rubric (with its model) and controls",
            f"another result, with other {' and '.join(other)}",
            ANOTHER,
        )


def _is_begun(out: Path) -> bool:
    """Whether anything would be lost with another task."""
    return (out / REPLIES).is_file() or (out / PASSPORT).is_file()


def _decides(task: Task) -> dict[str, Any]:
    """What the verdicts depend on: all but the way to a server."""
    whole = asdict(task)
    for name in WAY_TO_SERVER:
        del whole["rubric"][name]
    return whole
