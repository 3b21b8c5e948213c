"""How each planted secret ranks among all that might have been drawn, and whether greedy decoding writes it.
No labels.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.data.canary import Canary
from dpaudit.models.encode import counted_mask
from dpaudit.signals import extraction
from dpaudit.signals.extraction import ExactRank
from dpaudit.stages.attack.scores import Score, ScoringJob, by_recipe, require_numbers, write_scores
from dpaudit.stages.prepare.candidates import CandidateUnits
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel
    from dpaudit.models.spaces import TokenSpace


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[ScoringJob],
    candidates: CandidateUnits,
    model: "HFModel",
) -> None:
    canaries = [canary for canary in candidates.canaries if canary.purpose == "extraction"]
    for made_by, arms in by_recipe(jobs):
        measure: Any = made_by.make_signal()
        sampled = [_others(canary, measure, plan.seed) for canary in canaries]
        spaces = _spaces(plan, progress, canaries, sampled, model)
        with progress.task("attack extract: ranking secrets", total=len(canaries) * len(arms)) as advance:
            for arm in arms:
                scores: list[Score] = []
                with model.active(arm.name):
                    written = _written(model, spaces)
                    for canary, space, others, greedy in zip(canaries, spaces, sampled, written, strict=True):
                        scores += _secret_scores(canary, space, others is None, greedy, model)
                        advance(1)
                require_numbers(run_dir, arm.name, scores)
                write_scores(run_dir, plan, arm.name, made_by, scores)


def _spaces(
    plan: Plan,
    progress: Progress,
    canaries: Sequence[Canary],
    sampled: Sequence[list[str] | None],
    model: "HFModel",
) -> list["TokenSpace"]:
    """Each canary's whole space, or where others were sampled its secret and those."""
    from dpaudit.models.spaces import Spaces

    maker, spaces = Spaces(model.tokenizer, plan.suite.model.max_length), []
    with progress.task("attack extract: listing candidate secrets", total=len(canaries)) as advance:
        for canary, others in zip(canaries, sampled, strict=True):
            spaces.append(maker.of(canary, others))
            advance(1)
    return spaces


def _others(canary: Canary, measure: ExactRank, seed: int) -> list[str] | None:
    """A sample of the other secrets of a space that is too large; None for one that is ranked whole."""
    if canary.space is not None and canary.space <= measure.exact_up_to:
        return None
    return extraction.other_secrets(canary, measure.samples, random.Random(f"exposure/{seed}/{canary.id}"))


def _written(model: "HFModel", spaces: Sequence["TokenSpace"]) -> list[bool]:
    """Whether greedy decoding of what stands before each secret writes it."""
    masks = [counted_mask(space.encoded.secret_mask) for space in spaces]
    arm_scores = model.token_scores([space.encoded for space in spaces], counted=masks)
    return [bool(scores.greedy[mask].all()) for scores, mask in zip(arm_scores, masks, strict=True)]


def _secret_scores(
    canary: Canary, space: "TokenSpace", whole: bool, written: bool, model: "HFModel"
) -> list[Score]:
    """The figures of one secret; NaN where the model gives no number."""
    logprobs = model.sequence_logprobs(space.prefix, space.trie)
    made = (
        _exact(logprobs, space.secret_index) if whole else _extrapolated(canary, logprobs, space.secret_index)
    )
    size = {} if canary.space is None else {"space": canary.space}
    figures = {**made, **size, "greedy_match": written, "extrapolated": not whole}
    return [Score(canary.id, "canary", signal, float(value)) for signal, value in figures.items()]


def _exact(logprobs: NDArray[np.float64], secret: int) -> dict[str, float]:
    if np.isnan(logprobs).any():
        return {"rank": np.nan, "exposure": np.nan}
    return {"rank": extraction.rank(logprobs, secret), "exposure": extraction.exposure(logprobs, secret)}


def _extrapolated(canary: Canary, logprobs: NDArray[np.float64], secret: int) -> dict[str, float]:
    """The exposure without a rank: only the samples were compared."""
    if not np.isfinite(logprobs).all():
        return {"exposure": np.nan}
    others = np.delete(logprobs, secret)
    estimate = extraction.exposure_extrapolated(others, float(logprobs[secret]), canary.space)
    return {
        "exposure": estimate.exposure,
        "beyond_samples": estimate.beyond_samples,
        "capped": estimate.capped,
        "samples": len(others),
    }
