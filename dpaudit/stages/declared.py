"""The claims of a run, declared before training or added later, against the bounds, the arms' own ledgers and
what was seen from inside.
"""

import os
from collections.abc import Sequence
from typing import Literal

from dpaudit.errors import UsageError
from dpaudit.evidence import claims, control
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.verdict import conclude
from dpaudit.findings.declared import ClaimOfRun, ClaimsOfRun
from dpaudit.findings.inside import Inside
from dpaudit.findings.membership import Membership, Word
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.stages import outputs
from dpaudit.stages.audit import inside
from dpaudit.stages.audit.members import audit_file, audit_inputs
from dpaudit.stages.integrity import custody
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.report import CLAIMS
from dpaudit.storage.exclusive import writing
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import is_sealable
from dpaudit.suite import declarations
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Declared

LedgerWord = Literal["refuted", "not refuted"]


def verdicts(run_dir: RunDir, plan: Plan) -> tuple[ClaimOfRun, ...]:
    """The verdict on each claim of the run, from the bounds that its audit found, and what was seen from
    inside.

    Each says when it was made, and whether that was before training; they are kept in audit/claims.json where
    the run can be written and the key of its seals is there. Raises UsageError where the run has none, and
    where an audit is missing or out of date.
    """
    custody.require(run_dir, plan)
    wanted = declarations.claims(run_dir)
    if not wanted:
        raise UsageError(
            f"{run_dir.name}: claims",
            "claims of this run",
            "no claim",
            f"--arm ARM {claims.EXAMPLE} adds one, marked as added later; those under `claims:` of a suite "
            f"are declared",
        )
    _require(run_dir, plan, [claim for claim, _ in wanted])
    looked_at = tuple(_verdict(run_dir, plan, claim, entry) for claim, entry in wanted)
    made_from = dict.fromkeys(file for claim, _ in wanted for file in _inputs(run_dir, plan, claim.arm))
    if os.access(run_dir.path, os.W_OK) and is_sealable(run_dir.path):
        with writing(run_dir, "audit"):
            ClaimsOfRun(looked_at).write(run_dir, CLAIMS, [*made_from, declarations.input_of("claims")])
    return looked_at


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


def _inputs(run_dir: RunDir, plan: Plan, arm: str) -> list[str]:
    seen = inside.file_of(arm)
    files = [audit_file(arm, plan.suite.primary), TrainedArm(run_dir, arm).ledger_file]
    return [*files, *([seen] if run_dir.file(seen).is_file() else [])]


def _verdict(run_dir: RunDir, plan: Plan, claim: Declared, entry: declarations.Entry) -> ClaimOfRun:
    audit = Membership.read(run_dir, audit_file(claim.arm, plan.suite.primary))
    guesses = Guesses.of_bound(control.bound_of(audit))
    answer = conclude(claim.claim, guesses, control.broken(audit.blind))
    word, why = _ledger(run_dir, claim)
    return ClaimOfRun(
        arm=claim.arm,
        claim=claim.epsilon,
        delta=claim.delta,
        mark=entry.mark,
        date=entry.date,
        adapter_sha256=custody.adapter_digest(run_dir, claim.arm),
        epsilon_lower=guesses.lower(claim.delta),
        ceiling=guesses.ceiling(claim.delta),
        verdict=answer.verdict,
        reason=answer.reason,
        control_verdict=_without_noise(run_dir, plan, claim.arm, claim.claim),
        ledger=word,
        ledger_reason=why,
    )


def _without_noise(run_dir: RunDir, plan: Plan, name: str, claim: Claim) -> Word | None:
    """What the same attack says of the same claim on the arm without noise; None where none was audited."""
    known = {arm.name: arm for arm in plan.suite.grid.arms if not arm.twin}
    files = {arm: audit_file(arm.name, plan.suite.primary) for arm in known.values()}
    audits = {
        arm: Membership.read(run_dir, file)
        for arm, file in files.items()
        if run_dir.is_current(file, audit_inputs(arm.name, plan.suite.primary))
    }
    return control.behind(known[name], claim, audits).control_verdict


def _ledger(run_dir: RunDir, claim: Declared) -> tuple[LedgerWord | None, str | None]:
    """What the arm's own ledger, and canaries along axes where there are any, say of a declared claim, and
    why.

    "refuted" where the ledger spends more than is claimed; None where nothing but the bound speaks.
    """
    arm = TrainedArm(run_dir, claim.arm)
    spent = arm.ledger().epsilon_at(claim.delta)
    if not claim.claim.covers(spent):
        return "refuted", f"its ledger spends an epsilon of {spent:.4g} at delta {claim.delta:g}"
    if not arm.has_axes:
        return None, None
    word = Inside.read(run_dir, inside.file_of(claim.arm)).ledger
    return word, "seen from inside, training did not run its ledger" if word == "refuted" else None
