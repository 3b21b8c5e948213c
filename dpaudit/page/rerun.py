"""What an engineer needs to do a run again: settings that differ between adapters, commands, and loading."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from markupsafe import Markup

from dpaudit.findings.report import Adapter, Stepped
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, say
from dpaudit.page.phrases import ABSENT

SETTINGS = {
    "batch": ("units in a step, expected", "count"),
    "steps": ("steps", "count"),
    "learning_rate": ("learning rate", "number"),
    "warmup": ("warm-up, share of steps", "number"),
    "decay": ("decay", "text"),
    "weight_decay": ("weight decay", "number"),
    "optimizer": ("optimizer", "text"),
    "momentum": ("momentum", "number"),
}


@dataclass(frozen=True)
class Rerun:
    arms: tuple[str, ...]
    differing: tuple[tuple[str, tuple[Markup, ...]], ...]  # a setting, and its value on each adapter
    shared: Markup | None  # the settings that all adapters have
    commands: tuple[str, ...]
    loading: str | None  # for a private adapter; None without one


def rerun(joins: Joins) -> Rerun:
    names = [field.name for field in fields(Stepped)]
    known = [(at, arm.schedule) for at, arm in joins.arms if arm.schedule]
    differing = [name for name in names if len({getattr(of, name) for _, of in known}) > 1]
    shared = [name for name in names if known and name not in differing]
    return Rerun(
        arms=tuple(joins.arm_names),
        differing=tuple((SETTINGS[name][0], tuple(_values(joins, name))) for name in differing),
        shared=_shared(joins, shared, known[0][0]) if shared else None,
        commands=tuple(_commands(joins)),
        loading=_loading(joins),
    )


def _values(joins: Joins, name: str) -> Iterator[Markup]:
    for arm in joins.arms:
        yield _value(joins, arm, name)


def _value(joins: Joins, arm: Placed[Adapter], name: str) -> Markup:
    return ABSENT if arm.part.schedule is None else joins.num(f"{arm.at}/schedule/{name}", SETTINGS[name][1])


def _shared(joins: Joins, names: list[str], at: str) -> Markup:
    values = [
        say(
            "{name} {value}",
            name=SETTINGS[name][0],
            value=joins.num(f"{at}/schedule/{name}", SETTINGS[name][1]),
        )
        for name in names
    ]
    return say("The same for all adapters: {values}.", values=Markup("; ").join(values))


def _commands(joins: Joins) -> Iterator[str]:
    """Typed one after another they do what is not done yet, and nothing twice."""
    stages, name = joins.report.stages, joins.report.run.name
    for stage in (stages.train, stages.audit, stages.extraction, stages.quality, stages.judge):
        if stage.state not in ("not planned", "not applicable"):
            yield stage.command
    yield f"dpaudit report html --run {name}"


def _loading(joins: Joins) -> str | None:
    if not joins.private:
        return None
    run = joins.report.run
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'folder = "runs/{run.name}/train/{joins.private[-1].arm}/adapter"\n'
        f'base = AutoModelForCausalLM.from_pretrained("{run.model}")  # builtin: its folder in the package\n'
        "model = PeftModel.from_pretrained(base, folder)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
    )
