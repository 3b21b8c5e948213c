"""Stage attack: scores of every candidate under every arm. Reads no label: `secret/` may be out of reach."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dpaudit.errors import UsageError
from dpaudit.machines.place import Place
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Kind, Recipe
from dpaudit.stages.attack import extract, membership, preference, shadows
from dpaudit.stages.attack.scores import ScoringJob, scores_are_current
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import TrainedArm, score_inputs
from dpaudit.stages.prepare.candidates import load_candidates
from dpaudit.storage.exclusive import alone
from dpaudit.storage.remedies import missing
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel


SCORERS = {"mia": membership.score, "extract": extract.score, "preference": preference.score}


@alone("attack")
def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    kind: Kind,
    arms: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
    shadow_count: int | None = None,
    workers: int | None = None,
    on: Place | None = None,
) -> None:
    """Writes attack/ARM/RECIPE.parquet for the recipes of `kind` and every trained arm, where it is not
    current.

    Of kind `mia`, the first `shadow_count` shadow models of each arm are trained before, `workers` at once or
    `on` other machines.

    Raises UsageError before anything is written: for too few canaries, an unknown recipe or arm, an arm that
    is not trained or can have no shadow models (if named in `arms`), a secret that model.max_length cuts.
    """
    chosen = recipe.load_all(kind, recipes)
    whole = recipes is not None or (kind == "extract" and plan.suite.candidates.extraction > 0)
    must = [r for r in chosen if whole or r.name == plan.suite.primary]
    recipe.check_minimum(must, plan.suite.candidates)
    custody.require(run_dir, plan)
    candidates = load_candidates(run_dir)
    trained = trained_arms(run_dir, plan, progress, arms)
    weights.require_base(run_dir, plan)
    if kind == "preference":
        trained = preference.of_pairs(trained, arms)
    if shadow_count is not None:
        _train_shadows(run_dir, plan, progress, trained, arms, shadow_count, workers, on)
    jobs = _stale(run_dir, plan, trained, chosen, progress, recipes)
    if not jobs:
        return
    with run_dir.read_now(dict.fromkeys(file for job in jobs for file in score_inputs(job.arm.name))):
        with progress.task(f"attack {kind}: loading the model and its adapters", total=1) as advance:
            model = _load(run_dir, plan, [job.arm for job in jobs])
            advance(1)
        SCORERS[kind](run_dir, plan, progress, jobs, candidates, model)


def trained_arms(
    run_dir: RunDir, plan: Plan, progress: Progress, names: Sequence[str] | None = None
) -> list[Arm]:
    """The arms of the plan but twins, or those named, that are trained. Raises UsageError for an unknown or
    outdated arm.

    An arm that is not trained is left out with a line, or refused if it was named. Where no arm is trained,
    the call is refused.
    """
    trained = []
    for arm in plan.suite.grid.named(names, twins=False):
        there = TrainedArm(run_dir, arm.name)
        if names is None and not there.is_there:
            progress.say(f"{arm.name}: skipped: not trained yet")
            continue
        there.require_current()
        trained.append(arm)
    if not trained:
        raise missing(run_dir.file("train"), "dpaudit train")
    return trained


def applicable(
    run_dir: RunDir,
    plan: Plan,
    arm: Arm,
    recipes: Iterable[Recipe],
    progress: Progress,
    named: Sequence[str] | None = None,
) -> list[Recipe]:
    """The recipes that can be run on an arm: some need shadow models, or more canaries than there are.

    One that cannot is left out with a line, or refused by UsageError if it is among those `named`.
    """
    kept: list[Recipe] = []
    left_out: dict[str, list[str]] = {}
    for made_by in recipes:
        if named is not None and made_by.least_shadows:
            shadows.require(run_dir, arm, made_by.least_shadows)
        missing = recipe.lacks(made_by, plan.suite.candidates)
        if made_by.needs_heldout and not plan.suite.data.heldout:
            missing = "held-out records (data.heldout)"
            if named is not None:
                raise UsageError(
                    "data.heldout",
                    f"held-out records for attacks/{made_by.name}.yaml",
                    "no held-out records",
                    "train a run with --set data.heldout=20",
                )
        if made_by.least_shadows and len(shadows.present(run_dir, arm)) < made_by.least_shadows:
            missing = f"{made_by.least_shadows} shadow models (--shadows 16 trains sixteen)"
        if missing is None:
            kept.append(made_by)
        else:
            left_out.setdefault(missing, []).append(made_by.name)
    for missing, names in left_out.items():
        progress.say(f"{arm.name}: skipped: needs {missing}: {', '.join(names)}")
    return kept


def _train_shadows(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    arms: Iterable[Arm],
    named: Sequence[str] | None,
    count: int,
    workers: int | None,
    on: Place | None,
) -> None:
    """Shadow models of every arm that can have them; of the others, those that were named are refused
    first.
    """
    shadows.check_count(count)
    refused = {arm: shadows.refusal(plan, arm) for arm in arms}
    for error in refused.values():
        if error is not None and named is not None:
            raise error
    for arm, error in refused.items():
        if error is None:
            shadows.ensure(run_dir, plan, progress, arm, count, workers, on)
        else:
            progress.say(f"{arm.name}: no shadow models, {error.got}")


def _stale(
    run_dir: RunDir,
    plan: Plan,
    arms: Iterable[Arm],
    recipes: Sequence[Recipe],
    progress: Progress,
    named: Sequence[str] | None,
) -> list[ScoringJob]:
    jobs = []
    for arm in arms:
        fitting = applicable(run_dir, plan, arm, recipes, progress, named)
        again = named is not None  # a named recipe is recomputed
        due = [r for r in fitting if again or not scores_are_current(run_dir, plan, arm.name, r)]
        jobs.append(ScoringJob(arm, due))
    return [job for job in jobs if job.recipes]


def _load(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> "HFModel":
    from dpaudit.models.hf_model import HFModel

    model = HFModel.as_trained(plan.suite.model)
    for arm in arms:
        model.add_adapter(arm.name, TrainedArm(run_dir, arm.name).adapter)
    return model
