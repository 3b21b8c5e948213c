"""Stage audit: joins scores with the coins; bounds, curves and verdicts. Nothing written here names a text or
a coin.
"""

from collections.abc import Sequence

from dpaudit.errors import UsageError
from dpaudit.evidence import control, family, over_seeds, planned, questions
from dpaudit.findings.membership import Membership
from dpaudit.findings.together import Together
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Kind, Recipe
from dpaudit.stages.attack import preference
from dpaudit.stages.attack.attack import applicable, trained_arms
from dpaudit.stages.attack.scores import inputs_of, score_file, scores_are_current
from dpaudit.stages.audit import answers, baselines, extracted, inside, members, releases, repeats
from dpaudit.stages.audit.members import audit_file
from dpaudit.stages.audit.repeats import SUMMARY
from dpaudit.stages.integrity import custody, siblings
from dpaudit.stages.prepare.jobs import with_starts
from dpaudit.stages.prepare.prepare import check_prepared
from dpaudit.storage.exclusive import alone
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress


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
    stages = with_starts(plan, list(named))  # a claim on a chain rests on each of its trainings
    has_axes = any(inside.is_tested(run_dir, arm.name) for arm in stages)
    inside.run(run_dir, plan, stages, planned.members(plan, has_axes), progress)
    with progress.task("audit: bounds and verdicts", total=len(pairs) + 1) as advance:
        beside.tell(named, "canaries")  # makes the baselines if they are missing: every audit reads them
        advance(1)
        for arm, made_by in pairs:
            members.audit(beside, arm, made_by)
            advance(1)
        summarise(run_dir, plan, trained_arms(run_dir, plan, Progress(quiet=True)))


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
    command = f"dpaudit attack {made_by.kind} --run {run_dir.name}"
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


def summarise(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> None:
    """Writes the summary, unless it is current: one answer a claim, and what the guesses say of arms without
    noise.

    `arms` are all that are trained: whoever gets the private ones gets those that were not audited, too.
    """
    inputs = [*answers.inputs_of(run_dir, plan, arms), declarations.input_of("claims")]
    if _audited(run_dir, plan, arms) and not _is_current(run_dir, inputs):
        together(run_dir, plan, arms).write(run_dir, SUMMARY, inputs)


def _is_current(run_dir: RunDir, inputs: Sequence[str]) -> bool:
    """Whether the summary is, and knows the runs on the same data that are here now."""
    if not Together.is_current(run_dir, SUMMARY, inputs):
        return False
    known = Together.read(run_dir, SUMMARY).beside
    return list(known.runs if known else ()) == [other.name for other in siblings.on_same_data(run_dir)]


def together(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> Together:
    """One answer a claim over all audited arms, of which there is at least one."""
    audits = {
        arm: Membership.read(run_dir, audit_file(arm.name, plan.suite.primary))
        for arm in _audited(run_dir, plan, arms)
    }
    claimed = {arm: audit.claim for arm, audit in audits.items() if audit.claim}
    pages = repeats.pages(run_dir, plan)
    found = answers.answers(run_dir, plan, audits, pages)
    size = questions.size_of(found)
    confidence = 1 - family.first_level(size)
    private = [arm for arm in arms if arm.private]
    return Together(
        primary=plan.suite.primary,
        questions=size,
        family_error=family.ERROR,
        pages_error=min(1.0, (1 + len(pages)) * family.ERROR),
        repeats=tuple(page.run_dir.name for page in pages),
        answers=found,
        claims=tuple(control.behind(arm, claim, audits, confidence) for arm, claim in claimed.items()),
        positive_control=control.of_claims(audits, list(claimed.values()), confidence),
        composed_epsilon=releases.of_run(run_dir, plan, private),
        composed_delta=plan.suite.training.delta if private else None,
        caveat=plan.caveat,
        beside=releases.beside(run_dir, plan),
        twice=releases.twice(run_dir, plan, pages, private),
        over_seeds=over_seeds.over_seeds(audits),
    )


def _audited(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> list[Arm]:
    """The arms whose audit is there and of the present adapter."""
    files = {arm: audit_file(arm.name, plan.suite.primary) for arm in arms}
    return [
        arm
        for arm, file in files.items()
        if run_dir.file(file).is_file() and run_dir.is_current(file, run_dir.recorded_inputs(file))
    ]
