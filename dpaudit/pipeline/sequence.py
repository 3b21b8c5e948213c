"""The stages in order: a run with its arms trained, attacks on it, everything that a suite asks for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dpaudit.errors import PartialError, UsageError
from dpaudit.machines.place import Place
from dpaudit.pipeline import gate
from dpaudit.storage import disk, exclusive, run_store, rundir
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.plan import PLAN_FORMAT, Plan
from dpaudit.suite.suite import AttackKind
from dpaudit.system.progress import Progress


def train(
    plan: Plan,
    runs: Path,
    progress: Progress,
    only: list[str] | None = None,
    workers: int | None = None,
    micro_batch: int | None = None,
    allow_egress: Sequence[str] | None = None,
    on: Place | None = None,
) -> RunDir:
    """The run of this plan with its corpus drawn and its arms trained, new or resumed.

    A plan with a fault leaves no new run behind: what failed before the first arm was written is removed.
    `allow_egress` is given where judging comes next, whose endpoint is then looked at as well. Under
    `torchrun` the first process does all but the training itself; the others wait for it and are silent.
    """
    from dpaudit.stages.train import train
    from dpaudit.training import ranks

    several = ranks.of_environment()
    progress = progress if several.first else Progress(quiet=True)

    def require_room() -> None:
        if on is None:  # other machines look for themselves
            train.require_room(plan, plan.suite.grid.named(only), workers, micro_batch)

    with ExitStack() as held:
        run_dir = several.once(lambda: _begun(plan, runs, progress, held, allow_egress, require_room))
        train.run(run_dir, plan.of_training, progress, only, workers, micro_batch, on)
    return run_dir


def _begun(
    plan: Plan,
    runs: Path,
    progress: Progress,
    held: ExitStack,
    allow_egress: Sequence[str] | None,
    require_room: Callable[[], None],
) -> RunDir:
    """The plan's run with its corpus, locked until `held` ends. A new one is begun only where there is memory
    to train it.
    """
    from dpaudit.stages.integrity import custody
    from dpaudit.stages.prepare import prepare

    written = plan.to_json()
    place = run_store.located(written, plan.suite.name, runs)
    is_new = not place.path.exists()
    tell_earlier(plan, runs, progress)
    tell_repeat(plan, progress)
    tell_margin(plan, progress)
    if is_new or declarations.would_change(place, plan):
        gate.check(plan, runs if is_new else None, allow_egress)
    if is_new:
        require_room()
    held.enter_context(exclusive.writing(place, "train"))
    held.enter_context(_no_remains(place, is_new=not place.path.exists()))
    run_dir = run_store.open_or_create(written, plan.suite.name, runs)
    _keep_records(run_dir, plan, progress)
    for note in declarations.mend_notes(run_dir, plan):
        progress.say(
            f"{note}: lost and written again; what was deleted before is not noticed, and every page says so"
        )
    is_drawn = run_dir.file(custody.CORPUS).is_file()
    prepare.run(run_dir, plan.of_training, progress)
    if not is_drawn:
        commitment = run_dir.read_json(custody.CORPUS)["commitment"]
        progress.say(f"commitment to plan, recipes and coins, to note down before training: {commitment}")
    tell_beside(run_dir, plan, progress)
    return run_dir


def tell_beside(run_dir: RunDir, plan: Plan, progress: Progress) -> None:
    """Says which other runs here have trained on the same data, and what they have spent together."""
    from dpaudit.stages.integrity import siblings

    if others := siblings.on_same_data(run_dir):
        progress.say(_beside(others, plan))


def tell_ahead(plan: Plan, runs: Path, progress: Progress) -> None:
    """The same of a run that is only planned, and what a repeat will have spent with the runs before it."""
    from dpaudit.stages.audit import releases
    from dpaudit.stages.integrity import siblings
    from dpaudit.stages.prepare import same_data

    tell_repeat(plan, progress)
    tell_margin(plan, progress)
    _tell_items(plan, progress)
    place = run_store.located(plan.to_json(), plan.suite.name, runs)
    named = [known.run for known in plan.repeats]
    others = siblings.on_same_data(place, [*same_data.names(place, plan), *named])
    if not others:
        return
    progress.say(_beside(others, plan))
    again = [other for other in others if other.name in named[-1:]]
    if again:
        both = releases.spent_by([*others, *again], plan, tuple(named))
        if both.epsilon is not None:
            progress.say(
                f"with this repeat, which spends what {named[-1]} spent once more, they will have spent an "
                f"epsilon of about {both.epsilon:.4g} at delta {both.delta:g} together"
            )


def tell_repeat(plan: Plan, progress: Progress) -> None:
    """Says of a repeat that it is one."""
    if plan.repeats:
        names = ", ".join(known.run for known in plan.repeats)
        progress.say(
            f"note: this run repeats {names} with fresh coins: a second release on the same records, and the "
            f"claims of all of them are tested in one family"
        )


def tell_margin(plan: Plan, progress: Progress) -> None:
    """Warns of a margin that would call a large loss none, where it is declared."""
    from dpaudit.judging import cautions

    for line in cautions.of_margin(plan.suite.evaluation.loss_tested):
        progress.say(line)


def _tell_items(plan: Plan, progress: Progress) -> None:
    """Says of which benchmarks a forecast does not know whether they can be asked."""
    from dpaudit.stages import benchmarks

    if names := benchmarks.of_lm_eval(plan.suite.evaluation.tasks):
        progress.say(
            f"note: whether the items of {', '.join(names)} are here or on a hub was not looked at; train "
            "and run look before training"
        )


def _beside(others: Sequence[RunDir], plan: Plan) -> str:
    from dpaudit.stages.audit import releases

    names = tuple(other.name for other in others)
    spent = releases.spent_by(others, plan, names)
    so_far = f"what they spend together is not known: {spent.unknown}"
    if spent.epsilon is not None:
        so_far = f"together they have spent an epsilon of {spent.epsilon:.4g} at delta {spent.delta:g} so far"
    many = "1 other run here has" if len(names) == 1 else f"{len(names)} other runs here have"
    return (
        f"note: {many} trained on the same data: {', '.join(names)}. Each is a release of its own; {so_far}"
    )


def _keep_records(run_dir: RunDir, plan: Plan, progress: Progress) -> None:
    """Writes what the suite asks beside the training into the run's records, and says what is new or lost."""
    before = declarations.lost(run_dir)
    for record in declarations.keep(run_dir, plan):
        progress.say(f"{record}: kept as added later; the plan is the same, and nothing is trained for it")
    for loss in declarations.lost(run_dir)[len(before) :]:
        progress.say(
            f"{loss.record}: lost and written again; claims and settings that were added before may be "
            f"missing, and every page says so"
        )


