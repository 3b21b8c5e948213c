"""Stage audit: joins scores with the coins; bounds, curves and verdicts. Nothing written here names a text or
a coin.
"""

from collections.abc import Sequence

from dpaudit.errors import UsageError
from dpaudit.evidence import control
from dpaudit.findings.membership import Membership, Together
from dpaudit.privacy import ledger as ledgers
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Kind, Recipe
from dpaudit.stages.attack import preference
from dpaudit.stages.attack.attack import applicable, trained_arms
from dpaudit.stages.attack.scores import inputs_of, score_file, scores_are_current
from dpaudit.stages.audit import baselines, extracted, inside, members
from dpaudit.stages.audit.members import audit_file
from dpaudit.stages.integrity import custody
from dpaudit.stages.prepare.prepare import check_prepared
from dpaudit.storage.exclusive import alone
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

SUMMARY = "audit/summary.json"


@alone("audit")
def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    kind: Kind,
    arms: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
) -> None:
    """Writes audit/ARM/RECIPE.json for every trained arm, and for kind `mia` the summary with one verdict a
    claim.

    Where training had canaries along axes, what they show goes to audit/inside/ARM.json.

    Raises UsageError where scores are missing or out of date, or the coins name fewer examples than were
    scored.
    """
    chosen = recipe.load_all(kind, recipes)
    _require_frozen(plan, chosen)
    custody.require(run_dir, plan)
    check_prepared(run_dir)
    named = trained_arms(run_dir, plan, progress, arms)
    if kind == "preference":
        named = preference.of_pairs(named, arms)
    quiet = Progress(quiet=True)  # the attack has said what was left out
    pairs = [(arm, r) for arm in named for r in applicable(run_dir, plan, arm, chosen, quiet, recipes)]
    for arm, made_by in pairs:
        _require_scores(run_dir, plan, arm, made_by)
    beside = baselines.Beside(run_dir, plan, progress)
    if kind == "extract":
        for arm, made_by in pairs:
            extracted.audit(beside, arm, made_by)
        beside.tell(named, "extraction")
        return
    if kind == "mia":
        inside.run(run_dir, plan, named, progress)
    with progress.task("audit: bounds and verdicts", total=len(pairs) + 1) as advance:
        beside.tell(named, "canaries")  # makes the baselines if they are missing: every audit reads them
        advance(1)
        for arm, made_by in pairs:
            members.audit(beside, arm, made_by)
            advance(1)
        _summarise(run_dir, plan, trained_arms(run_dir, plan, Progress(quiet=True)))


def _require_frozen(plan: Plan, recipes: Sequence[Recipe]) -> None:
    """Raises UsageError where the recipe that carries the verdicts is not what it was before training."""
    for made_by in recipes:
        if made_by.name == plan.suite.primary and plan.primary_digest not in (None, made_by.digest):
            raise UsageError(
                f"attacks/{made_by.name}.yaml",
                "the recipe as it was before training, since it carries the verdicts",
                "a changed recipe",
                "restore it, or train a new run under the changed recipe",
            )


def _require_scores(run_dir: RunDir, plan: Plan, arm: Arm, made_by: Recipe) -> None:
    command = f"dpaudit attack {made_by.kind}"
    run_dir.require_current(
        score_file(arm.name, made_by.name), inputs_of(run_dir, plan, arm.name, made_by), command
    )
    if not scores_are_current(run_dir, plan, arm.name, made_by):
        raise UsageError(
            str(run_dir.file(score_file(arm.name, made_by.name))),
            f"scores under the present attacks/{made_by.name}.yaml",
            "scores under an earlier recipe",
            f"type `{command}` again",
        )


# ---- one verdict a claim


def _summarise(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> None:
    """Writes the summary: a row an arm, and apart from them what the audit says of the arm without noise.

    `arms` are all that are trained: whoever gets the private ones gets those that were not audited, too.
    """
    files = {arm.name: audit_file(arm.name, plan.suite.primary) for arm in arms}
    present = [arm for arm in arms if run_dir.file(files[arm.name]).is_file()]
    inputs = [files[arm.name] for arm in present] + [ledgers.file_of(arm.name) for arm in arms]
    if not present or run_dir.is_current(SUMMARY, inputs):
        return
    audits = {arm: Membership.read(run_dir, files[arm.name]) for arm in present}
    claimed = {arm: audit.claim for arm, audit in audits.items() if audit.claim}
    private = [arm for arm in arms if arm.private]
    errors = (1 - control.bound_of(audits[arm]).confidence for arm in claimed)
    Together(
        primary=plan.suite.primary,
        family=f"each claim is tested once, by the recipe {plan.suite.primary} that was named before "
        f"training",
        family_error=min(1.0, round(sum(errors), 12)),
        rows=tuple(control.row(audit) for audit in audits.values()),
        claims=tuple(control.behind(arm, claim, audits) for arm, claim in claimed.items()),
        positive_control=control.of_claims(audits, list(claimed.values())),
        composed_epsilon=_released_together(run_dir, plan, private),
        composed_delta=plan.suite.training.delta if private else None,
        caveat=plan.caveat,
    ).write(run_dir, SUMMARY, inputs)


def _released_together(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> float | None:
    """The epsilon of releasing all private arms, which learnt from the same units, at the run's delta.

    Each arm's own steps count once, and so does what the run's start had spent, which the ledgers of the arms
    that start from no other arm name.
    """
    if not arms:
        return None
    from dpaudit.privacy import accountants

    training = plan.suite.training
    kept = {arm: ledgers.of_arm(run_dir, arm.name) for arm in arms}
    first = [ledger for arm, ledger in kept.items() if plan.suite.grid.start_of(arm) is None]
    outside = first[0].mechanisms[:-1] if first else ()
    own = [ledger.acting for ledger in kept.values() if ledger.mechanism]
    return accountants.compose([*outside, *own], training.delta, training.relation)
