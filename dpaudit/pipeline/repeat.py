"""The plan of a repeat: a finished run's own, with fresh coins. It is a second release, and both are tested
in one family.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.pipeline import plans
from dpaudit.stages import outputs
from dpaudit.stages.integrity import custody, siblings
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.plan import Plan


def plan_of(
    name: str,
    runs: Path,
    suite: str | None,
    changed: dict[str, Any],
    seed: int | None,
    insecure_seed: int | None,
) -> Plan:
    """The plan that repeats the run `name`, which is audited and as it was written, with coins of its own.

    `suite` with what was `changed` is resolved as for any run; None takes over what the run was asked. Raises
    UsageError, before anything is written, where training would be another, or the coins the same.
    """
    from dpaudit.stages.audit import repeats
    from dpaudit.stages.prepare import prepare

    first = run_store.find(name, runs)
    custody.require_run(first)
    known = declarations.plan_of(first)
    outputs.require(first, known)
    _require_coins(first, known, seed, insecure_seed)
    if suite is None:
        typed = {"claims": [], **changed}  # claims name arms, which a change may lack
        asked = plans.renewed(known.with_settings(typed, f"--repeat-of {name} as typed"))
    else:
        asked = plans.resolve(suite, changed, known.seed)
    repeats.page_of(first, known)
    _require_same(first.name, known, asked)
    prepare.check_unchanged(first, known)
    plan = replace(
        _with_claims(asked, known),
        seed=known.seed,
        insecure_seed=insecure_seed,
        repeats=(*known.repeats, repeats.repeated(first)),
    )
    _require_last(first, plan)
    return plan


def _require_last(first: RunDir, plan: Plan) -> None:
    """Raises UsageError where another repeat of this run is there: two would not know each other's verdicts,
    and are no one family.
    """
    own = run_store.located(plan.to_json(), plan.suite.name, first.path.parent).name
    for other in siblings.repeats_of(first, directly=True):
        if other != own:
            raise UsageError(
                f"--repeat-of {first.name}",
                "the last run of its chain",
                f"a run that {other} repeats already",
                f"type --repeat-of {other}; `dpaudit ls` says what goes on with it if it is not finished",
            )


def _require_coins(first: RunDir, known: Plan, seed: int | None, insecure_seed: int | None) -> None:
    """Raises UsageError for another corpus, and for coins that a run of the chain had."""
    if seed not in (None, known.seed):
        raise UsageError(
            "--seed",
            f"{known.seed}, the seed of {first.name}: a repeat has its corpus and canaries, and fresh coins",
            str(seed),
            "leave --seed out",
        )
    chain = [known.insecure_seed]
    for earlier in known.repeats:
        chain.append(
            Plan.from_json(RunDir(first.path.parent / earlier.run).read_json("plan.json")).insecure_seed
        )
    if insecure_seed is not None and insecure_seed in chain:
        raise UsageError(
            "--insecure-seed",
            "another number than that of the run that is repeated: coins must be fresh",
            f"{insecure_seed}, which gives the same coins",
            "leave --insecure-seed out, or type another",
        )


def _with_claims(asked: Plan, known: Plan) -> Plan:
    """With every claim of the run that is repeated: what was asked there is asked here."""
    claims = dict.fromkeys([*known.suite.claims, *asked.suite.claims])
    return replace(asked, suite=replace(asked.suite, claims=tuple(claims)))


def _require_same(first: str, known: Plan, asked: Plan) -> None:
    """Raises UsageError naming the first key on which training depends and which differs."""
    before, now = (_of_training(plan) for plan in (known, asked))
    for key, mine, theirs in _differences(before, now):
        raise UsageError(
            f"--repeat-of {first}: {key}",
            f"{mine!r:.80}, as there: a repeat trains the same plan with fresh coins",
            f"{theirs!r:.80}",
            f"type `dpaudit train --repeat-of {first}` alone, or leave --repeat-of out for a run of its own",
        )


def _of_training(plan: Plan) -> dict[str, Any]:
    """What training and its verdicts depend on, but for seeds, versions and the suite's name."""
    values = replace(plan, seed=0, insecure_seed=None, versions={}, repeats=()).to_json()
    del values["suite"]["name"]
    return values


def _differences(before: Any, now: Any, stem: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            name = f"{stem}.{key}" if stem else key
            yield from _differences(before.get(key), now.get(key), name.removeprefix("suite."))
    elif before != now:
        yield stem, before, now