@contextmanager
def _no_remains(run_dir: RunDir, is_new: bool) -> Iterator[None]:
    """Removes a run that this command began and that failed before an arm was written; never another run."""
    try:
        yield
    except (UsageError, PartialError, OSError):
        if is_new and not run_dir.file("train").exists():
            disk.remove(run_dir.path)
        raise


def tell_earlier(plan: Plan, runs: Path, progress: Progress) -> None:
    """Says of a new run where the same training is already there under other versions: another one is a
    second release.

    Raises UsageError where an earlier version of dpaudit began it, whose runs this version cannot continue,
    and where this very run is there under another name.
    """
    place = run_store.located(plan.to_json(), plan.suite.name, runs)
    if place.path.exists():
        return
    for run_dir in run_store.existing(runs):
        try:
            written = run_dir.read_json(rundir.PLAN)
            if not plan.trains_as(written):
                continue
        except UsageError:  # no plan, or one with keys that are gone: not this one
            continue
        is_very_run = run_store.located(written, plan.suite.name, runs) == place
        _refuse_another(run_dir, runs, place.path if is_very_run else None, written.get("format"))
        progress.say(
            f"note: {run_dir.path} is this training under other versions or another primary recipe; another "
            f"one is a second release on the same records"
        )


def _refuse_another(run_dir: RunDir, runs: Path, place: Path | None, plan_format: object) -> None:
    """Raises UsageError for a run that belongs at `place`, and for one of another version of dpaudit."""
    if place is not None:
        raise UsageError(
            str(run_dir.path),
            f"a run of this plan with the name {place.name}",
            "a run under another name",
            f"rename it to {place}, or move it out of {runs} to train again: a second release on the "
            f"same records",
        )
    if plan_format != PLAN_FORMAT:
        raise UsageError(
            str(run_dir.path),
            "no run of this training that another version of dpaudit began",
            "a run of another version",
            f"continue with that version; to train again, a second release on the same records, move it out "
            f"of {runs}",
        )


