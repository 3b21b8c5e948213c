"""Stage judge: the judge proves itself on planted faults, then compares every arm's answers in both
orders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from dpaudit.errors import UsageError
from dpaudit.findings.finding import format_of
from dpaudit.findings.judgement import Judgement, NotCompared, Passport, WinRate
from dpaudit.findings.quality import BASE
from dpaudit.judging import comparing, planted, rubric
from dpaudit.judging import names as called
from dpaudit.judging.comparing import Answered, Row, pair_summary
from dpaudit.judging.pairs import Pair, ladders, pairs_of
from dpaudit.judging.passport import comparisons_of, passport_of
from dpaudit.judging.rubric import Comparison, Control, Rubric
from dpaudit.stages import evaluate, judge_answers, judge_prompts, judge_tries
from dpaudit.stages.integrity import custody
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.stages.judge_answers import Limit, limit_of
from dpaudit.stages.judge_prompts import ANSWERS as ANSWERS
from dpaudit.stages.judge_prompts import Chosen, Criteria, Prompts, heldout
from dpaudit.stages.judge_replies import AS_USUAL, Asker, Files, Way, files_of, kept_of, window
from dpaudit.storage.exclusive import alone
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import write_sealed_lines
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import AGAINST, Judging, Suite
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.judge import Judge

RUBRIC = "judge/rubric.json"
PASSPORT = "judge/passport.json"
JUDGEMENTS = "judge/judgements.jsonl"
SUMMARY = "judge/summary.json"
SETTINGS = declarations.input_of("judging")

Answers = Mapping[str, Mapping[str, str]]  # model -> prompt id -> answer


@alone("judge")
def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    *,
    judge: "Judge | None" = None,
    way: Way = AS_USUAL,
) -> None:
    """Writes judge/{answers.jsonl, passport.json, judgements.jsonl, summary.json}.

    The passport comes first; an unfit judge compares nothing and the summary's win rates are null. `judge`
    takes the place of the rubric's own. Nothing is done where the suite has no `judging`. An offline `way`
    makes everything again from what was kept, and raises UsageError where that is not all.
    """
    settings = plan.suite.judging
    if settings is None:
        return
    arms = require_ready(run_dir, plan)
    names = [BASE, *(arm.name for arm in arms)]
    rules = rules_of(plan.suite, settings)
    asked_of = judge_prompts.chosen(run_dir, settings, rules, way.is_offline)
    limit = limit_of(run_dir, plan, asked_of)
    if not way.is_offline:
        judge_answers.check_writer(run_dir, plan, names, limit)
        judge_prompts.keep(run_dir, asked_of)
    else:
        judge_tries.require_own_rates(run_dir, rules)
    asker = _asker(run_dir, plan, settings, judge, way)
    made_from = [*_inputs(names), *asked_of.inputs]
    if _is_done(run_dir, asker, made_from):
        return
    with run_dir.read_now(made_from):
        passport = _passport(run_dir, plan, asker, progress)
        pairs = pairs_asked(plan, arms)[0]
        judgements: list[Row] = []
        asked = comparisons_of(rules, controls_of(run_dir, plan, rules))
        known = Answered()
        if passport.fit:
            asker.require_there()
            written = judge_answers.answers(run_dir, plan, names, asked_of, limit, progress, way.is_offline)
            known = judge_answers.known_of(run_dir, plan, asked_of, written, passport.accuracy)
            compared_with = [(pair.arm, pair.against) for pair in pairs]
            rows, compared = shown(rules, asked_of.prompts, known.texts, compared_with, asked_of.criteria)
            judgements = judge_prompts.as_draws(judged(asker, rows, compared, progress), asked_of.prompts)
            asked += compared
        write_sealed_lines(run_dir, JUDGEMENTS, judgements)
        told = _summary(plan, rules, passport, limit, arms, judgements, known, asked_of)
        examples = judge_answers.examples_of(run_dir, plan, asked_of, known) if passport.fit else ()
        judgement = replace(told, asked=asker.account(asked), examples=examples)
        judgement.write(run_dir, SUMMARY, [*made_from, SETTINGS, PASSPORT])


def _summary(
    plan: Plan,
    rules: Rubric,
    passport: Passport,
    limit: Limit,
    arms: Sequence[Arm],
    judgements: Sequence[Row],
    known: Answered,
    asked_of: Chosen,
) -> Judgement:
    """What the verdicts say of every pair."""
    pairs, absent = pairs_asked(plan, arms)
    trends = [[arm.name for arm in ladder] for ladder in ladders(arms) if len(ladder) > 2]
    return Judgement(
        rubric=rules.name,
        title=rules.title,
        kind=rules.kind,
        model=called.told(rules),
        fit=passport.fit,
        reason=None if passport.fit else "; ".join(passport.reasons),
        passport=passport,
        pairs=tuple(_rate(judgements, pair, known, asked_of) for pair in pairs),
        asked=None,
        trends=tuple(comparing.trend(judgements, ladder, known) for ladder in trends if passport.fit),
        not_compared=tuple(absent),
        max_new_tokens=limit.tokens,
        limit_from=limit.source,
        no_examples=judge_answers.no_examples(plan, asked_of),
        notes=tuple(called.notes(rules, passport)),
    )


def _rate(judgements: Sequence[Row], pair: Pair, known: Answered, asked_of: Chosen) -> WinRate:
    found = pair_summary(judgements, pair.arm, pair.against, known, pair.role)
    return cautioned(found, *asked_of.cautions)


def cautioned(found: WinRate, *lines: str) -> WinRate:
    """The rate, where there is one, with these cautions before all others."""
    return found if found.win_rate is None else replace(found, cautions=(*lines, *found.cautions))


def pairs_asked(plan: Plan, arms: Sequence[Arm]) -> tuple[list[Pair], list[NotCompared]]:
    """The pairs that are compared, and those that were asked for and cannot be had."""
    settings = plan.suite.judging or Judging()
    return pairs_of(plan.suite.grid, arms, settings.against, plan.suite.model.start is not None)


@alone("judge")
def validate(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    *,
    judge: "Judge | None" = None,
    way: Way = AS_USUAL,
) -> bool:
    """Whether the judge passes its planted faults; writes judge/passport.json alone. No arm need be
    trained.
    """
    custody.require(run_dir, plan)
    settings = plan.suite.judging or Judging()
    asker = _asker(run_dir, plan, settings, judge, way)
    return _passport(run_dir, plan, asker, progress).fit


def require_ready(run_dir: RunDir, plan: Plan) -> list[Arm]:
    """The trained arms whose answers are judged: all but twins. Raises UsageError as stage evaluate does."""
    return [arm for arm in evaluate.require_ready(run_dir, plan) if not arm.twin]


def require_references(plan: Plan) -> None:
    """Raises UsageError where `judging.against` names nothing that any arm is compared with."""
    arms = [arm for arm in plan.suite.grid.arms if not arm.twin]
    if not pairs_asked(plan, arms)[0]:
        raise UsageError(
            "judging.against",
            f"some of {', '.join((*AGAINST, *(arm.name for arm in arms)))}",
            "nothing that an arm could be compared with",
            "name one with --against",
        )


def rules_of(chosen: Suite, settings: Judging) -> Rubric:
    """The rubric that is asked for, with its choice of model (`base`: the run's own) in it."""
    rules = rubric.load(settings.rubric)
    if settings.model is None:
        return rules
    return replace(rules, model=chosen.model.base if settings.model == "base" else settings.model)


def _asker(run_dir: RunDir, plan: Plan, settings: Judging, judge: "Judge | None", way: Way) -> Asker:
    """The judge of the rubric that is asked for, which is kept beside the results with what it is loaded
    from and how much it reads: other files are another judge.
    """
    rules = rules_of(plan.suite, settings)
    files, tokens = _loaded(run_dir, rules, way)
    run_dir.write_json(RUBRIC, {"rubric": asdict(rules), "max_length": tokens or None, "files": dict(files)})
    return Asker(kept_of(run_dir), rules, settings, tokens, judge, way, plan.suite.model.dtype, files)


def _loaded(run_dir: RunDir, rules: Rubric, way: Way) -> tuple[Files, int]:
    """The files of the judge and its window as they are now; offline, where no model need be there, as they
    were judged with.
    """
    if way.is_offline and run_dir.file(RUBRIC).is_file():
        kept = run_dir.read_json(RUBRIC)
        if all(kept["rubric"].get(key) == getattr(rules, key) for key in ("kind", "model", "adapter")):
            return dict(kept.get("files", {})), kept["max_length"] or 0
    return files_of(rules), window(rules)


def _inputs(names: Sequence[str]) -> list[str]:
    adapters = [weights_of(name) for name in names if name != BASE]
    return ["plan.json", "corpus/manifest.json", RUBRIC, *adapters]


def _is_done(run_dir: RunDir, asker: Asker, made_from: Sequence[str]) -> bool:
    """Whether the summary is made from what is there now, and this way of asking could not add to it."""
    if asker.way.is_offline or not run_dir.is_current(SUMMARY, [*made_from, SETTINGS, PASSPORT]):
        return False
    if format_of(run_dir, SUMMARY) != Judgement.FORMAT:  # what another version judged is judged again
        return False
    asked = Judgement.read(run_dir, SUMMARY).asked
    return asked is None or not asker.leaves_open(sum(asked.unscored.values()))


def _passport(run_dir: RunDir, plan: Plan, asker: Asker, progress: Progress) -> Passport:
    """The passport of the rubric's judge, made or found current."""
    made_from = ["plan.json", "corpus/manifest.json", RUBRIC]
    controls = controls_of(run_dir, plan, asker.rules)
    asked = comparisons_of(asker.rules, controls)
    asker.recall(asked)
    is_made = (
        not asker.way.is_offline
        and run_dir.is_current(PASSPORT, made_from)
        and format_of(run_dir, PASSPORT) == Passport.FORMAT
    )
    if not is_made or asker.leaves_open(Passport.read(run_dir, PASSPORT).unscored):
        outcomes = asker.compare(asked, "judging planted faults", progress)
        passport_of(asker.rules, controls, outcomes).write(run_dir, PASSPORT, made_from)
    judge_tries.keep(run_dir, asker.rules, Passport.read(run_dir, PASSPORT), asker.account(asked))
    return Passport.read(run_dir, PASSPORT)


def controls_of(run_dir: RunDir, plan: Plan, rules: Rubric) -> list[Control]:
    """Faults of the builtin clinic, or planted in held-out answers, and what is made of them."""
    wanted = rules.controls
    if plan.suite.data.source == judge_answers.CLINIC:
        from dpaudit.data import clinic

        faults = [Control(**row) for row in clinic.judge_controls(plan.seed, wanted.count)]
    else:
        faults = planted.plant([record for record in heldout(run_dir) if not record.is_pair], wanted)
    return planted.completed(faults, wanted)


def shown(
    rules: Rubric,
    prompts: Prompts,
    answers: Answers,
    pairs: Sequence[tuple[str, str]],
    criteria: Criteria | None = None,
) -> tuple[list[Row], list[Comparison]]:
    """The ids of every comparison of arms, and what the judge is shown of it. `criteria` are those that a
    prompt has in place of the rubric's.
    """
    rows: list[Row] = []
    shown: list[Comparison] = []
    for arm, against in pairs:
        for prompt, turns in prompts.items():
            for order in ("arm first", "against first")[: 2 if rules.swap else 1]:
                texts = (answers[arm][prompt], answers[against][prompt])
                first, second = texts if order == "arm first" else texts[::-1]
                rows.append({"arm": arm, "against": against, "prompt": prompt, "order": order})
                shown.append(Comparison(turns, first, second, criteria=(criteria or {}).get(prompt, ())))
    return rows, shown


def judged(asker: Asker, rows: list[Row], shown: Sequence[Comparison], progress: Progress) -> list[Row]:
    """One row a comparison: ids and outcome, no text."""
    for row, outcome in zip(rows, asker.compare(shown, "judging", progress), strict=True):
        sides = ("arm", "against") if row["order"] == "arm first" else ("against", "arm")
        row["winner"] = dict(zip(("first", "second"), sides, strict=True)).get(outcome.winner, outcome.winner)
        row["margin"] = outcome.margin
        row["reason"] = outcome.reason or None
        if outcome.scores is not None:
            row |= {f"{side}_score": list(score) for side, score in zip(sides, outcome.scores, strict=True)}
    return rows
