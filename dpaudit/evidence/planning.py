"""The calculator behind `dpaudit bound power`: what an audit could detect, before it is run."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom

from dpaudit.errors import UsageError
from dpaudit.evidence import bounds
from dpaudit.privacy.accountants import calibrate, epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import mechanism as whitebox
from dpaudit.stats.epsilon import epsilon_ceiling_one_run, epsilon_lower_one_run
from dpaudit.stats.mechanism import SampledGaussian

CANARIES_MOST = 100_000  # takes minutes on one processor
VIOLATION_MOST = 1e4
CANARIES = (100, 200, 500, 1000, 2000, 5000, 10_000)
POWER = 0.8
VIOLATIONS = ("noise/2", "rate*4", "steps*3")  # as examples: any number may stand there
_FORM = re.compile(r"(noise)/(\d+(?:\.\d+)?)|(rate|steps)\*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class AuditPlan:
    """The claim of a training of `steps` steps at `rate`, and the violation to detect."""

    epsilon: float  # claimed, nats
    delta: float
    rate: float
    steps: int
    violation: str  # one of VIOLATIONS with any number


def power(
    plan: AuditPlan,
    canaries: Sequence[int] = CANARIES,
    confidence: float = 0.95,
    advance: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """For each number of canaries the guesses, and the chance that each check refutes the claim.

    The attacker sees every step (white box); an attacker who sees less detects less. `needed` is the least
    number given that detects the violation with a chance of 80 %, None where none does. Raises UsageError in
    one line for anything out of range.
    """
    bounds.check_confidence(confidence)
    _check(plan, canaries)
    claimed = _claimed(plan)
    acting = _violated(plan, claimed)
    rows = []
    for count in canaries:
        rows.append(_row(plan, claimed, acting, count, confidence))
        advance(1)
    return {
        "epsilon_claimed": plan.epsilon,
        "epsilon_acting": _epsilon(acting, plan.delta),
        "noise_multiplier": claimed.noise_multiplier,
        "violation": plan.violation,
        "needed": {
            check: next((row["canaries"] for row in rows if row[check] >= POWER), None)
            for check in ("one_run_bound", "mechanism_test")
        },
        "access": "white box: every step is seen; whoever sees less, detects less",
        "audits": rows,
    }


def _check(plan: AuditPlan, canaries: Sequence[int]) -> None:
    if max(canaries) > CANARIES_MOST:
        raise UsageError("--canaries", f"at most {CANARIES_MOST:,}", f"{max(canaries):,}")
    if math.isinf(plan.epsilon):
        raise UsageError("--eps", "a finite number, which can be violated", "inf")
    if plan.steps < 1:
        raise UsageError("--steps", "at least one step", str(plan.steps))


def _row(
    plan: AuditPlan, claimed: SampledGaussian, acting: SampledGaussian, canaries: int, confidence: float
) -> dict[str, Any]:
    guesses = whitebox.guesses_frozen(claimed, canaries, plan.delta, confidence)
    at = {"canaries": canaries, "guesses": guesses, "delta": plan.delta, "confidence": confidence}
    refuting = _least_refuting(plan.epsilon, at)
    right = whitebox.accuracy(acting, claimed, guesses / canaries)
    return {
        "canaries": canaries,
        "guesses": guesses,
        "epsilon_ceiling": epsilon_ceiling_one_run(**at),  # type: ignore[arg-type]
        "one_run_bound": float(binom.sf(refuting - 1, guesses, min(right, 1.0))),
        "mechanism_test": whitebox.power(acting, claimed, canaries, confidence),
    }


def _least_refuting(epsilon: float, at: dict[str, Any]) -> int:
    """How many right guesses refute the claim; guesses + 1 where not even all of them do."""
    low, high = 0, at["guesses"] + 1
    while low < high:
        middle = (low + high) // 2
        if epsilon_lower_one_run(correct=middle, **at) > epsilon:
            high = middle
        else:
            low = middle + 1
    return low


def _claimed(plan: AuditPlan) -> SampledGaussian:
    try:
        spec = Claim(plan.epsilon, plan.delta, "record", "add_or_remove")
        return SampledGaussian(calibrate(spec, plan.rate, plan.steps), plan.rate, plan.steps)
    except ValueError as error:
        raise UsageError(
            "dpaudit bound power",
            str(error).removeprefix("expected ").split(", got")[0],
            str(error).rpartition("got ")[2],
        ) from None


def _violated(plan: AuditPlan, claimed: SampledGaussian) -> SampledGaussian:
    match = _FORM.fullmatch(plan.violation.replace(" ", ""))
    if match is None:
        raise UsageError("--violation", f"such as {', '.join(VIOLATIONS)}", plan.violation)
    noise, divisor, kind, factor = match.groups()
    number = float(divisor or factor)
    if not 1 < number <= VIOLATION_MOST:
        raise UsageError(
            "--violation",
            f"a number above 1, at most {VIOLATION_MOST:g}",
            f"{plan.violation:.40}",
        )
    if noise:
        return SampledGaussian(claimed.noise_multiplier / number, plan.rate, plan.steps)
    if kind == "rate":
        if plan.rate * number > 1:
            raise UsageError("--violation", f"a rate of at most 1, with --rate {plan.rate:g}", plan.violation)
        return SampledGaussian(claimed.noise_multiplier, plan.rate * number, plan.steps)
    return SampledGaussian(claimed.noise_multiplier, plan.rate, round(plan.steps * number))


def _epsilon(mechanism: SampledGaussian, delta: float) -> float:
    return epsilon_spent(
        Mechanism(mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps, 1.0), delta
    )
