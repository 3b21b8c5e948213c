"""The probability that sampling once, in the declared way, writes a planted secret. No labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dpaudit.models.encode import counted_mask
from dpaudit.stages.attack.scores import Score, ScoringJob, by_recipe, require_numbers, write_scores
from dpaudit.stages.prepare.candidates import CandidateUnits
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[ScoringJob],
    candidates: CandidateUnits,
    model: "HFModel",
) -> None:
    """One row a canary: the log-probability, in nats, of its secret after all that stands before it.

    Only the tokens count that the tokenizer makes of the whole text. Other tokens may spell the same secret,
    so the probability that the words come out is a little higher.
    """
    from dpaudit.models.spaces import encoded_secret

    canaries = [canary for canary in candidates.canaries if canary.purpose == "extraction"]
    items = [encoded_secret(canary, model.tokenizer, plan.suite.model.max_length) for canary in canaries]
    masks = [counted_mask(item.secret_mask) for item in items]
    for made_by, arms in by_recipe(jobs):
        how: Any = made_by.make_signal()
        with progress.task("attack extract: probability of secrets", total=len(arms)) as advance:
            for arm in arms:
                with model.active(arm.name):
                    logprobs = model.decoding_logprobs(items, masks, how.temperature, how.top_k, how.top_p)
                scores = [
                    Score(canary.id, "canary", "sequence_logprob", float(tokens.sum()))
                    for canary, tokens in zip(canaries, logprobs, strict=True)
                ]
                require_numbers(run_dir, arm.name, scores)
                write_scores(run_dir, plan, arm.name, made_by, scores)
                advance(1)
