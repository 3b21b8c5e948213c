"""From what was typed to a finished run: the plan, what can be checked before anything is written, the stages
in order.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dpaudit.errors import Gathering, PartialError, UsageError
from dpaudit.storage import disk, rundir
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations, loading, suite
from dpaudit.suite.plan import PLAN_FORMAT, Plan
from dpaudit.suite.suite import AttackKind, Suite
from dpaudit.system.progress import Progress

RESERVED_SEEDS = 900  # worlds from here on belong to `make builtin-model`
VERSIONED = ("dpaudit", "torch", "transformers", "tokenizers", "peft", "dp-accounting", "numpy")


def resolve(name: str, changed: dict[str, Any], seed: int = 0, insecure_seed: int | None = None) -> Plan:
    """The plan of a suite with overrides. Raises UsageError for whatever can be known before a run exists."""
    from dpaudit.signals import recipe

    chosen = _loaded(name, changed)
    clinics = chosen.data.preference == "builtin:clinic" != chosen.data.source  # whose pairs are not theirs
    missing = chosen.data.preference is None and chosen.grid.dpo
    if (clinics or missing) and "data.preference" not in changed:
        chosen = _loaded(name, changed | {"data.preference": "faults"})
    chosen = _named(name, changed, chosen)
    return Plan(chosen, seed, insecure_seed, versions(chosen), recipe.load(chosen.primary).digest)


def _loaded(name: str, changed: dict[str, Any]) -> Suite:
    """The suite with what was typed over it; a fault in what was typed is not blamed on the suite's file."""
    try:
        return loading.load(name, changed)
    except UsageError as error:
        found = _typed_key(error, changed)
        if found is None:
            raise
        raise UsageError(f"{found} as typed", error.expected, error.got, error.remedy) from None


def _typed_key(error: UsageError, changed: dict[str, Any]) -> str | None:
    """The changed key that a complaint is about: it names the key, or a part of its value."""
    place = error.where.partition(": ")[2]
    for key in changed:
        if place == key or place.startswith((f"{key}.", f"{key}[")):
            return f"{key}{place[len(key) :]}"
    return None


def _named(name: str, changed: dict[str, Any], chosen: Suite) -> Suite:
    """The suite under a name of its own where its data or model were exchanged: the description was of the
    others.
    """
    try:
        before = loading.load(name)
    except UsageError:  # not whole without what was typed
        return chosen
    if (before.data.source, before.model.base) == (chosen.data.source, chosen.model.base):
        return chosen
    told = chosen.description if "description" in changed else ""
    path = suite.path_or_builtin(chosen.data.source)
    if path is None or "name" in changed or suite.path_or_builtin(before.data.source) is not None:
        return replace(chosen, description=told)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("._-") or "own-data"
    return replace(chosen, name=stem, description=told)


def fetch(typed: dict[str, Any], weights: bool = True) -> None:
    """Gets a typed base that is a hub's, and lets the hub be asked for data that were typed. Other names ask
    nobody.
    """
    from dpaudit.system import egress

    data = (typed.get(key) for key in ("data.source", "data.preference", "data.text"))
    egress.allow(*(name for name in data if isinstance(name, str)))
    base = typed.get("model.base")
    if isinstance(base, str) and "/" in base:
        from dpaudit.models import hub

        hub.fetch(base, "--model", weights)


