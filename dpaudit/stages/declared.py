"""The claims of a run, declared before training or added later, against the bounds, the arms' own ledgers and
what was seen from inside.
"""

import os
from collections.abc import Sequence

from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.findings.declared import ClaimOfRun, ClaimsOfRun
from dpaudit.findings.together import Together
from dpaudit.signals import recipe
from dpaudit.stages import outputs
from dpaudit.stages.audit import audit, inside, repeats
from dpaudit.stages.audit.members import audit_file, audit_inputs
from dpaudit.stages.integrity import custody
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.report import CLAIMS
from dpaudit.storage.exclusive import writing
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import is_sealable
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Declared


def verdicts(run_dir: RunDir, plan: Plan) -> tuple[ClaimOfRun, ...]:
    """The verdict on each claim of the run, from the bounds that its audit found, and what was seen from
    inside. Where neither the suite nor anybody later made one, the claims are those that its private arms
    were trained for.

    Each says when it was made, and whether that was before training. Those under `claims` are kept in
    audit/claims.json where the run can be written and the key of its seals is there. Raises UsageError where
    the run has no private arm either, and where an audit is missing or out of date.
    """
    custody.require(run_dir, plan)
    every = plan.suite.grid.named(None, twins=False)
    arms = [arm for arm in every if TrainedArm(run_dir, arm.name).is_there]
    made = declarations.claims(run_dir)
    wanted = made or _own(run_dir, plan, arms)
    _require(run_dir, plan, [claim for claim, _ in wanted])
    found = audit.together(run_dir, plan, arms)
    looked_at = tuple(_verdict(run_dir, found, claim, entry) for claim, entry in wanted)
    if made and os.access(run_dir.path, os.W_OK) and is_sealable(run_dir.path):
        with writing(run_dir, "audit"):
            audit.summarise(run_dir, plan, arms)
            ClaimsOfRun(looked_at).write(run_dir, CLAIMS, [repeats.SUMMARY, declarations.input_of("claims")])
    return looked_at


def of_summary(run_dir: RunDir, found: Together) -> ClaimsOfRun:
    """The claims of the run's record with what the audit of all arms says of them."""
    made = declarations.claims(run_dir)
    return ClaimsOfRun(tuple(_verdict(run_dir, found, claim, entry) for claim, entry in made))


def _own(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> list[tuple[Declared, declarations.Entry]]:
    """What the private arms were trained for, which the plan declares. Raises UsageError without such an
    arm.
    """
    training, entry = plan.suite.training, declarations.entries(run_dir, declarations.CLAIMS)[0]
    private = [arm for arm in arms if arm.private]
    if not private:
        raise UsageError(
            f"{run_dir.name}: claims",
            "a claim of the suite, a claim added later, or a private arm",
            "none of them",
            f"--arm ARM {claims.EXAMPLE} adds a claim, marked as added later",
        )
    return [
        (Declared(arm.name, arm.epsilon, training.delta, training.unit, training.relation), entry)
        for arm in private
    ]


def require_ready(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError where a file of the run was altered, and where what a claim of the plan rests on is
    missing or out of date.
    """
    _require(run_dir, plan, plan.suite.claims)


def _require(run_dir: RunDir, plan: Plan, claimed: Sequence[Declared]) -> None:
    outputs.require(run_dir, plan)
    for name in dict.fromkeys(claim.arm for claim in claimed):
        command = f"dpaudit attack {recipe.load(plan.suite.primary).kind}"
        made_from = audit_inputs(name, plan.suite.primary)
        run_dir.require_current(audit_file(name, plan.suite.primary), made_from, command)
        inside.require_current(run_dir, name)


def _verdict(run_dir: RunDir, found: Together, claim: Declared, entry: declarations.Entry) -> ClaimOfRun:
    answer = next(a for a in found.answers if (a.arm, a.claim) == (claim.arm, claim.claim))
    outside = next((question for question in answer.questions if question.side == "outside"), None)
    return ClaimOfRun(
        arm=claim.arm,
        claim=claim.epsilon,
        delta=claim.delta,
        mark=entry.mark,
        date=entry.date,
        adapter_sha256=custody.adapter_digest(run_dir, claim.arm),
        epsilon_lower=outside.epsilon_lower if outside else None,
        ceiling=outside.ceiling if outside else None,
        verdict=answer.verdict,
        reason=answer.reason,
        before=answer.before,
    )
