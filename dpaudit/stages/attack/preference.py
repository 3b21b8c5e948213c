"""The attack on preference data in stage attack: what a DPO arm says of both answers of every pair. No
labels.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.models.encode import counted_mask, encode_record
from dpaudit.signals.text import PairSpan, Span
from dpaudit.stages.attack.items import Item, Items, ItemSource
from dpaudit.stages.attack.membership import token_scores
from dpaudit.stages.attack.references import References, start_of
from dpaudit.stages.attack.scores import Score, ScoringJob, require_numbers, write_scores
from dpaudit.stages.prepare.candidates import CandidateUnits
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel
    from dpaudit.models.language_model import TokenScores


def of_pairs(arms: Sequence[Arm], named: Sequence[str] | None) -> list[Arm]:
    """The arms that learnt from pairs. Raises UsageError where none did, or one that is named did not."""
    dpo_arms = [arm for arm in arms if arm.method == "dpo"]
    others = [arm.name for arm in arms if arm.method != "dpo"]
    if (named is not None and others) or not dpo_arms:
        raise UsageError(
            f"arm {', '.join(others)}",
            "a DPO arm, which learns from preference pairs",
            "an arm that learns from single answers" if others else "no DPO arm",
            "train one with --dpo sigmoid, or name it with --arm",
        )
    return dpo_arms


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[ScoringJob],
    candidates: CandidateUnits,
    model: "HFModel",
) -> None:
    """Writes the scores of all jobs, whose arms are DPO arms; the pairs are cut as in training."""
    rows = items_of(plan, candidates, model.tokenizer)
    known = References(run_dir, plan, model)
    for job in jobs:
        start_of(run_dir, plan, job.arm)  # a missing start is reported before hours of scoring
    total = len(rows.items) * 2 * len(jobs)  # at most one reference an arm
    with progress.task("attack preference: scoring pairs", total=total) as advance:
        for job in jobs:
            with model.active(job.arm.name):
                arm_scores = token_scores(model, rows.items, advance)
            for chosen in job.recipes:
                reference = known.scores(chosen.reference, job.arm, rows.items, advance)
                assert reference is not None
                signal = chosen.make_signal()
                scores = _scores(signal, chosen.signal, rows.items, arm_scores, reference)
                require_numbers(run_dir, job.arm.name, scores)
                write_scores(run_dir, plan, job.arm.name, chosen, scores, rows.counts())


def items_of(plan: Plan, candidates: CandidateUnits, tokenizer: Any) -> Items:
    """Two items a pair, chosen and rejected, one after the other: of canaries, then of units with a coin.

    A pair of which an answer is cut off whole has none, and its unit is unscored if all its pairs are so.
    """
    settings = plan.suite.model
    lengths = (settings.max_length, settings.pair_prompt, settings.pair_answer)
    made: list[Item] = []
    unscored: dict[str, str] = {}
    for example, kind, pairs in _units(candidates):
        mine: list[Item] = []
        for pair in pairs:
            both = [
                Item(example, kind, encoded, counted_mask(encoded.answer_mask), "", ItemSource(pair, True))
                for encoded in encode_record(pair, tokenizer, *lengths)
            ]
            mine += both if all(item.counted.any() for item in both) else []
        if pairs and not mine:
            unscored[example] = kind
        made += mine
    return Items(made, unscored)


def _units(candidates: CandidateUnits) -> Iterator[tuple[str, str, list[Record]]]:
    canaries = [c for c in candidates.canaries if c.purpose == "mia" and c.pair is not None]
    return chain(
        ((canary.id, "canary", [canary.pair]) for canary in canaries if canary.pair),
        ((unit, "record", pairs) for unit, pairs in candidates.pairs.items()),
    )


def _scores(
    signal: Any,
    name: str,
    items: Sequence[Item],
    arm: Sequence["TokenScores"],
    reference: Sequence["TokenScores"],
) -> list[Score]:
    """One score an example: a unit's pairs add up."""
    triples = zip(items, arm, reference, strict=True)
    spans = [_span(item, scored, compared) for item, scored, compared in triples]
    values: dict[tuple[str, str], float] = {}
    for item, chosen, rejected in zip(items[::2], spans[::2], spans[1::2], strict=True):
        key = (item.example, item.kind)
        values[key] = values.get(key, 0.0) + signal(PairSpan(chosen, rejected))
    return [Score(example, kind, name, value) for (example, kind), value in values.items()]


def _span(item: Item, scored: "TokenScores", reference: "TokenScores") -> Span:
    return Span(scored.logprob, scored.mean, scored.std, reference.logprob, item.text)
