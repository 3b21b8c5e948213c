"""What trainings of one kind that differ by their seed prove together: a bound of the method, with the seed
as a cluster. It decides nothing: a verdict is of one adapter.
"""

from collections.abc import Mapping, Sequence

from dpaudit.evidence import control
from dpaudit.evidence.guesses import NOTION
from dpaudit.findings.membership import Membership
from dpaudit.findings.together import OverSeeds
from dpaudit.stats import pooled
from dpaudit.suite.grid import Arm

Audits = Mapping[Arm, Membership]  # what the primary recipe found on each arm; all have a bound


def over_seeds(audits: Audits) -> tuple[OverSeeds, ...]:
    """An entry for every kind of training (method, loss and epsilon); none where all have one seed."""
    if not any(arm.seed for arm in audits):
        return ()
    kinds: dict[tuple[str, str, float], list[Membership]] = {}
    for arm, audit in audits.items():
        kinds.setdefault((arm.method, arm.loss, arm.epsilon), []).append(audit)
    return tuple(map(_of_kind, kinds.values()))


def _of_kind(audits: Sequence[Membership]) -> OverSeeds:
    bounds, note = [control.bound_of(audit) for audit in audits], _unproven(audits)
    delta, confidence = bounds[0].delta, bounds[0].confidence
    runs = [pooled.Run(bound.canaries, bound.guesses, bound.correct) for bound in bounds]
    own = [bound.epsilon_lower for bound in bounds]
    settings = {"delta": delta, "confidence": confidence}
    return OverSeeds(
        arms=tuple(audit.arm for audit in audits),
        epsilon=audits[0].claim.epsilon if audits[0].claim else None,
        seeds=len(audits),
        own_least=min(own),
        own_most=max(own),
        epsilon_lower=None if note else pooled.epsilon_lower_pooled(runs=runs, **settings),
        ceiling=None if note else pooled.epsilon_ceiling_pooled(runs=runs, **settings),
        **settings,
        notion=NOTION,
        note=note,
    )


def _unproven(audits: Sequence[Membership]) -> str | None:
    """Why these trainings prove nothing of their kind; None where they may."""
    broken = next((why for audit in audits if (why := control.broken(audit.blind))), None)
    if broken is not None or len(audits) >= pooled.SEEDS_LEAST:
        return broken
    return f"a statement about a method needs {pooled.SEEDS_LEAST} seeds; audited: {len(audits)}"
