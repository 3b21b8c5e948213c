"""How each planted secret ranks among all that might have been drawn, and whether greedy decoding writes it. No labels."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpaudit import extraction
from dpaudit.canary import Canary
from dpaudit.extraction import ExactRank
from dpaudit.models.encode import counted_mask
from dpaudit.progress import Progress
from dpaudit.recipe import Recipe
from dpaudit.rundir import RunDir
from dpaudit.stages.prepare import Candidates
from dpaudit.stages.scores import Job, Score, by_recipe, require_numbers, write_scores
from dpaudit.suite import Plan

if TYPE_CHECKING:
    from dpaudit.models.hf import HFModel
    from dpaudit.models.spaces import Space


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[Job],
    candidates: Candidates,
    model: "HFModel",
) -> None:
    canaries = [canary for canary in candidates.canaries if canary.purpose == "extraction"]
    for made_by, arms in by_recipe(jobs):
        spaces = _spaces(plan, progress, made_by, canaries, model)
        with progress.task("attack extract: ranking secrets", total=len(canaries) * len(arms)) as advance:
            for arm in arms:
                scores: list[Score] = []
                with model.active(arm.name):
                    written = _written(model, spaces)
                    for canary, space, greedy in zip(canaries, spaces, written, strict=True):
                        scores += _secret_scores(canary, space, greedy, model)
                        advance(1)
                require_numbers(run_dir, arm.name, scores)
                write_scores(run_dir, arm.name, made_by, scores)


def _spaces(
    plan: Plan, progress: Progress, made_by: Recipe, canaries: Sequence[Canary], model: "HFModel"
) -> list["Space"]:
    """Each canary's whole space, or of one that is too large its secret and others of the same space."""
    from dpaudit.models.spaces import Spaces

    measure: Any = made_by.make_signal()
    maker, spaces = Spaces(model.tokenizer, plan.suite.model.max_length), []
    with progress.task("attack extract: listing candidate secrets", total=len(canaries)) as advance:
        for canary in canaries:
            spaces.append(maker.of(canary, _others(canary, measure, plan.seed)))
            advance(1)
    return spaces


def _others(canary: Canary, measure: ExactRank, seed: int) -> list[str] | None:
    if canary.space is not None and canary.space <= measure.exact_up_to:
        return None
    return extraction.other_secrets(canary, measure.samples, random.Random(f"exposure/{seed}/{canary.id}"))


def _written(model: "HFModel", spaces: Sequence["Space"]) -> list[bool]:
    """Whether greedy decoding of what stands before each secret writes it."""
    masks = [counted_mask(space.encoded.secret_mask) for space in spaces]
    found = model.token_scores([space.encoded for space in spaces], counted=masks)
    return [bool(own.greedy[mask].all()) for own, mask in zip(found, masks, strict=True)]


def _secret_scores(canary: Canary, space: "Space", written: bool, model: "HFModel") -> list[Score]:
    """The figures of one secret; NaN where the model gives no number."""
    logprobs = model.sequence_logprobs(space.prefix, space.trie)
    whole = len(logprobs) == canary.space
    made = (
        _exact(logprobs, space.secret_index) if whole else _extrapolated(canary, logprobs, space.secret_index)
    )
    size = {} if canary.space is None else {"space": canary.space}
    found = {**made, **size, "greedy_match": written, "extrapolated": not whole}
    return [Score(canary.id, "canary", signal, float(value)) for signal, value in found.items()]


def _exact(logprobs: NDArray[np.float64], secret: int) -> dict[str, float]:
    if np.isnan(logprobs).any():
        return {"rank": np.nan, "exposure": np.nan}
    return {"rank": extraction.rank(logprobs, secret), "exposure": extraction.exposure(logprobs, secret)}


def _extrapolated(canary: Canary, logprobs: NDArray[np.float64], secret: int) -> dict[str, float]:
    """The exposure without a rank: no one but the samples was compared."""
    if not np.isfinite(logprobs).all():
        return {"exposure": np.nan}
    others = np.delete(logprobs, secret)
    found = extraction.exposure_extrapolated(others, float(logprobs[secret]), canary.space)
    return {
        "exposure": found.exposure,
        "beyond_samples": found.beyond_samples,
        "capped": found.capped,
        "samples": len(others),
    }
