"""The command that begins a plan, or continues its run."""

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpaudit import content
from dpaudit.commands.asked import ALIASES
from dpaudit.errors import UsageError
from dpaudit.pipeline import plans, repeat
from dpaudit.storage import run_store
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan

SPELLED = {ALIASES[name]: f"--{name}" for name in ("data", "model")}  # key -> the option to type for it


def command_of(plan: Plan, runs: Path = run_store.RUNS) -> str | None:
    """What begins this very plan, or continues it: `dpaudit train` on the suite that it differs least from.

    None where no present suite gives this plan, as with another version of a package. The command was
    tried.
    """
    if plan.repeats:
        return _spelled_repeat(plan, runs)
    for name, words in sorted(_ways(plan).items(), key=lambda way: len(way[1])):
        for typed in (_nameless(words), words):
            changed = dict(loading.parse_override(word) for word in typed)
            try:
                if plans.resolve(name, changed, plan.seed, plan.insecure_seed) == plan:
                    return _spelled(name, typed, plan, runs)
            except UsageError:  # a suite of another kind of training
                continue
    return None


def _ways(plan: Plan) -> dict[str, list[str]]:
    """Suite -> the settings, KEY=VALUE, in which the plan's differ from it."""
    ways: dict[str, list[str]] = {}
    own = f"{plan.suite.name}.yaml"  # of people who keep it where they work
    for name in (*content.listing("suites"), *([own] if Path(own).is_file() else [])):
        with suppress(UsageError):  # one that is not whole
            ways[name] = list(_differences(asdict(loading.load(name)), asdict(plan.suite)))
    return ways


def _differences(before: dict[str, Any], after: dict[str, Any], stem: str = "") -> Iterator[str]:
    for key, value in after.items():
        inner = before.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            yield from _differences(inner, value, f"{stem}{key}.")
        elif value != inner:
            yield f"{stem}{key}={value if isinstance(value, str) else json.dumps(value)}"


def _nameless(words: Sequence[str]) -> list[str]:
    """Without what follows from the data by itself."""
    return [word for word in words if not word.startswith(("name=", "description="))]


def _spelled(name: str, settings: Sequence[str], plan: Plan, runs: Path) -> str:
    words = ["dpaudit", "train", "--suite", name]
    for setting in settings:
        key, _, value = setting.partition("=")
        words += [SPELLED[key], value] if key in SPELLED else ["--set", setting]
    words += ["--seed", str(plan.seed)] if plan.seed else []
    return _ended(words, plan, runs)


def _spelled_repeat(plan: Plan, runs: Path) -> str | None:
    name = plan.repeats[-1].run
    try:
        if repeat.plan_of(name, runs, None, {}, None, plan.insecure_seed) != plan:
            return None
    except UsageError:  # what it repeats is gone, or has changed
        return None
    return _ended(["dpaudit", "train", "--repeat-of", name], plan, runs)


def _ended(words: Sequence[str], plan: Plan, runs: Path) -> str:
    insecure = [] if plan.insecure_seed is None else ["--insecure-seed", str(plan.insecure_seed)]
    return shlex.join([*words, *insecure, *([] if runs == run_store.RUNS else ["--runs", str(runs)])])
