"""How often a judge would be asked, and with how many tokens. Nobody is asked, and nothing is written."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from dpaudit.findings.quality import BASE
from dpaudit.judging import criteria, replies
from dpaudit.judging.passport import comparisons_of, counted
from dpaudit.judging.rubric import Comparison, Control, Grading, Question, Rubric
from dpaudit.stages import judge, judge_answers, judge_prompts
from dpaudit.stages.integrity import custody
from dpaudit.stages.judge_answers import Row
from dpaudit.stages.judge_prompts import Chosen
from dpaudit.stages.judge_replies import Asker, Way, files_of, kept_of, window
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging

WHERE = {
    "endpoint": "requests to the rubric's server",
    "model": "on this machine: a request each",
    "likelihood": "on this machine: each answer is scored once",
}
UNWRITTEN = "\0"  # begins what stands for an answer that is not there yet; no model writes it


@dataclass(frozen=True)
class Forecast:
    """What a judge would be asked, beyond what it has answered."""

    controls: int  # distinct
    not_tested: dict[str, int]  # kind -> its controls, where those are too few
    calls_for_controls: int
    calls_for_answers: int  # where the judge is fit
    answered_before: int
    tokens_in: int  # about
    tokens_out_at_most: int
    unwritten: int  # answers of the arms that are not there yet, taken at full length
    asked_where: str  # a server, or this machine
    pairs: int = 1  # of models that are compared


def forecast(run_dir: RunDir, plan: Plan, settings: Judging, way: Way) -> Forecast:
    """The calls that `dpaudit judge` would make in this run, retries not counted."""
    custody.require(run_dir, plan)
    rules = judge.rules_of(plan.suite, settings)
    asked_of = judge_prompts.chosen(run_dir, settings, rules)
    limit, arms = judge_answers.limit_of(run_dir, plan, asked_of), judge.require_ready(run_dir, plan)
    pairs = [(pair.arm, pair.against) for pair in judge.pairs_asked(plan, arms)[0]]
    asker = _asker(run_dir, plan, rules, settings, way)
    controls = judge.controls_of(run_dir, plan, rules)
    names = [BASE, *(arm.name for arm in arms)]
    sources = judge_answers.sources_of(run_dir, plan, names, limit, asked_of)
    kept = judge_answers.kept_answers(run_dir, sources, asked_of)
    compared, unwritten = _compared(rules, asked_of, names, pairs, kept)
    return replace(told(asker, controls, compared, unwritten, limit.tokens), pairs=len(pairs))


def ahead(run_dir: RunDir, plan: Plan, settings: Judging, arms: Sequence[Arm]) -> Forecast:
    """The calls that the judge of a run will make where its corpus is drawn and none of its `arms` is trained
    yet. The judge's model need not be there.
    """
    rules = judge.rules_of(plan.suite, settings)
    asked_of = judge_prompts.chosen(run_dir, settings, rules)
    limit, models = judge_answers.limit_of(run_dir, plan, asked_of), [arm for arm in arms if not arm.twin]
    pairs = [(pair.arm, pair.against) for pair in judge.pairs_asked(plan, models)[0]]
    asker = Asker(kept_of(run_dir), rules, settings, 0, dtype=plan.suite.model.dtype)
    controls = judge.controls_of(run_dir, plan, rules)
    names = [BASE, *(arm.name for arm in models)]
    compared, unwritten = _compared(rules, asked_of, names, pairs, {})
    return replace(told(asker, controls, compared, unwritten, limit.tokens), pairs=len(pairs))


def of_controls(run_dir: RunDir, plan: Plan, settings: Judging, way: Way) -> Forecast:
    """The calls that `dpaudit judge validate` would make in this run, retries not counted. No arm need be
    trained.
    """
    custody.require(run_dir, plan)
    rules = judge.rules_of(plan.suite, settings)
    asker = _asker(run_dir, plan, rules, settings, way)
    return replace(told(asker, judge.controls_of(run_dir, plan, rules), ()), pairs=0)


def _asker(run_dir: RunDir, plan: Plan, rules: Rubric, settings: Judging, way: Way) -> Asker:
    dtype, files = plan.suite.model.dtype, files_of(rules)
    return Asker(kept_of(run_dir), rules, settings, window(rules), way=way, dtype=dtype, files=files)


def told(
    asker: Asker,
    controls: Sequence[Control],
    compared: Sequence[Comparison],
    unwritten: int = 0,
    of_answer: int = 0,
) -> Forecast:
    """What would be asked for controls and comparisons, among them `unwritten` answers that are not there yet
    and have at most `of_answer` tokens.
    """
    rules = asker.rules
    least, counts = rules.controls.least, counted(rules, controls)
    shown = comparisons_of(rules, controls)
    questions = criteria.questions(rules, [*shown, *compared])
    for_controls, for_answers = asker.absent(shown), asker.absent(compared)
    absent = list(dict.fromkeys([*for_controls, *for_answers]))
    is_read = rules.kind != "likelihood"  # which reads no prompt and writes no reply
    return Forecast(
        controls=len(controls),
        not_tested={kind: count for kind, count in counts.items() if count < least},
        calls_for_controls=_calls(rules, for_controls),
        calls_for_answers=_calls(rules, absent) - _calls(rules, for_controls),
        answered_before=_calls(rules, questions) - _calls(rules, absent),
        tokens_in=sum(_tokens(rules, one, of_answer) for one in absent) * is_read,
        tokens_out_at_most=len(absent) * rules.max_new_tokens * is_read,
        unwritten=unwritten,
        asked_where=WHERE[rules.kind],
    )


def _calls(rules: Rubric, questions: Sequence[Question]) -> int:
    """How often a model works: a judge on likelihoods scores each answer once, however many questions it is
    in.
    """
    if rules.kind != "likelihood":
        return len(questions)
    scored: set[object] = set()
    for one in questions:
        answers = (one.answer,) if isinstance(one, Grading) else (one.first, one.second)
        scored |= {(one.turns, answer) for answer in answers}
    return len(scored)


def _compared(
    rules: Rubric,
    asked_of: Chosen,
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    kept: Mapping[tuple[str, str], Row],
) -> tuple[Sequence[Comparison], int]:
    """The comparisons of the arms, and how many answers for them are not among those `kept`."""
    prompts = asked_of.prompts
    answers: Mapping[str, dict[str, str]] = {name: {} for name in names}
    for name in names:
        for prompt in prompts:
            row = kept.get((name, prompt))
            answers[name][prompt] = f"{UNWRITTEN}{name}" if row is None else row["answer"]
    _, compared = judge.shown(rules, prompts, answers, pairs, asked_of.criteria)
    absent = sum((name, prompt) not in kept for name in names for prompt in prompts)
    return compared, absent


def _tokens(rules: Rubric, question: Question, of_answer: int) -> int:
    """About how many tokens a question has; an answer that is not there yet has `of_answer`."""
    lacking = sum(isinstance(text, str) and text.startswith(UNWRITTEN) for text in astuple(question))
    return replies.estimate(replies.shown(rules, question)) + lacking * of_answer
