"""Extraction in stage attack: how each planted secret ranks in its space, and whether greedy decoding writes it. No labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dpaudit import extraction
from dpaudit.canary import Canary
from dpaudit.models.encode import counted_mask
from dpaudit.progress import Progress
from dpaudit.rundir import RunDir
from dpaudit.stages.prepare import Candidates
from dpaudit.stages.scores import Job, Score, require_numbers, write_scores
from dpaudit.suite import Plan

if TYPE_CHECKING:
    from dpaudit.models import TokenScores
    from dpaudit.models.hf import HFModel


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[Job],
    candidates: Candidates,
    model: "HFModel",
) -> None:
    from dpaudit.models.spaces import Space, Spaces

    canaries = [canary for canary in candidates.canaries if canary.purpose == "extraction"]
    maker = Spaces(model.tokenizer, plan.suite.model.max_length)
    spaces: list[Space] = []
    with progress.task("attack extract: listing candidate secrets", total=len(canaries)) as advance:
        for canary in canaries:
            spaces.append(maker.of(canary))
            advance(1)
    with progress.task("attack extract: ranking secrets", total=len(canaries) * len(jobs)) as advance:
        for job in jobs:
            scores: list[Score] = []
            with model.active(job.arm.name):
                greedy = model.token_scores(
                    [space.encoded for space in spaces],
                    counted=[counted_mask(space.encoded.secret_mask) for space in spaces],
                )
                for canary, space, own in zip(canaries, spaces, greedy, strict=True):
                    scores += _secret_scores(canary, space, own, model)
                    advance(1)
            require_numbers(run_dir, job.arm.name, scores)
            for chosen in job.recipes:
                write_scores(run_dir, job.arm.name, chosen, scores)


def _secret_scores(canary: Canary, space: Any, own: "TokenScores", model: "HFModel") -> list[Score]:
    """Rank, space and exposure of a secret, and whether greedy decoding writes it; NaN where the model gives NaN."""
    logprobs = model.sequence_logprobs(space.prefix, space.trie)
    broken = bool(np.isnan(logprobs).any())
    rank = float("nan") if broken else extraction.rank(logprobs, space.secret_index)
    bits = float("nan") if broken else extraction.exposure(logprobs, space.secret_index)
    written = bool(own.greedy[counted_mask(space.encoded.secret_mask)].all())
    found = {"rank": rank, "space": canary.space, "exposure": bits, "greedy_match": written}
    return [Score(canary.id, "canary", signal, float(value)) for signal, value in found.items()]
