"""The one gate that every new run passes before its directory exists: settings, contents, needs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpaudit.errors import Gathering, UsageError
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Suite

RESERVED_SEEDS = 900  # worlds from here on belong to `make builtin-model`


def check(
    plan: Plan, runs: Path | None = None, allow_egress: Sequence[str] | None = None, is_forecast: bool = False
) -> None:
    """The one gate that every new run passes before its directory exists. Writes nothing.

    Raises UsageError, or Mistakes for several at once, for settings, a model, first rows of the data,
    benchmarks, a judge or attacks that cannot work, and where `runs` has too little room. A forecast needs no
    weights of a hub's model, and no data where the population is declared; `allow_egress` is given where
    judging comes next. Items of lm-eval's own benchmarks come last, since they may be fetched (PartialError
    where their hub does not answer); a forecast does without.
    """
    from dpaudit.stages import benchmarks

    faults = Gathering()
    is_settled = _pass_settings(plan, faults)
    for content_check in _contents(plan):
        faults.passes(*content_check)
    _check_needs(plan, faults, runs, allow_egress, is_forecast, is_settled)
    faults.end()
    if not is_forecast:
        benchmarks.check_items(plan.suite.evaluation, plan.suite.evaluation.tasks, is_training_next=True)


def _pass_settings(plan: Plan, faults: Gathering) -> bool:
    """Whether what the suite and the options say by themselves can be; adds what cannot. Which arms there are
    is settled before what each of them needs.
    """
    from dpaudit.training import events, labels

    chosen = plan.suite
    independent = [
        faults.passes(_check_seed, plan),
        faults.passes(_check_data, chosen),
        faults.passes(_check_copies, chosen),
        faults.passes(_check_pairs, chosen),
        faults.passes(events.check, chosen.training.tensorboard),
    ]
    if not faults.passes(labels.check, chosen):
        return False
    arms = [faults.passes(check_part, chosen) for check_part in (_check_chain, _check_unit, _check_losses)]
    return all(arms) and faults.passes(_check_schedules, chosen) and all(independent)


def _contents(plan: Plan) -> Iterator[tuple[Any, ...]]:
    """Checks, with their arguments, of the files of content and the ledger that the plan begins with; none
    rests on another.
    """
    from dpaudit.pipeline import needs
    from dpaudit.signals import recipe
    from dpaudit.stages import benchmarks
    from dpaudit.stages.prepare.jobs import outside_stages

    yield recipe.check_candidates, plan.suite
    yield needs.check_recipes, plan.suite
    yield _check_rubric, plan.suite
    yield benchmarks.check_tasks, plan.suite.evaluation.tasks
    yield outside_stages, plan


def _check_needs(
    plan: Plan,
    faults: Gathering,
    runs: Path | None,
    allow_egress: Sequence[str] | None,
    is_forecast: bool,
    is_settled: bool,
) -> None:
    """Adds what is wrong with models, rows and room; a check that rests on one that failed is skipped."""
    from dpaudit.models import hub, preflight
    from dpaudit.pipeline import needs
    from dpaudit.stages import benchmarks
    from dpaudit.stages.judge_replies import Way
    from dpaudit.stages.prepare.corpus import tokenizer_of

    model = plan.suite.model
    is_whole = not is_forecast or not hub.is_id(model.base)
    base = faults.value(preflight.check, model.base, model.quantization) if is_whole else None
    trained = faults.value(needs.check_adapter, plan.suite, base, _started(plan.suite)) if base else None
    window = getattr(base.config, "max_position_embeddings", None) if base else None
    if window:
        faults.passes(benchmarks.check_lengths, plan.suite.evaluation.tasks, window)
    if allow_egress is not None:
        faults.passes(needs.check_judge, plan.suite, Way(allow_egress))
    if is_settled and not (is_forecast and plan.suite.training.population):
        tokenizer = faults.value(tokenizer_of, model) if base or not is_whole else None
        faults.passes(needs.check_rows, plan, tokenizer, bool(faults.errors))
    if runs is not None and trained is not None:
        faults.passes(needs.check_room, plan, runs, trained)


def _check_chain(chosen: Suite) -> None:
    methods = {arm.method for arm in chosen.grid.arms}
    if not methods:
        raise UsageError(
            "grid", "a stage or a DPO loss to train", "no stage", "set grid.stages, or type --dpo"
        )
    if chosen.grid.chain and len(methods) > 1 and chosen.training.unit != "patient":
        raise UsageError(
            "training.unit",
            "patient where stages continue from one another (grid.chain): other units of two"
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


def _check_schedules(chosen: Suite) -> None:
    from dpaudit.stages.prepare.jobs import schedule_of

    faults = Gathering()
    for arm in chosen.grid.arms:
        faults.passes(schedule_of, chosen.training, arm)
    faults.end()


def _check_unit(chosen: Suite) -> None:
    """A pair is a unit of DPO alone."""
    training = chosen.training
    others = sorted({arm.method for arm in chosen.grid.arms} - {"dpo"})
    if training.unit == "pair" and others:
        raise UsageError(
            "training.unit",
            "unit record or patient for arms that learn from single answers",
            f"unit pair with {' and '.join(others)} arms",
            "no dialogue belongs to a pair: --unit record, or --set grid.stages=[]",
        )


def _check_copies(chosen: Suite) -> None:
    """No canary may have more records than a patient may."""
    training, candidates = chosen.training, chosen.candidates
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


def _check_pairs(chosen: Suite) -> None:
    if chosen.grid.dpo and chosen.data.preference is None:
        raise UsageError(
            "data.preference",
            "preference pairs for the DPO arms",
            "no value",
            "--set data.preference=FILE, or =faults to make pairs from the dialogues, or train without --dpo",
        )


def _started(chosen: Suite) -> Path | None:
    """The adapter folder that `model.start` names, if it holds one; `outside_stages` reports its other
    faults.
    """
    places = (
        [] if chosen.model.start is None else [Path(chosen.model.start), Path(chosen.model.start) / "adapter"]
    )
    return next((place for place in places if (place / "adapter_config.json").is_file()), None)
