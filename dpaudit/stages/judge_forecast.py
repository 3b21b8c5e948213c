"""How often a judge would be asked, and with how many tokens. Nobody is asked, and nothing is written."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from dpaudit.judging import quality, replies
from dpaudit.judging.passport import comparisons_of
from dpaudit.judging.quality import BASE
from dpaudit.judging.rubric import Comparison, Rubric
from dpaudit.stages import judge
from dpaudit.stages.integrity import custody
from dpaudit.stages.judge_replies import Asker, Way
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging


@dataclass(frozen=True)
class Forecast:
    """What a judge would be asked, beyond what it has answered."""

    calls_for_controls: int
    calls_for_answers: int  # where the judge is fit
    answered_before: int
    tokens_in: int  # about
    tokens_out_at_most: int
    unwritten: int  # answers of the arms that are not there yet, taken at full length


def forecast(run_dir: RunDir, plan: Plan, settings: Judging, way: Way) -> Forecast:
    """The calls that `dpaudit judge` would make in this run, retries not counted."""
    custody.require(run_dir, plan)
    rules = judge.rules_of(plan.suite, settings)
    asker = Asker(run_dir, rules, settings, judge.longest(plan), way=way)
    controls = comparisons_of(rules, judge.controls_of(run_dir, plan, rules))
    known, unwritten, texts = _answers(run_dir, plan, rules, settings)
    asked, compared = asker.absent(controls), asker.absent(known)
    tokens = [replies.estimate(replies.shown(rules.prompt, one)) for one in (*asked, *compared)]
    calls = len(asked) + len(compared) + len(texts)
    is_read = rules.kind != "likelihood"  # which reads no prompt and writes no reply
    return Forecast(
        calls_for_controls=len(asked),
        calls_for_answers=len(compared) + len(texts),
        answered_before=len({*controls, *known}) - len(asked) - len(compared),
        tokens_in=(sum(tokens) + sum(texts)) * is_read,
        tokens_out_at_most=calls * rules.max_new_tokens * is_read,
        unwritten=unwritten,
    )


def _answers(
    run_dir: RunDir, plan: Plan, rules: Rubric, settings: Judging
) -> tuple[list[Comparison], int, list[int]]:
    """The comparisons of answers that are there; how many are not; and about how many tokens each comparison
    with such a one has.
    """
    arms = judge.require_ready(run_dir, plan)
    names = [BASE, *(arm.name for arm in arms)]
    prompts = judge.prompts_of(judge.heldout(run_dir), settings.prompts)
    kept = judge.kept_answers(run_dir, judge.sources_of(run_dir, plan, names, settings))
    absent = {(name, prompt) for name in names for prompt in prompts if (name, prompt) not in kept}
    texts: Mapping[str, Mapping[str, str]] = {
        name: {prompt: kept[name, prompt]["answer"] if (name, prompt) in kept else "" for prompt in prompts}
        for name in names
    }
    pairs = [(a, b) for a, b in quality.references(arms, settings.against) if b in names]
    rows, shown = judge.shown(rules, prompts, texts, pairs)
    whole: list[Comparison] = []
    guessed: list[int] = []
    for row, comparison in zip(rows, shown, strict=True):
        lacking = _lacking(row, absent)
        if not lacking:
            whole.append(comparison)
        else:
            text = replies.shown(rules.prompt, comparison)
            guessed.append(replies.estimate(text) + lacking * settings.max_new_tokens)
    return whole, len(absent), guessed


def _lacking(row: Mapping[str, str], absent: Set[tuple[str, str]]) -> int:
    """How many of the two answers of a comparison are not there."""
    return sum((row[side], row["prompt"]) in absent for side in ("arm", "against"))
