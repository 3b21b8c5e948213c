"""Stage judge: the judge proves itself on planted faults, then compares every arm's answers in both
orders.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.findings.finding import format_of
from dpaudit.findings.judgement import Judgement, Passport
from dpaudit.judging import planted, quality, rubric
from dpaudit.judging.passport import Row, comparisons_of, pair_summary, passport_of
from dpaudit.judging.quality import BASE
from dpaudit.judging.rubric import Comparison, Control, Rubric
from dpaudit.stages import evaluate
from dpaudit.stages.evaluate import load_model
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.stages.judge_replies import AS_USUAL, Asker, Way, kept_of
from dpaudit.storage.exclusive import alone
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import read_sealed_lines, write_sealed_lines
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging, Suite
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.judge import Judge

RUBRIC = "judge/rubric.json"
ANSWERS = "judge/answers.jsonl"
PASSPORT = "judge/passport.json"
JUDGEMENTS = "judge/judgements.jsonl"
SUMMARY = "judge/summary.json"
SETTINGS = declarations.input_of("judging")

Prompts = dict[str, tuple[Turn, ...]]  # id of the first record that asks -> the turns before the answer
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
    rules = _write_rubric(run_dir, plan, settings)
    asker = Asker(kept_of(run_dir), rules, settings, longest(plan), judge, way, plan.suite.model.dtype)
    if _is_done(run_dir, asker, names):
        return
    with run_dir.read_now(_inputs(names)):
        passport = _passport(run_dir, plan, asker, progress)
        pairs = [(a, b) for a, b in quality.references(arms, settings.against) if b in names]
        judgements: list[Row] = []
        asked = comparisons_of(rules, controls_of(run_dir, plan, rules))
        if passport.fit:
            prompts = prompts_of(heldout(run_dir), settings.prompts)
            answers = _answers(run_dir, plan, names, prompts, progress, way.is_offline)
            rows, compared = shown(rules, prompts, answers, pairs)
            judgements = judged(asker, rows, compared, progress)
            asked += compared
        write_sealed_lines(run_dir, JUDGEMENTS, judgements)
        judgement = Judgement(
            rubric=rules.name,
            title=rules.title,
            kind=rules.kind,
            fit=passport.fit,
            reason=None if passport.fit else "; ".join(passport.reasons),
            passport=passport,
            pairs=tuple(pair_summary(judgements, arm, against) for arm, against in pairs),
            asked=asker.account(asked),
        )
        judgement.write(run_dir, SUMMARY, [*_inputs(names), SETTINGS, PASSPORT])


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
    rules = _write_rubric(run_dir, plan, settings)
    asker = Asker(kept_of(run_dir), rules, settings, longest(plan), judge, way, plan.suite.model.dtype)
    return _passport(run_dir, plan, asker, progress).fit


def require_ready(run_dir: RunDir, plan: Plan) -> list[Arm]:
    """The trained arms whose answers are judged: all but twins. Raises UsageError as stage evaluate does."""
    return [arm for arm in evaluate.require_ready(run_dir, plan) if not arm.twin]


def require_references(plan: Plan) -> None:
    """Raises UsageError where `judging.against` names nothing that any arm is compared with."""
    arms = [arm for arm in plan.suite.grid.arms if not arm.twin]
    known = ("inf", BASE, *(arm.name for arm in arms))
    named = (plan.suite.judging or Judging()).against
    unknown = [name for name in named if name not in known]
    if unknown or not quality.references(arms, named):
        raise UsageError(
            "judging.against",
            f"some of {', '.join(known)}",
            f"{unknown[0]:.60}" if unknown else "nothing that an arm could be compared with",
            "name one with --against",
        )


def prompts_of(records: Sequence[Record], count: int) -> Prompts:
    """The first `count` different prompts of the held-out records: what comes before each record's last
    answer.
    """
    prompts: Prompts = {}
    for record in records:
        turns = record.turns if record.is_pair else record.turns[:-1]
        if turns and turns not in prompts.values() and len(prompts) < count:
            prompts[record.id] = turns
    return prompts


def rules_of(chosen: Suite, settings: Judging) -> Rubric:
    """The rubric that is asked for, with its choice of model (`base`: the run's own) in it."""
    rules = rubric.load(settings.rubric)
    if settings.model is None:
        return rules
    return replace(rules, model=chosen.model.base if settings.model == "base" else settings.model)


def _write_rubric(run_dir: RunDir, plan: Plan, settings: Judging) -> Rubric:
    """The rubric that is asked for, kept beside the results."""
    rules = rules_of(plan.suite, settings)
    run_dir.write_json(RUBRIC, {"rubric": asdict(rules), "max_length": _limit(rules, plan)})
    return rules


def longest(plan: Plan) -> int:
    """Tokens of a prompt with its answer."""
    return plan.suite.model.max_length + (plan.suite.judging or Judging()).max_new_tokens


def _limit(rules: Rubric, plan: Plan) -> int | None:
    """The tokens beyond which a judge calls an answer invalid; only a likelihood judge does."""
    return longest(plan) if rules.kind == "likelihood" else None


def _inputs(names: Sequence[str]) -> list[str]:
    adapters = [weights_of(name) for name in names if name != BASE]
    return ["plan.json", "corpus/manifest.json", RUBRIC, *adapters]


def _is_done(run_dir: RunDir, asker: Asker, names: Sequence[str]) -> bool:
    """Whether the summary is made from what is there now, and this way of asking could not add to it."""
    if asker.way.is_offline or not run_dir.is_current(SUMMARY, [*_inputs(names), SETTINGS, PASSPORT]):
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
    return Passport.read(run_dir, PASSPORT)


def controls_of(run_dir: RunDir, plan: Plan, rules: Rubric) -> list[Control]:
    """Faults of the builtin clinic, or planted in held-out answers, and what is made of them."""
    wanted = rules.controls
    if plan.suite.data.source == "builtin:clinic":
        from dpaudit.data import clinic

        faults = [Control(**row) for row in clinic.judge_controls(plan.seed, wanted.count)]
    else:
        faults = planted.plant([record for record in heldout(run_dir) if not record.is_pair], wanted)
    return planted.completed(faults, wanted)


def _answers(
    run_dir: RunDir,
    plan: Plan,
    names: Sequence[str],
    prompts: Prompts,
    progress: Progress,
    is_offline: bool = False,
) -> Answers:
    """Model -> prompt id -> greedy answer. Those of an unchanged model are read back, the rest generated."""
    settings = plan.suite.judging or Judging()
    sources = sources_of(run_dir, plan, names, settings)
    rows = kept_answers(run_dir, sources)
    pending = {
        name: new for name in names if (new := [prompt for prompt in prompts if (name, prompt) not in rows])
    }
    if pending and is_offline:
        raise _no_answers(run_dir, sum(map(len, pending.values())), len(names) * len(prompts))
    if pending:
        with progress.task("answering", sum(map(len, pending.values()))) as advance:
            model = load_model(run_dir, plan, list(pending))
            for name, new in pending.items():
                with model.active(None if name == BASE else name):
                    asked = [prompts[prompt] for prompt in new]
                    texts = model.generate(asked, settings.max_new_tokens, advance)
                for prompt, text in zip(new, texts, strict=True):
                    rows[name, prompt] = {
                        "arm": name,
                        "prompt": prompt,
                        "answer": text,
                        "source": sources[name],
                    }
                write_sealed_lines(run_dir, ANSWERS, rows.values())
    return {name: {prompt: rows[name, prompt]["answer"] for prompt in prompts} for name in names}


def kept_answers(run_dir: RunDir, sources: Mapping[str, str]) -> dict[tuple[str, str], Row]:
    """(model, prompt id) -> the kept answer of a model as it is now."""
    kept = read_sealed_lines(run_dir, ANSWERS) if run_dir.file(ANSWERS).is_file() else []
    return {(row["arm"], row["prompt"]): row for row in kept if sources.get(row["arm"]) == row["source"]}


def _no_answers(run_dir: RunDir, absent: int, wanted: int) -> UsageError:
    return UsageError(
        str(run_dir.file(ANSWERS)),
        f"{wanted} answers of the models as they are now",
        f"{absent} too few",
        f"type `{of_run('dpaudit judge', run_dir.name)}`, which makes them",
    )


def sources_of(run_dir: RunDir, plan: Plan, names: Sequence[str], settings: Judging) -> dict[str, str]:
    """Model -> what its answers depend on."""
    return {name: _source(run_dir, name, plan, settings.max_new_tokens) for name in names}


def _source(run_dir: RunDir, name: str, plan: Plan, max_new_tokens: int) -> str:
    """What the answers of a model depend on, as one digest."""
    files = ["plan.json", "corpus/manifest.json", *([] if name == BASE else [weights_of(name)])]
    made_from = [run_dir.digests(files), weights.of_base(plan.suite.model.base), max_new_tokens]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def shown(
    rules: Rubric, prompts: Prompts, answers: Answers, pairs: Sequence[tuple[str, str]]
) -> tuple[list[Row], list[Comparison]]:
    """The ids of every comparison of arms, and what the judge is shown of it."""
    rows: list[Row] = []
    shown: list[Comparison] = []
    for arm, against in pairs:
        for prompt, turns in prompts.items():
            for order in ("arm first", "against first")[: 2 if rules.swap else 1]:
                texts = (answers[arm][prompt], answers[against][prompt])
                first, second = texts if order == "arm first" else texts[::-1]
                rows.append({"arm": arm, "against": against, "prompt": prompt, "order": order})
                shown.append(Comparison(turns, first, second))
    return rows, shown


def judged(asker: Asker, rows: list[Row], shown: Sequence[Comparison], progress: Progress) -> list[Row]:
    """One row a comparison: ids and outcome, no text."""
    for row, outcome in zip(rows, asker.compare(shown, "judging", progress), strict=True):
        sides = ("arm", "against") if row["order"] == "arm first" else ("against", "arm")
        row["winner"] = dict(zip(("first", "second"), sides, strict=True)).get(outcome.winner, outcome.winner)
        row["margin"] = outcome.margin
        row["reason"] = outcome.reason or None
    return rows


def heldout(run_dir: RunDir) -> list[Record]:
    return [Record.from_json(row) for row in run_dir.read_lines("corpus/heldout.jsonl")]
