"""The calculator behind `dpaudit bound`: a lower bound on epsilon from counts, or from a file of scores,
without a run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta, binomtest

from dpaudit.errors import UsageError
from dpaudit.evidence.guesses import FAMILY_NOTION, NOTION, guess_both
from dpaudit.evidence.score_file import Scored, read
from dpaudit.stats import bayes, epsilon, fdp
from dpaudit.stats.roc import auc_interval

METHODS = ("one-run", "f-dp", "clopper-pearson", "bayes")
NOTIONS = {
    "one-run": NOTION,
    "f-dp": FAMILY_NOTION,
    "clopper-pearson": "(eps,delta), if every score comes from a training of its own",
    "bayes": "credible interval, which refutes nothing; for scores that each come from a training of their "
    "own",
}
GUESSED = 0.4  # of the canaries, by default: as in the shipped recipes
SURE_LEAST = 1e-12  # least confidence, and least error
CANARIES_MOST = 10**7  # takes minutes on one processor
NOT_BLIND = (
    "not possible: the scores come without texts, so it is not known whether the texts alone show who "
    "was included"
)
SWAPPED_ERROR = 1e-3  # chance of warning of scores that say nothing
UNFAIR = 1e-6  # p-value of coins below which they were not fair


@dataclass(frozen=True)
class Sampled:
    """Training whose units were Poisson-sampled: the family of `f-dp` where it is given."""

    rate: float
    steps: int


def sampled(rate: float | None, steps: int | None) -> Sampled | None:
    """The sampling that the options give. Raises UsageError for one option without the other."""
    if (rate is None) != (steps is None):
        raise UsageError("--rate, --steps", "both options or none", "one of the two options")
    return Sampled(rate, steps) if rate is not None and steps is not None else None


def one_run(
    canaries: int,
    guesses: int,
    correct: int,
    delta: float,
    confidence: float,
    method: str = "one-run",
    sampling: Sampled | None = None,
) -> dict[str, Any]:
    """What the guesses of one run prove, and what they would prove if all were right; epsilons in nats.

    `f-dp` holds inside the Gaussian family, or, given how units were sampled (`sampling`), inside that of
    sampled Gaussian steps. Raises UsageError in one line for counts, delta or confidence out of range, and
    for another method.
    """
    if method not in ("one-run", "f-dp"):
        raise UsageError("--method", "one-run or f-dp", method)
    _check_numbers(delta, confidence)
    if not 0 <= correct <= guesses <= canaries or canaries == 0:
        raise UsageError(
            "dpaudit bound one-run",
            "0 <= correct <= guesses <= canaries, at least one canary",
            f"{correct} correct, {guesses} guesses, {canaries} canaries",
        )
    if canaries > CANARIES_MOST:
        raise UsageError("--canaries", f"at most {CANARIES_MOST:,}", f"{canaries:,}")
    if method == "f-dp" and delta == 0:
        raise UsageError(
            "--delta",
            "above 0 with f-dp",
            "0",
            "no Gaussian noise has an epsilon at delta 0",
        )
    lower, notion = _lower(method, sampling)
    at = {"canaries": canaries, "guesses": guesses, "delta": delta, "confidence": confidence}
    return {
        "epsilon_lower": _finite(lower(correct=correct, **at)),
        "epsilon_ceiling": _finite(lower(correct=guesses, **at)),
        "notion": notion,
        **at,
        "correct": correct,
    }


def of_scores(
    file: Path,
    method: str,
    delta: float,
    confidence: float,
    guesses: int | None = None,
    thresholds: Sequence[float] = (),
    sampling: Sampled | None = None,
) -> dict[str, Any]:
    """What a file of `score,included` proves by `method`, with the rule that made guesses of the scores.

    One run (`one-run`, `f-dp`): the `guesses` highest scores are called included. Many runs
    (`clopper-pearson`, `bayes`): a score above a threshold is called included; of several declared
    `thresholds` the best one counts, each at its share of the error (Bonferroni); without any, one half of
    the scores, drawn with a fixed seed, chooses and the other half is measured. Raises UsageError in one line
    for a file that cannot be used.
    """
    if method not in METHODS:
        raise UsageError("--method", f"one of {', '.join(METHODS)}", method)
    _check_numbers(delta, confidence)
    scored = read(file)
    found = _of_scored(file, scored, method, delta, confidence, guesses, thresholds, sampling)
    return found | _swapped(scored) | {"blind_baseline": NOT_BLIND}


def _swapped(scored: Scored) -> dict[str, str]:
    """A warning where those that are in score lower than the others beyond chance; else empty."""
    if auc_interval(scored.scores, scored.included, 1 - 2 * SWAPPED_ERROR).upper >= 0.5:
        return {}
    return {
        "warning": "what was included scores lower than what was not, beyond chance: turn the sign of the "
        "scores, or check that the column included is not exchanged"
    }


def _of_scored(
    file: Path,
    scored: Scored,
    method: str,
    delta: float,
    confidence: float,
    guesses: int | None,
    thresholds: Sequence[float],
    sampling: Sampled | None,
) -> dict[str, Any]:
    if method in ("one-run", "f-dp"):
        if thresholds:
            raise UsageError(
                "--threshold",
                "none with one-run and f-dp: the highest scores are guessed",
                f"{len(thresholds)} thresholds",
                "--guesses N",
            )
        return _of_one_run(file, scored, method, delta, confidence, guesses, sampling)
    if guesses is not None:
        raise UsageError("--guesses", "none with clopper-pearson and bayes", str(guesses), "--threshold T")
    if sampling is not None:
        raise UsageError(
            "--rate, --steps",
            "none with clopper-pearson and bayes",
            "both options",
            "their figures hold for any training",
        )
    if any(map(math.isnan, thresholds)):
        raise UsageError("--threshold", "a number", "nan")
    return _of_many_runs(scored, method, delta, confidence, thresholds)


def _lower(method: str, sampling: Sampled | None) -> tuple[Callable[..., float], str]:
    if sampling is None:
        lower = epsilon.epsilon_lower_one_run if method == "one-run" else fdp.epsilon_lower_fdp_gaussian
        return lower, NOTIONS[method]
    from dpaudit.evidence import subsampled

    if method != "f-dp":
        raise UsageError(
            "--rate",
            "--method f-dp with --rate and --steps",
            f"--method {method}",
            "the (eps,delta) bound needs neither: it holds for any training",
        )
    if not 0 < sampling.rate <= 1 or sampling.steps < 1:
        raise UsageError(
            "--rate, --steps",
            "a rate in (0, 1] and at least one step",
            f"rate {sampling.rate:g}, {sampling.steps} steps",
        )
    chosen = partial(
        subsampled.epsilon_lower_fdp_subsampled, sampling_rate=sampling.rate, steps=sampling.steps
    )
    return chosen, subsampled.NOTION


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _of_one_run(
    file: Path,
    scored: Scored,
    method: str,
    delta: float,
    confidence: float,
    guesses: int | None,
    sampling: Sampled | None,
) -> dict[str, Any]:
    canaries, members = len(scored.scores), int(scored.included.sum())
    if binomtest(members, canaries).pvalue < UNFAIR:
        raise UsageError(
            f"{file}: included",
            "independent fair coins",
            f"{members} of {canaries} included",
            "a one-run bound holds for fair coins alone",
        )
    wanted = math.floor(GUESSED * canaries) if guesses is None else guesses
    if not 1 <= wanted <= canaries:
        raise UsageError("--guesses", f"1 to {canaries}, the number of scores", str(wanted))
    right = guess_both(scored.scores, scored.included, (wanted, 0))
    rule = f"the {wanted} highest scores are called included; ties count against the bound"
    return one_run(canaries, wanted, right, delta, confidence, method, sampling) | {"rule": rule}


def _of_many_runs(
    scored: Scored, method: str, delta: float, confidence: float, thresholds: Sequence[float]
) -> dict[str, Any]:
    if thresholds:
        tried, measured = list(thresholds), scored
        rule = f"a score above {', '.join(f'{t:g}' for t in tried)}, declared" + (
            "; the best counts, each at its share of the error" if len(tried) > 1 else ""
        )
    else:
        choosing, measured = _halves(scored)
        tried = [_best_threshold(choosing, delta, confidence)]
        rule = f"a score above {tried[0]:g}, chosen on a random half of the rows and counted on the other"
    each = 1 - (1 - confidence) / len(tried)
    rows = [_counts(measured, threshold) for threshold in tried]
    shared = {"delta": delta, "confidence": confidence, "notion": NOTIONS[method], "rule": rule}
    if method == "bayes":
        if len(tried) > 1:
            raise UsageError("--threshold", "one threshold with bayes", f"{len(tried)} thresholds")
        interval = bayes.epsilon_credible(**rows[0], delta=delta, confidence=confidence)
        return {"credible_lower": interval.lower, "credible_upper": interval.upper, **shared, **rows[0]}
    bounds = [epsilon.epsilon_lower_clopper_pearson(**row, delta=delta, confidence=each) for row in rows]
    best = int(np.argmax(bounds))
    perfect = rows[best] | {"true_positives": rows[best]["positives"], "false_positives": 0}
    ceiling = epsilon.epsilon_lower_clopper_pearson(**perfect, delta=delta, confidence=each)
    return {"epsilon_lower": bounds[best], "epsilon_ceiling": ceiling, **shared, **rows[best]}


def _counts(scored: Scored, threshold: float) -> dict[str, int]:
    called = scored.scores > threshold
    return {
        "true_positives": int((called & scored.included).sum()),
        "positives": int(scored.included.sum()),
        "false_positives": int((called & ~scored.included).sum()),
        "negatives": int((~scored.included).sum()),
    }


def _best_threshold(scored: Scored, delta: float, confidence: float) -> float:
    """The threshold with the largest Clopper-Pearson bound on these scores, the least of equals."""
    values = np.unique(scored.scores)
    members, controls = np.sort(scored.scores[scored.included]), np.sort(scored.scores[~scored.included])
    caught = len(members) - np.searchsorted(members, values, "right")
    alarms = len(controls) - np.searchsorted(controls, values, "right")
    error = (1 - confidence) / 2
    tpr_lower = np.nan_to_num(beta.ppf(error, caught, len(members) - caught + 1))  # NaN: nothing caught
    fpr_upper = np.nan_to_num(beta.isf(error, alarms + 1, len(controls) - alarms), nan=1.0)
    odds = np.maximum((tpr_lower - delta) / fpr_upper, (1 - fpr_upper - delta) / (1 - tpr_lower))
    return float(values[int(np.argmax(odds))])


def _halves(scored: Scored) -> tuple[Scored, Scored]:
    first, second = np.array_split(np.random.default_rng(0).permutation(len(scored.scores)), 2)
    return Scored(scored.scores[first], scored.included[first]), Scored(
        scored.scores[second], scored.included[second]
    )


def check_confidence(confidence: float) -> None:
    """Raises UsageError for a confidence outside (0, 1), or too near an end."""
    if not SURE_LEAST <= confidence <= 1 - SURE_LEAST:  # NaN too; beyond, its complement is lost in rounding
        raise UsageError("--confidence", "a number in (0, 1), such as 0.95", f"{confidence:g}")


def _check_numbers(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise UsageError("--delta", "a number in [0, 1)", f"{delta:g}")
    check_confidence(confidence)
