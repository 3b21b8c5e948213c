"""What `train` and `run` are asked for: options that are other names of the suite's keys, and `--set`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import not_
from typing import Annotated, Any

import typer

from dpaudit.commands import options
from dpaudit.errors import UsageError
from dpaudit.suite import loading
from dpaudit.suite.suite import RANDOM


@dataclass(frozen=True)
class Asked:
    """The options that change the suite; the default of each leaves it as it is."""

    eps: Annotated[
        str | None,
        typer.Option(
            "--eps",
            metavar="1,4,8",
            help="One private adapter (an arm of the run) for each epsilon; a non-private one is added.",
        ),
    ] = None
    dpo: Annotated[
        str | None,
        typer.Option(
            "--dpo", metavar="LOSSES", help="Adapters by DPO too, one for each loss, such as sigmoid,simpo."
        ),
    ] = None
    model: options.Model = None
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="Dialogues: JSONL, JSON, CSV, Parquet, a folder or a hub id."
        ),
    ] = None
    rows: Annotated[
        str | None,
        typer.Option("--rows", metavar="A:B", help="Rows A to B of the data, from 0, without B."),
    ] = None
    text: Annotated[
        str | None, typer.Option("--text", metavar="DATA", help="Plain text for continued pretraining.")
    ] = None
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit", help="Whose presence is hidden: record, patient, pair; label hides preferences."
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Changes a key of the suite; may be given again."),
    ] = None
    no_baseline: Annotated[bool, typer.Option("--no-baseline", help="Leave out the non-private adapter.")] = (
        False
    )
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="STAGES", help="Stages beside DPO: cpt, sft or cpt,sft; none for DPO alone."
        ),
    ] = None
    chain: Annotated[
        bool | None,
        typer.Option(
            "--chain/--no-chain", help="Each stage continues from the one before, or all start at the base."
        ),
    ] = None
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            metavar="K",
            min=1,
            help="Train every adapter K times; from 3 on, a bound speaks of the method.",
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", min=1, help="Steps of every adapter, in place of the suite's."),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="DIR",
            help="An adapter to continue from; what it spent (its ledger, privacy.json) is added up.",
        ),
    ] = None
    assume_public: Annotated[
        bool,
        typer.Option(
            "--assume-public",
            help="Treat a start without a ledger (privacy.json) as public; the page says so.",
        ),
    ] = False
    allow_delta: Annotated[
        bool, typer.Option("--allow-delta", help="Allow a delta of 1 / number of units or above.")
    ] = False
    twin: Annotated[
        bool,
        typer.Option(
            "--twin", help="Also train the non-private adapter once without canaries, to show what they cost."
        ),
    ] = False

    repeat_of: Annotated[
        str | None,
        typer.Option(
            "--repeat-of",
            metavar="NAME",
            help="Train a run again, who is in drawn anew: a second release, tested together with it.",
        ),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """The suite's dotted keys that are changed; those of `--set` come last, so they win."""
        aliased = {
            key: READ.get(name, _as_it_is)(typed)
            for name, key in ALIASES.items()
            if (typed := getattr(self, name)) != getattr(Asked, name)
        }
        return self._implied() | aliased | dict(map(loading.parse_override, self.settings or ()))

    def _implied(self) -> dict[str, Any]:
        """What an option asks for beside the key that it names."""
        changed: dict[str, Any] = {}
        if self.dpo is not None:
            changed["grid.dpo_epsilons"] = None  # as --eps, whatever the suite has for its own
        if self.unit in ("record", "pair", "label"):
            changed["candidates.canary_repetitions"] = 1  # a canary that occurs twice would be two units
        if self.unit == "label":  # only preferences have a label, and no membership is claimed
            changed |= {"grid.stages": [], "attacks": []}
        if self.model is not None and self.model.startswith(RANDOM):
            changed |= {"evaluation.tasks": [], "judging": None, "attacks": []}  # its answers mean nothing
            if self.data is None:
                changed |= dict.fromkeys(("data.source", "data.preference", "data.text"), "builtin:clinic")
        return changed


ALIASES = {  # option -> the key of the suite that it is another name of
    "eps": "grid.epsilons",
    "dpo": "grid.dpo",
    "model": "model.base",
    "data": "data.source",
    "rows": "data.rows",
    "text": "data.text",
    "unit": "training.unit",
    "no_baseline": "grid.baseline",
    "stage": "grid.stages",
    "chain": "grid.chain",
    "seeds": "grid.seeds",
    "steps": "training.steps",
    "start": "model.start",
    "assume_public": "model.assume_public",
    "allow_delta": "training.allow_delta",
    "twin": "grid.twin",
}


def _as_it_is(value: Any) -> Any:
    return value


def epsilons(typed: str) -> list[float]:
    """Largest first. Raises UsageError for one that is there twice."""
    values = loading.parse_epsilons(typed)
    if len(set(values)) < len(values):
        raise UsageError("--eps", "each epsilon once", typed, "for several runs of one arm: --seeds")
    return sorted(values, reverse=True)


def losses(typed: str) -> list[str]:
    """The keys of losses as people write them: cDPO, SimPO and exo-pair are cdpo, simpo and exo_pair."""
    names = (name.strip().casefold().replace("-", "_") for name in typed.split(","))
    return list(dict.fromkeys(name for name in names if name))


def stages(typed: str) -> Sequence[str]:
    """The names in `cpt,sft`; no name in `none`."""
    names = (name.strip() for name in typed.split(","))
    return [name for name in names if name not in ("", "none")]


READ: dict[str, Callable[[Any], Any]] = {  # what is typed -> the value of the key, where they differ
    "eps": epsilons,
    "dpo": losses,
    "stage": stages,
    "no_baseline": not_,
}