def versions(chosen: Suite) -> dict[str, str]:
    """The installed versions that training may depend on; a package that is not installed is left out."""
    from dpaudit.stages.train.jobs import is_trls

    by_trl = chosen.grid.dpo and any(is_trls(chosen.training, arm) for arm in chosen.grid.arms)
    beside = [
        *(["trl", "accelerate"] if by_trl else []),
        *(["deepspeed"] if chosen.training.deepspeed else []),
        *(["bitsandbytes"] if chosen.model.quantization else []),
    ]
    found = {}
    for name in (*VERSIONED, *beside):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def train(
    plan: Plan,
    runs: Path,
    progress: Progress,
    only: list[str] | None = None,
    workers: int | None = None,
    micro_batch: int | None = None,
    allow_egress: Sequence[str] | None = None,
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
    with ExitStack() as held:
        run_dir = several.once(lambda: _begun(plan, runs, progress, held, allow_egress))
        train.run(run_dir, plan.of_training, progress, only, workers, micro_batch)
    return run_dir


def _begun(
    plan: Plan, runs: Path, progress: Progress, held: ExitStack, allow_egress: Sequence[str] | None
) -> RunDir:
    """The plan's run with its corpus, locked until `held` ends."""
    from dpaudit.stages.integrity import custody
    from dpaudit.stages.prepare import prepare

    written = plan.to_json()
    place = rundir.located(written, plan.suite.name, runs)
    is_new = not place.path.exists()
    tell_earlier(plan, runs, progress)
    if is_new or declarations.would_change(place, plan):
        check(plan, runs if is_new else None, allow_egress)
    held.enter_context(rundir.writing(place, "train"))
    held.enter_context(_no_remains(place, is_new=not place.path.exists()))
    run_dir = rundir.open_or_create(written, plan.suite.name, runs)
    before = declarations.lost(run_dir)
    for record in declarations.keep(run_dir, plan):
        progress.say(f"{record}: kept as added later; the plan is the same, and nothing is trained for it")
    for loss in declarations.lost(run_dir)[len(before) :]:
        progress.say(
            f"{loss.record}: lost and written anew; claims and settings that were added before may be "
            f"missing, and every page says so"
        )
    is_drawn = run_dir.file(custody.CORPUS).is_file()
    prepare.run(run_dir, plan.of_training, progress)
    if not is_drawn:
        noted = run_dir.read_json(custody.CORPUS)["commitment"]
        progress.say(f"commitment to plan, recipes and coins, to note down before training: {noted}")
    return run_dir


def tell_earlier(plan: Plan, runs: Path, progress: Progress) -> None:
    """Says of a new run where the same training is already there under other versions: another one is a
    second release.

    Raises UsageError where an earlier version of dpaudit began it, whose runs this one cannot go on with, and
    where the very run is there under another name.
    """
    place = rundir.located(plan.to_json(), plan.suite.name, runs)
    if place.path.exists():
        return
    for run_dir in rundir.existing(runs):
        try:
            written = run_dir.read_json("plan.json")
            if not plan.trains_as(written):
                continue
        except UsageError:  # no plan, or one with keys that are gone: not this one
            continue
        if rundir.located(written, plan.suite.name, runs) == place:
            raise UsageError(
                str(run_dir.path),
                f"a run of this plan to be called {place.name}",
                "one under another name",
                f"rename it to {place.path}, or move it out of {runs} to train anew: a second release on the "
                f"same records",
            )
        if written.get("format") != PLAN_FORMAT:
            raise UsageError(
                str(run_dir.path),
                "no run of this training that another version of dpaudit began",
                "one",
                f"go on with that version; to train anew, a second release on the same records, move it out "
                f"of {runs}",
            )
        progress.say(
            f"note: {run_dir.path} is this training under other versions or another primary recipe; another "
            f"one is a second release on the same records"
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
) -> None:
    """Scores, then bounds and verdicts, for all trained arms and all recipes of `kind` or those named.

    Before the scores, as many shadow models of each arm as asked for are trained. Raises UsageError for a
    recipe of another kind.
    """
    from dpaudit.signals import recipe
    from dpaudit.stages.attack import attack
    from dpaudit.stages.audit import audit
    from dpaudit.training import labels

    for name in recipes or ():
        found = recipe.load(name).kind
        if found != kind:
            fitting = ", ".join(one.name for one in recipe.load_all(kind))
            raise UsageError(
                f"--recipe {name}",
                f"a recipe of kind {kind}: {fitting}",
                f"one of kind {found}",
                f"dpaudit attack {found} --recipe {name}",
            )

    if kind in ("mia", "preference") and plan.suite.training.unit == labels.UNIT:
        labels.refuse_membership(f"attack {kind}", kind)
    attack.run(run_dir, plan, progress, kind, arms, recipes, shadow_count, workers)
    audit.run(run_dir, plan, progress, kind, arms, recipes)


def everything(
    plan: Plan,
    runs: Path,
    progress: Progress,
    allow_egress: Sequence[str] = (),
    workers: int | None = None,
    micro_batch: int | None = None,
) -> RunDir:
    """The run of this plan with every stage that its suite asks for; what is current is skipped."""
    from dpaudit.stages import evaluate, judge, report

    run_dir = train(plan, runs, progress, None, workers, micro_batch, allow_egress)
    plan = declarations.plan_of(run_dir)  # with what commands added since
    for kind in plan.suite.attacks:
        if kind == "preference" and all(arm.method != "dpo" for arm in plan.suite.grid.arms):
            progress.say("attack preference: left out, no arm learns from preference pairs")
            continue
        count = plan.suite.shadows or None if kind == "mia" else None
        attack(run_dir, plan, progress, kind, shadow_count=count, workers=workers)
    evaluate.run(run_dir, plan, progress)
    judge.run(run_dir, plan, progress, allow_egress=allow_egress)
    report.run(run_dir, plan, progress)
    return run_dir


@contextmanager
def _no_remains(run_dir: RunDir, is_new: bool) -> Iterator[None]:
    """Takes a run away again that this command began and that failed before an arm was written; never any
    other.
    """
    try:
        yield
    except (UsageError, PartialError, OSError):
        if is_new and not run_dir.file("train").exists():
            disk.remove(run_dir.path)
        raise


def check(
    plan: Plan, runs: Path | None = None, allow_egress: Sequence[str] | None = None, is_forecast: bool = False
) -> None:
    """The one gate that every new run passes before its directory exists. Writes nothing.

    Raises UsageError, or Mistakes for several at once, for settings, a model, first rows of the data,
    benchmarks, a judge or attacks that cannot work, and where `runs` has too little room. A forecast needs no
    weights of a hub's model, and no data where the population is declared; `allow_egress` is given where
    evaluation and judging come next.
    """
    told = Gathering()
    is_settled = told.passes(_check_settings, plan)
    for one in _contents(plan, allow_egress is not None):
        told.passes(*one)
    _check_needs(plan, told, runs, allow_egress, is_forecast, is_settled)
    told.end()


def _check_settings(plan: Plan) -> None:
    """What the suite and the options say by themselves; each of these rests on those before it, so the first
    fault is told.
    """
    from dpaudit.stages.train.jobs import schedule_of
    from dpaudit.training import labels

    _check_seed(plan)
    for one in (labels.check, _check_chain, _check_data, _check_unit, _check_losses):
        one(plan.suite)
    for arm in plan.suite.grid.arms:
        schedule_of(plan.suite.training, arm)


def _contents(plan: Plan, is_measured: bool) -> Iterator[tuple[Any, ...]]:
    """Checks, with their arguments, of the files of content and the ledger that the plan begins with; none
    rests on another.

    Where evaluation comes next, lm-eval too is asked for the benchmarks that it should know, which takes
    seconds.
    """
    from dpaudit.signals import recipe
    from dpaudit.stages import benchmarks, gate
    from dpaudit.stages.train.jobs import outside_stages

    yield recipe.check_candidates, plan.suite
    yield gate.check_recipes, plan.suite
    yield _check_rubric, plan.suite
    yield benchmarks.check_tasks, plan.suite.evaluation.tasks, is_measured
    yield outside_stages, plan


def _check_needs(
    plan: Plan,
    told: Gathering,
    runs: Path | None,
    allow_egress: Sequence[str] | None,
    is_forecast: bool,
    is_settled: bool,
) -> None:
    """Adds what is wrong with models, rows and room to what was found; what rests on a thing that failed is
    left out.
    """
    from dpaudit.models import hf, hub
    from dpaudit.stages import gate
    from dpaudit.stages.prepare import prepare

    model = plan.suite.model
    is_whole = not is_forecast or not hub.is_id(model.base)
    base = told.value(hf.check, model.base, model.quantization) if is_whole else None
    trained = told.value(gate.check_adapter, plan.suite, base, _started(plan.suite)) if base else None
    if allow_egress is not None:
        told.passes(gate.check_judge, plan.suite, allow_egress)
    if is_settled and not (is_forecast and plan.suite.training.population):
        tokenizer = told.value(prepare.tokenizer_of, model) if base or not is_whole else None
        told.passes(gate.check_rows, plan, tokenizer, bool(told.found))
    if runs is not None and trained is not None:
        told.passes(gate.check_room, plan, runs, trained)


def _check_chain(chosen: Suite) -> None:
    methods = {arm.method for arm in chosen.grid.arms}
    if not methods:
        raise UsageError("grid", "a stage or a DPO loss to train", "none", "set grid.stages, or type --dpo")
    if chosen.grid.chain and len(methods) > 1 and chosen.training.unit != "patient":
        raise UsageError(
            "training.unit",
            "patient where stages go on from one another (grid.chain): other units of two"
            " kinds of data may be the same people",
            chosen.training.unit,
            "--unit patient, or --set grid.chain=false to start every arm at the base",
        )


def _check_seed(plan: Plan) -> None:
    """The embedded model and judge come from worlds of their own seeds, which no run may use."""
    from dpaudit.data import clinic

    if plan.suite.data.source == "builtin:clinic" and not 0 <= plan.seed < RESERVED_SEEDS:
        raise UsageError(
            "--seed", f"a number from 0 to {RESERVED_SEEDS - 1} for builtin:clinic", str(plan.seed)
        )
    if plan.suite.data.patients > clinic.MAX_PATIENTS:
        raise UsageError("data.patients", f"at most {clinic.MAX_PATIENTS}", str(plan.suite.data.patients))


def _check_data(chosen: Suite) -> None:
    """The rows asked for; the data itself is read later."""
    from dpaudit.data import reading

    reading.parse_rows(chosen.data.rows)
    if chosen.data.rows is not None and chosen.data.source == "builtin:clinic":
        raise UsageError(
            "data.rows",
            "a data file to take rows of",
            "builtin:clinic",
            "name a file with --data, or set data.patients",
        )


def _check_unit(chosen: Suite) -> None:
    """A pair is a unit of DPO alone, and no canary may have more records than a patient may."""
    training, candidates = chosen.training, chosen.candidates
    others = sorted({arm.method for arm in chosen.grid.arms} - {"dpo"})
    if training.unit == "pair" and others:
        raise UsageError(
            "training.unit",
            "unit record or patient for arms that learn from single answers",
            f"unit pair with {' and '.join(others)} arms",
            "no dialogue belongs to a pair: --unit record, or --set grid.stages=[]",
        )
    most = training.records_per_patient
    for key in ("canary_repetitions", "extraction_repetitions"):
        copies = max(candidates.levels) if key == "extraction_repetitions" else candidates.canary_repetitions
        if training.unit == "patient" and most is not None and copies > most:
            raise UsageError(
                f"candidates.{key}",
                f"at most training.records_per_patient = {most}",
                str(copies),
                "a canary may not weigh more than a patient does",
            )


def _check_rubric(chosen: Suite) -> None:
    from dpaudit.judging import rubric

    if chosen.judging is not None:
        rubric.load(chosen.judging.rubric)


def _check_losses(chosen: Suite) -> None:
    if chosen.training.deepspeed is not None:
        from dpaudit.training import with_trl

        with_trl.check_deepspeed([a.loss for a in chosen.grid.arms if a.method == "dpo" and not a.private])
    if not chosen.grid.dpo:
        return
    from dpaudit.training import losses

    for arm in chosen.grid.arms:
        if arm.method == "dpo":
            losses.check(arm.loss, arm.private)
    losses.check_settings(chosen.grid.dpo, chosen.training.dpo_beta, chosen.training.dpo_label_smoothing)
    if chosen.data.preference is None:
        raise UsageError(
            "data.preference",
            "preference pairs for the DPO arms",
            "nothing",
            "--set data.preference=FILE, or =faults to make pairs from the dialogues, or train without --dpo",
        )


def _started(chosen: Suite) -> Path | None:
    """The adapter folder that `model.start` names, if it holds one; another fault of it is told by
    `outside_stages`.
    """
    places = (
        [] if chosen.model.start is None else [Path(chosen.model.start), Path(chosen.model.start) / "adapter"]
    )
    return next((place for place in places if (place / "adapter_config.json").is_file()), None)