def attack(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    kind: AttackKind,
    arms: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
    shadow_count: int | None = None,
    workers: int | None = None,
    on: Place | None = None,
) -> None:
    """Scores, then bounds and verdicts, for all trained arms and all recipes of `kind` or those named.

    Before the scores, as many shadow models of each arm as asked for are trained. Raises UsageError for a
    recipe of another kind.
    """
    from dpaudit.stages.attack import attack
    from dpaudit.stages.audit import audit
    from dpaudit.training import labels

    for name in recipes or ():
        _require_kind(run_dir, name, kind)
    if kind in ("mia", "preference") and plan.suite.training.unit == labels.UNIT:
        labels.refuse_membership(f"attack {kind}", kind)
    tell_repeat(plan, progress)
    attack.run(run_dir, plan, progress, kind, arms, recipes, shadow_count, workers, on)
    audit.run(run_dir, plan, progress, kind, arms, recipes)


def _require_kind(run_dir: RunDir, name: str, kind: AttackKind) -> None:
    """Raises UsageError for a recipe of another kind."""
    from dpaudit.signals import recipe

    other = recipe.load(name).kind
    if other != kind:
        fitting = ", ".join(known.name for known in recipe.load_all(kind))
        raise UsageError(
            f"--recipe {name}",
            f"a recipe of kind {kind}: {fitting}",
            f"a recipe of kind {other}",
            f"dpaudit attack {other} --run {run_dir.name} --recipe {name}",
        )


def attacks(
    run_dir: RunDir, plan: Plan, progress: Progress, workers: int | None = None, on: Place | None = None
) -> None:
    """Every attack that the suite asks for, on all trained arms, with its shadow models."""
    for kind in plan.suite.attacks:
        if kind == "preference" and all(arm.method != "dpo" for arm in plan.suite.grid.arms):
            progress.say("attack preference: skipped, no arm learns from preference pairs")
            continue
        count = plan.suite.shadows or None if kind == "mia" else None
        attack(run_dir, plan, progress, kind, shadow_count=count, workers=workers, on=on)


def everything(
    plan: Plan,
    runs: Path,
    progress: Progress,
    allow_egress: Sequence[str] = (),
    workers: int | None = None,
    micro_batch: int | None = None,
    on: Place | None = None,
) -> RunDir:
    """The run of this plan with every stage that its suite asks for; what is current is skipped."""
    from dpaudit.stages import evaluate, judge, report
    from dpaudit.stages.judge_replies import Way

    run_dir = train(plan, runs, progress, None, workers, micro_batch, allow_egress, on)
    plan = declarations.plan_of(run_dir)  # with what commands added since
    attacks(run_dir, plan, progress, workers, on)
    evaluate.run(run_dir, plan, progress)
    judge.run(run_dir, plan, progress, way=Way(allow_egress))
    report.run(run_dir, plan, progress)
    return run_dir
