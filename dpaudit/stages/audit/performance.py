"""How well scores tell members from others, with the coins beside them."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dpaudit.evidence.guesses import Guesses, guess
from dpaudit.findings.membership import Curve, Performance, TprAtFpr
from dpaudit.signals.recipe import Bound, Guess
from dpaudit.stats import roc

CONFIDENCE = 0.95  # of intervals; a bound's confidence is its recipe's
FPR = 0.01


@dataclass(frozen=True, eq=False)
class Labelled:
    """The scores of one kind of example with the coins: arrays of shape (examples,)."""

    scores: NDArray[np.float64]
    members: NDArray[np.bool_]
    once: NDArray[np.bool_]  # is in one unit, if in any: only these support a bound
    names: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether there are both members and controls."""
        return bool(self.members.any() and not self.members.all())


def guess_by(scores: NDArray[np.float64], members: NDArray[np.bool_], rule: Bound) -> Guesses:
    """The guesses of a recipe's rule on arrays of shape (canaries,); their number alone sets how many."""
    return guess(scores, members, rule.guess.sides(len(scores)), rule.confidence)


def performance(examples: Labelled, seed: int) -> Performance:
    """AUC, ROC curve with pointwise intervals of its true positive rate, and the rate at 1 % false
    positives.
    """
    area = roc.auc_interval(examples.scores, examples.members, CONFIDENCE)
    curve = roc.roc_curve(examples.scores, examples.members)
    members = int(examples.members.sum())
    band = [_rate_interval(round(rate * members), members) for rate in curve.tpr]
    return Performance(
        n=len(examples.scores),
        members=members,
        auc=area.auc,
        auc_lower=area.lower,
        auc_upper=area.upper,
        confidence=CONFIDENCE,
        tpr_at_fpr=_tpr_at_fpr(examples, curve, seed),
        roc=Curve(
            fpr=tuple(curve.fpr.tolist()),
            tpr=tuple(curve.tpr.tolist()),
            tpr_lower=tuple(interval.lower for interval in band),
            tpr_upper=tuple(interval.upper for interval in band),
        ),
    )


def _tpr_at_fpr(examples: Labelled, curve: roc.Roc, seed: int) -> TprAtFpr:
    low = roc.tpr_at_fpr(examples.scores, examples.members, FPR, CONFIDENCE, seed)
    return TprAtFpr(
        measurable=low.measurable,
        fpr_target=low.fpr_target,
        controls=low.controls,
        members=low.members,
        tpr=low.tpr,
        tpr_lower=low.tpr_lower,
        tpr_upper=low.tpr_upper,
        fpr_measured=low.fpr_measured,
        fpr_upper=low.fpr_upper,
        # on the curve itself, for any number of controls; its threshold is chosen on the same controls
        tpr_on_curve=float(curve.tpr[curve.fpr <= FPR].max()),
    )


@cache
def _rate_interval(successes: int, trials: int) -> roc.Interval:
    return roc.proportion_interval(successes, trials, CONFIDENCE)


def rule(guess: Guess) -> str:
    """The guess rule in words."""
    if guess.side == "both":
        return (
            f"the {guess.fraction / 2:.0%} of canaries with the highest scores are called members and the "
            f"{guess.fraction / 2:.0%} with the lowest are not, no other is guessed; a tie counts against "
            f"the bound"
        )
    return (
        f"the {guess.fraction:.0%} of canaries with the highest scores are called members, no other "
        "is guessed; a tie counts against the bound"
    )
