"""What a finished run is asked beyond its suite: other benchmarks, another rubric, one more claim. Nothing is
trained for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from dpaudit import content, schema
from dpaudit.data import rows
from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.judging import rubric
from dpaudit.stages import judge_replies
from dpaudit.stages.judge_replies import AS_USUAL, Way
from dpaudit.storage.exclusive import writing
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations, loading
from dpaudit.suite.plan import RECORDS, Plan
from dpaudit.suite.suite import Evaluation, Judging
from dpaudit.system import egress

WORK = {"evaluation": "evaluate", "judging": "judge", "claims": "audit"}  # record -> the work that it is for
OUTSIDE = ("rubric", "model", "parallel", "max_tokens_total")  # keys of judging that work without a run
OF_TASK = ("limit", "fewshot", "chat_template")  # keys of evaluation that a task may have of its own
EXAMPLES = {"evaluation": "evaluation.limit=200", "judging": "judging.prompts=50"}


def _asked(
    run_dir: RunDir, before: Plan, record: str, changed: dict[str, Any], require: Callable[[Plan], object]
) -> Plan:
    """The plan `before` with an entry added to one of its records, from dotted keys of it that were typed.

    Raises UsageError, before anything is written, for a key of another part of the suite, for a value that
    cannot work, and for whatever `require` checks for the work that comes next: a refused request leaves no
    entry.
    """
    plan = _checked(run_dir, before, record, changed, require)
    with writing(run_dir, WORK[record]):  # refused where another command is at work
        pass
    declarations.add(run_dir, record, plan.settings(record), "command")
    return declarations.plan_of(run_dir)


def _checked(
    run_dir: RunDir, before: Plan, record: str, changed: dict[str, Any], require: Callable[[Plan], object]
) -> Plan:
    """The plan `before` with what was typed, checked and not written."""
    _only(record, changed)
    plan = before.with_settings(changed, f"{run_dir.name} as typed")
    _check(before, plan)
    require(plan)
    return plan


def evaluation(run_dir: RunDir, plan: Plan, tasks: Sequence[str], settings: Sequence[str]) -> Plan:
    """The plan with what `dpaudit eval` was asked for beyond it, kept as added later; unchanged where that is
    nothing.
    """
    changed = dict(loading.parse_override(setting) for setting in settings)
    egress.allow(*tasks)
    if tasks:
        _only("evaluation", changed)
        _one_list(changed)
        own = {key: changed.pop(f"evaluation.{key}") for key in OF_TASK if f"evaluation.{key}" in changed}
        before = plan.with_settings(changed, f"{run_dir.name} as typed")
        changed["evaluation.tasks"] = _with_tasks(before, tasks, own)
    if not changed:
        return plan
    from dpaudit.stages import evaluate

    return _asked(run_dir, plan, "evaluation", changed, partial(evaluate.require_ready, run_dir))


def judging(
    run_dir: RunDir,
    plan: Plan,
    changed: dict[str, Any],
    way: Way = AS_USUAL,
    are_arms_judged: bool = True,
    is_kept: bool = True,
) -> Plan:
    """Like `evaluation`, for `dpaudit judge` and `dpaudit judge validate`, which needs no arm. `changed` are
    dotted keys. A forecast keeps nothing (`is_kept`).
    """
    if not changed:
        return plan
    from dpaudit.stages import judge

    _only("judging", changed)
    typed = plan.with_settings(changed, f"{run_dir.name} as typed").suite
    if typed.judging is not None:
        judge_replies.require_there(judge.rules_of(typed, typed.judging))
    from dpaudit.pipeline import needs

    def require(asked: Plan) -> None:
        require_judging(run_dir.name, asked)
        judge.require_references(asked)
        if are_arms_judged:
            judge.require_ready(run_dir, asked)
        needs.check_judge(asked.suite, way)

    if not is_kept:
        return _checked(run_dir, plan, "judging", changed, require)
    return _asked(run_dir, plan, "judging", changed, require)


def require_judging(name: str, plan: Plan) -> Judging:
    """What a run's suite asks of a judge. Raises UsageError where that is nothing."""
    if plan.suite.judging is None:
        rubrics = ", ".join(_fitting(plan))
        raise UsageError(
            f"{name}: judging",
            "a rubric to judge by",
            "a suite without judging",
            f"dpaudit judge --run {name} --rubric NAME, one of {rubrics}",
        )
    return plan.suite.judging


def _fitting(plan: Plan) -> list[str]:
    """The rubrics that ship, without those in Chinese where the suite declares languages and no Chinese."""
    told = (plan.suite.data.languages or "").casefold()
    is_other = bool(told) and not any(name in told for name in ("chinese", "mandarin", "zh", "中文", "汉语"))
    return [name for name in sorted(content.listing("judges")) if not (is_other and name.endswith("_zh"))]


