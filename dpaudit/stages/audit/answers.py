"""The answer to every claim of a run: its two questions, tested in one family over all claims."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dpaudit.evidence import control, questions
from dpaudit.evidence.questions import Asked, Control, Earlier, Outside, Training
from dpaudit.evidence.verdict import Verdict
from dpaudit.findings.answers import Answered
from dpaudit.findings.inside import Inside
from dpaudit.findings.membership import Membership
from dpaudit.privacy import ledger as ledgers
from dpaudit.privacy.claim import Claim
from dpaudit.stages.audit import chain, inside, repeats
from dpaudit.stages.audit.members import audit_file
from dpaudit.stages.audit.repeats import Page
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, nonprivate
from dpaudit.suite.plan import Plan

Audits = Mapping[Arm, Membership]  # what the primary recipe found on each arm


def answers(run_dir: RunDir, plan: Plan, audits: Audits, pages: Sequence[Page] = ()) -> tuple[Answered, ...]:
    """The verdict on each arm's own claim, and on every further claim of the run on an audited arm, in one
    family with the same claims of the runs that this one repeats.
    """
    asked = [
        replace(
            _asked(run_dir, plan, audits, arm, claim),
            earlier=tuple(_earlier(page, arm, claim) for page in pages),
        )
        for arm in audits
        for claim in claims_of(plan, arm.name, audits[arm].claim)
    ]
    return questions.answered(asked)


def _earlier(page: Page, arm: Arm, claim: Claim) -> Earlier:
    """The same claim in a run that is repeated, and what its own page says."""
    run = page.run_dir.name
    asked = _asked(page.run_dir, page.plan, page.audits, arm, claim).of_run(run)
    said = [a for a in page.found.answers if (a.arm, a.claim) == (arm.name, claim)]
    return Earlier(run, asked, Verdict(said[0].verdict, said[0].reason) if said else None)


def claims_of(plan: Plan, arm: str, own: Claim | None) -> list[Claim]:
    """The claims on one arm: its own, and those that the run's record has."""
    declared = [claim.claim for claim in plan.suite.claims if claim.arm == arm]
    return list(dict.fromkeys([*([own] if own else []), *declared]))


def _asked(run_dir: RunDir, plan: Plan, audits: Audits, arm: Arm, claim: Claim) -> Asked:
    trainings = trainings_of(run_dir, plan, arm)
    return Asked(
        arm.name,
        claim,
        _outside(audits, arm),
        tuple(map(Training.of, trainings)),
        (*_overspent(run_dir, arm, claim), *(text for found in trainings for text in _failed(found))),
        chain.unseen(run_dir, plan, arm),
    )


def _outside(audits: Audits, arm: Arm) -> Outside:
    audit, beside = audits[arm], nonprivate(arm, list(audits))
    guesses, broken = control.guesses_of(audit), control.broken(audit.blind)
    if beside is None or not arm.private:
        return Outside(arm.name, guesses, broken=broken)
    if (beside.method, beside.loss) != (arm.method, arm.loss):
        unlike = f"its power is unknown: {beside.name}, without noise, was trained in another way"
        return Outside(arm.name, guesses, unknown=unlike, broken=broken)
    return Outside(arm.name, guesses, Control(beside.name, control.guesses_of(audits[beside])), broken=broken)


def trainings_of(run_dir: RunDir, plan: Plan, arm: Arm) -> tuple[Inside, ...]:
    """What was seen from inside of an arm's training and of those that it continues from, its own first.

    Raises UsageError where one of them had canaries along axes and was not looked at since.
    """
    found = []
    for stage in chain.trainings(plan, arm):
        inside.require_current(run_dir, stage.name)
        if inside.is_tested(run_dir, stage.name):
            found.append(Inside.read(run_dir, inside.file_of(stage.name)))
    return tuple(found)


def _overspent(run_dir: RunDir, arm: Arm, claim: Claim) -> list[str]:
    spent = TrainedArm(run_dir, arm.name).ledger().epsilon_at(claim.delta)
    if claim.covers(spent):
        return []
    return [f"its ledger spends an epsilon of {spent:.4g} at delta {claim.delta:g}"]


def _failed(finding: Inside) -> list[str]:
    return [f"{finding.arm}: {check.name} failed, {check.detail}" for check in finding.failed]


def inputs_of(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> list[str]:
    """The files that the answers on these arms rest on, as far as they are there."""
    files = [audit_file(arm.name, plan.suite.primary) for arm in arms]
    files += [ledgers.file_of(arm.name) for arm in arms] + [inside.file_of(arm.name) for arm in arms]
    return [*(file for file in files if run_dir.file(file).is_file()), *repeats.inputs_of(plan)]
