"""Whether a training kept to the mechanism in its ledger, from what an observer inside it saw: pass, fail,
not observable.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from torch import nn

from dpaudit.errors import GuardError
from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.claim import Claim, Relation
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import guards
from dpaudit.training.observation import Observation
from dpaudit.training.state import Step

Outcome = Literal["pass", "fail", "not observable"]

LEDGER = (
    "steps counted",
    "epsilon of the ledger",
)  # these compare with the ledger, the others with the mechanism that acted
UNSEEN = {
    "tuning": "discarded trainings leave no trace in the training that was kept",
    "stages before": "what another training did with the same units is known only from its ledger",
}


@dataclass(frozen=True)
class Check:
    name: str
    outcome: Outcome
    detail: str  # a failure's expected and observed values; else empty, or why nothing is observable


def checks(seen: Observation, ledger: Mechanism, claim: Claim) -> tuple[Check, ...]:
    """Every check of one run against its ledger and claim.

    A check fails on a correct run with probability at most `guards.FALSE_ALARM`.
    """
    rate, deviation = ledger.sampling_rate, ledger.noise_multiplier * ledger.clip
    steps = [Step(i, int(n), 0.0, None, 0.0, 0.0) for i, n in enumerate(seen.drawn)]
    weights = {name: nn.Parameter(part) for name, part in seen.end.items()}
    return (
        _check("noise of every weight", lambda: guards.check_scale(seen.probes, deviation)),
        _check("noise fresh in every step", lambda: guards.check_fresh(seen.probes)),
        _check("units a step", lambda: guards.check_sampling(steps, len(seen.times), rate)),
        _check("draws of a unit", lambda: guards.check_even(seen.times.tolist(), len(steps), rate)),
        _check("one unit's part of a sum", lambda: guards.check_clipped(seen.one_unit_norm, 1, ledger.clip)),
        _check("weights moved", lambda: guards.check_moved(weights, seen.start, True)),
        _check("steps counted", lambda: guards.check_counted(len(steps), ledger)),
        _check("epsilon of the ledger", lambda: _check_spent(ledger, claim)),
        *(Check(name, "not observable", why) for name, why in UNSEEN.items()),
    )


def _check(name: str, guard: Callable[[], None]) -> Check:
    try:
        guard()
    except GuardError as error:
        return Check(name, "fail", str(error))
    return Check(name, "pass", "")


def _check_spent(ledger: Mechanism, claim: Claim) -> None:
    spent = _spent(ledger, claim.delta, claim.relation)
    if not claim.covers(spent):
        raise GuardError(f"epsilon: expected at most {claim.epsilon:g} as claimed, seen {spent:.4g}")


@cache
def _spent(ledger: Mechanism, delta: float, relation: Relation) -> float:
    return epsilon_spent(ledger, delta, relation)