def judging_outside(changed: dict[str, Any]) -> Judging:
    """What `dpaudit judge --answers` asks of a judge: settings of `judging` that have an effect there."""
    _only("judging", changed)
    values = {key.removeprefix("judging."): value for key, value in changed.items()}
    idle = next((key for key in values if key not in OUTSIDE), None)
    if idle is not None or values.get("model") == "base":
        raise UsageError(
            f"--set judging.{idle or 'model'}",
            f"with --answers one of {', '.join(OUTSIDE)}; as model a folder or a hub id",
            "a setting of a run",
            "leave it out",
        )
    return schema.build(Judging, values, file="--set judging")


def claim(run_dir: RunDir, plan: Plan, arm: str | None, typed: str | None) -> Plan:
    """Like `evaluation`, for `dpaudit verify --run`. A claim is added to the others and replaces
    none.
    """
    if typed is None and arm is None:
        return plan
    if typed is None or arm is None:
        raise UsageError(
            "dpaudit verify --run",
            "--arm ARM with --claim",
            "--claim alone" if arm is None else "--arm alone",
            f"--arm {plan.suite.grid.arms[-1].name} {claims.EXAMPLE}",
        )
    made = {"arm": arm, **asdict(claims.parse(typed))}
    before = plan.settings("claims")["claims"]
    from dpaudit.stages import declared

    return _asked(
        run_dir, plan, "claims", {"claims": [*before, made]}, partial(declared.require_ready, run_dir)
    )


def _only(record: str, changed: Iterable[str]) -> None:
    """Raises UsageError for a key of another part of the suite."""
    for key in changed:
        if not any(key == own or key.startswith(f"{own}.") for own in RECORDS[record]):
            others = {"evaluation": "dpaudit eval", "judging": "dpaudit judge"}
            way = others.get(key.partition(".")[0])
            raise UsageError(
                f"--set {key}",
                f"a key of {record}, such as {EXAMPLES[record]}",
                "another key",
                f"type `{way} --set {key}=VALUE`"
                if way
                else "what training depends on takes a run of its own: `dpaudit run SUITE --set KEY=VALUE`",
            )


def _check(before: Plan, plan: Plan) -> None:
    """What can be known of new benchmarks and a new rubric before they are asked for."""
    from dpaudit.stages import benchmarks

    asked, known = plan.suite.evaluation, before.suite.evaluation
    new = [task for task in asked.tasks if task not in known.tasks]
    benchmarks.check_tasks(new)
    if asked.fewshot != known.fewshot:  # of all whose items are still there
        new = [task for task in asked.tasks if task in new or not task.data or Path(task.data).is_file()]
    benchmarks.check_items(asked, new)
    if plan.suite.judging is not None and plan.suite.judging != before.suite.judging:
        rubric.load(plan.suite.judging.rubric)


def _with_tasks(plan: Plan, typed: Sequence[str], own: dict[str, Any]) -> list[dict[str, Any]]:
    """The benchmarks of a plan with the tasks typed as NAME or NAME=FILE, which replace those of the same
    name. `own` are settings that were typed beside them: they are of these tasks alone.
    """
    known = {task["name"]: task for task in plan.settings("evaluation")["evaluation"]["tasks"]}
    new = {name: task | own for name, task in typed_tasks(typed).items()}
    return list((known | new).values())


def _one_list(changed: Mapping[str, Any]) -> None:
    """Raises UsageError for a list of tasks beside --task, of which one would be lost without a word."""
    if "evaluation.tasks" in changed:
        raise UsageError("--set evaluation.tasks", "--task or this list", "both", "leave one out")


def outside(tasks: Sequence[str], settings: Sequence[str]) -> Evaluation:
    """What `dpaudit eval` asks a model of others: the benchmarks typed, and settings of `evaluation`."""
    changed = dict(loading.parse_override(setting) for setting in settings)
    egress.allow(*tasks)
    _only("evaluation", changed)
    values = {key.removeprefix("evaluation."): value for key, value in changed.items()}
    if tasks:
        _one_list(changed)
        values["tasks"] = list(typed_tasks(tasks).values())
    return schema.build(Evaluation, values, file="--set evaluation")


def typed_tasks(typed: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Benchmarks typed as NAME or NAME=FILE, by name. Raises UsageError for another form."""
    tasks: dict[str, dict[str, Any]] = {}
    for text in typed:
        name, equals, file = text.partition("=")
        if not name or (equals and not file):
            raise UsageError(
                f"--task {text}",
                "NAME, or NAME=FILE with the file that holds its items",
                "a task without a name or file",
                "for example --task pubmedqa_file=items.jsonl",
            )
        if not equals and (Path(name).suffix.lower() in rows.READERS or Path(name).is_file()):
            raise UsageError(
                f"--task {text}",
                "NAME=FILE",
                "a file without the name of its benchmark",
                f"--task NAME={name}, NAME one of {', '.join(content.listing('suites/tasks'))}",
            )
        tasks[name] = {"name": name, "data": file or None}
    return tasks
