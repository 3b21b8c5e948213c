"""The plan of a suite, with what was typed over it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dpaudit.errors import Gathering, Mistakes, UsageError
from dpaudit.suite import loading, suite
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Suite

VERSIONED = ("dpaudit", "torch", "transformers", "tokenizers", "peft", "dp-accounting", "numpy")


def resolve(name: str, changed: dict[str, Any], seed: int = 0, insecure_seed: int | None = None) -> Plan:
    """The plan of a suite with overrides. Raises UsageError for whatever can be known before a run exists."""
    from dpaudit.signals import recipe

    chosen = _loaded(name, changed)
    clinics = chosen.data.preference == "builtin:clinic" != chosen.data.source  # the pairs of other people
    missing = chosen.data.preference is None and chosen.grid.dpo
    if (clinics or missing) and "data.preference" not in changed:
        chosen = _loaded(name, changed | {"data.preference": "faults"})
    chosen = _named(name, changed, chosen)
    return Plan(chosen, seed, insecure_seed, versions(chosen), recipe.load(chosen.primary).digest)


def renewed(plan: Plan) -> Plan:
    """A run's plan under the versions and the primary recipe that are here now."""
    from dpaudit.signals import recipe

    return replace(plan, versions=versions(plan.suite), primary_digest=recipe.load(plan.suite.primary).digest)


def _loaded(name: str, changed: dict[str, Any]) -> Suite:
    """The suite with what was typed over it; a fault in what was typed is not blamed on the suite's file."""
    try:
        return loading.load(name, changed)
    except UsageError as error:
        faults = Gathering()
        for one in error.errors if isinstance(error, Mistakes) else (error,):
            key = _typed_key(one, changed)
            faults.add(one if key is None else UsageError(key, one.expected, one.got, one.remedy))
        fault = faults.errors[0] if len(faults.errors) == 1 else Mistakes(faults.errors)
        raise fault from None


def _typed_key(error: UsageError, changed: dict[str, Any]) -> str | None:
    """Where a complaint about what was typed is: it names a changed key, a part of its value, or a part of
    the key.
    """
    place = error.where.partition(": ")[2]
    for key in changed:
        if place == key or place.startswith((f"{key}.", f"{key}[")):
            return f"{place} as typed"
        if key.startswith(f"{place}."):
            return f"--set {key}: {place}"
    return None


def _named(name: str, changed: dict[str, Any], chosen: Suite) -> Suite:
    """The suite under a name of its own where its data or model were exchanged: what it says of them no
    longer fits.
    """
    try:
        before = loading.load(name)
    except UsageError:  # not whole without what was typed
        return chosen
    if (before.data.source, before.model.base) == (chosen.data.source, chosen.model.base):
        return chosen
    description = chosen.description if "description" in changed else ""
    languages = chosen.data.languages if "data.languages" in changed else None
    dates = chosen.data.dates if "data.dates" in changed else None
    chosen = replace(chosen, data=replace(chosen.data, languages=languages, dates=dates))
    path = suite.path_or_builtin(chosen.data.source)
    if path is None or "name" in changed or suite.path_or_builtin(before.data.source) is not None:
        return replace(chosen, description=description)
    return replace(chosen, name=name_of(path), description=description)


def name_of(source: Path) -> str:
    """What a run on this data is called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem).strip("._-") or "own-data"


def fetch(typed: dict[str, Any], weights: bool = True) -> None:
    """Gets a typed base that is a hub's, and lets the hub be asked for data that were typed. Other names
    are not looked up.
    """
    from dpaudit.system import egress

    data = (typed.get(key) for key in ("data.source", "data.preference", "data.text"))
    egress.allow(*(name for name in data if isinstance(name, str)))
    base = typed.get("model.base")
    if isinstance(base, str) and "/" in base:
        from dpaudit.models import hub

        hub.fetch(base, "--model", weights)


def allow_items(chosen: Suite, hosts: Sequence[str]) -> None:
    """Lets the hub be asked for the items of a suite's benchmarks where its host was typed."""
    from dpaudit.models import hub
    from dpaudit.system import egress

    if hosts and hub.host() in hosts:
        egress.allow(*(task.name for task in chosen.evaluation.tasks))


def versions(chosen: Suite) -> dict[str, str]:
    """The installed versions that training may depend on; a package that is not installed is left out."""
    from dpaudit.stages.prepare.jobs import is_trls

    by_trl = chosen.grid.dpo and any(is_trls(chosen.training, arm) for arm in chosen.grid.arms)
    beside = [
        *(["trl", "accelerate"] if by_trl else []),
        *(["deepspeed"] if chosen.training.deepspeed else []),
        *(["bitsandbytes"] if chosen.model.quantization else []),
    ]
    installed = {}
    for name in (*VERSIONED, *beside):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
